//! Causal contexts as opaque strings for clients.
//!
//! A client that hands back a token says "I acted on this"; the store then drops
//! what the token covers. A forged token could claim events that have not
//! happened yet, and those, when they happen, would be dropped by every replica
//! that heard the claim first: writes of *other* clients would vanish. Bounds
//! and checksums do not help there. A checksum finds damage and truncation, but
//! anyone can compute it; so tokens carry a message authentication code (MAC)
//! under a key that only the cluster knows, over the context and the *scope*
//! (the object's full key), so that a token for one object does not open another.
//!
//! What the MAC does not give: secrecy (replica ids and event counts are
//! readable) and freshness (an old token may be used again; it covers less, so
//! the write becomes a sibling).
//!
//! The MAC is an argument, because keys and certified cryptography belong to the
//! edge. HMAC-SHA-256 truncated to 16 bytes (RFC 2104, §5) is a good one:
//!
//! ```
//! use hmac::{Hmac, KeyInit, Mac};
//! use thalweg_causal::{CausalContext, Dot, ReplicaId, TokenError, token};
//!
//! let cluster_key = [7; 32]; // from the configuration, the same on every node
//! let mac = |message: &[u8]| {
//!     let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&cluster_key).expect("any length");
//!     mac.update(message);
//!     *mac.finalize().into_bytes().first_chunk().expect("SHA-256 has 32 bytes")
//! };
//!
//! let seen: CausalContext = [Dot { replica: ReplicaId(1), counter: 1 }].into_iter().collect();
//! let token = token::seal(&seen, b"carts/ann", mac)?;
//! assert_eq!(token::open(&token, b"carts/ann", mac)?, seen);
//! assert_eq!(token::open(&token, b"carts/bob", mac), Err(TokenError::Forged));
//! # Ok::<(), TokenError>(())
//! ```

use alloc::{string::String, vec::Vec};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    context::CausalContext,
    crdt::Crdt,
    wire::{DecodeError, put_varint},
};

/// Bytes of MAC in a token: forging takes 2¹²⁸ guesses against a live cluster.
pub const MAC_BYTES: usize = 16;

/// The longest token made or accepted, in characters: what common proxies pass
/// on in a header line.
pub const MAX_TOKEN_CHARS: usize = 4096;

/// Separates this use of the key from any other.
const DOMAIN: &[u8] = b"thalweg causal context v1\0";

/// Why a token cannot be made or is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The context is too large, or the string is not a token at all.
    #[error(
        "expected a causal context of at most {MAX_TOKEN_CHARS} characters, found {chars}: retire \
         departed replicas"
    )]
    TooLong {
        /// Its length.
        chars: usize,
    },
    /// The string is not base64 or too short for a MAC.
    #[error(
        "expected a causal context as handed out by a read, found {chars} characters that are not \
         one: pass it back unchanged"
    )]
    NotAToken {
        /// Its length.
        chars: usize,
    },
    /// The MAC does not match.
    #[error(
        "expected a causal context made for this object by this cluster, found one that was \
         altered, made for another object, or under another cluster key: read the object again \
         and use the context of that read"
    )]
    Forged,
    /// The MAC matches but the content does not parse: written by another version.
    #[error(transparent)]
    Content(#[from] DecodeError),
}

/// The token for `context` of the object named by `scope`, in base64 for URLs and
/// headers (RFC 4648, §5). O(bytes).
///
/// `mac` is a keyed MAC of the message it is given.
///
/// # Errors
/// [`TokenError::TooLong`] for contexts of some hundred replicas or gaps.
pub fn seal(
    context: &CausalContext,
    scope: &[u8],
    mac: impl FnOnce(&[u8]) -> [u8; MAC_BYTES],
) -> Result<String, TokenError> {
    let mut bytes = context.to_bytes();
    let code = mac(&message(&bytes, scope));
    bytes.extend_from_slice(&code);
    let token = URL_SAFE_NO_PAD.encode(bytes);
    match token.len() {
        chars if chars > MAX_TOKEN_CHARS => Err(TokenError::TooLong { chars }),
        _ => Ok(token),
    }
}

/// The context in a token that [`seal`] made with the same `scope` and `mac`.
/// O(characters); memory is bounded by [`MAX_TOKEN_CHARS`].
///
/// # Errors
/// [`TokenError`]; nothing of the content is looked at before the MAC matches.
pub fn open(
    token: &str,
    scope: &[u8],
    mac: impl FnOnce(&[u8]) -> [u8; MAC_BYTES],
) -> Result<CausalContext, TokenError> {
    let chars = token.len();
    if chars > MAX_TOKEN_CHARS {
        return Err(TokenError::TooLong { chars });
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::NotAToken { chars })?;
    let (content, code) =
        bytes.split_last_chunk::<MAC_BYTES>().ok_or(TokenError::NotAToken { chars })?;
    if !equal_in_constant_time(&mac(&message(content, scope)), code) {
        return Err(TokenError::Forged);
    }
    Ok(CausalContext::from_bytes(content)?)
}

/// What the MAC covers; the length keeps scope and content apart.
fn message(content: &[u8], scope: &[u8]) -> Vec<u8> {
    let mut message = DOMAIN.to_vec();
    put_varint(&mut message, scope.len() as u64);
    message.extend_from_slice(scope);
    message.extend_from_slice(content);
    message
}

/// Does not tell by its duration how many bytes were right.
fn equal_in_constant_time(left: &[u8; MAC_BYTES], right: &[u8; MAC_BYTES]) -> bool {
    let difference = left.iter().zip(right).fold(0, |bits, (l, r)| bits | (l ^ r));
    core::hint::black_box(difference) == 0
}

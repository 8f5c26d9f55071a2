//! The Argon2 hash a token file keeps of a secret.

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};

/// Memory that computing a hash takes, KiB; with the passes below, what OWASP's Password Storage
/// Cheat Sheet recommends at least. Secrets are random, so more would only cost the server.
pub(crate) const MEMORY_KIB: u32 = 19 << 10;
const PASSES: u32 = 2;
const LANES: u32 = 1;

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are valid");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// The hash of `secret` with a random salt, in the PHC string format.
///
/// # Errors
/// The system gives no randomness.
pub(crate) fn hash(secret: &str) -> Result<String, argon2::password_hash::Error> {
    Ok(argon2().hash_password(secret.as_bytes())?.to_string())
}

/// Whether `hash` is of `secret`. Takes tens of milliseconds and [`MEMORY_KIB`].
pub(crate) fn verify(secret: &str, hash: &PasswordHash) -> bool {
    argon2().verify_password(secret.as_bytes(), hash).is_ok()
}

//! Bodies: received within limits, and decompressed within limits.

use std::{io::Read, sync::Arc, time::Duration};

use axum::body::{Body, HttpBody as _};
use bytes::{Buf, Bytes};
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderValue;
use http_body_util::BodyExt as _;
use metrics::counter;
use tokio::sync::Semaphore;

use crate::{
    admission::{Admission, Permit, SMALL_BODY_BYTES},
    error::IngestError,
    meters,
    sender::Sender,
};

/// Decompressed at a time, so that limits are checked before much memory is used.
const INFLATE_STEP_BYTES: usize = 64 << 10;

/// What comes of a body beyond this pauses after so many bytes, for so long: it comes as fast as the
/// network goes, and others are to get a processor meanwhile.
const LONG_BODY_BYTES: usize = 2 << 20;
const PAUSE_EVERY_BYTES: usize = 128 << 10;
const PAUSE: Duration = Duration::from_millis(1);

/// Bodies that do not decompress to more are no burden, whatever their ratio.
const SOON_INFLATED_BYTES: usize = 1 << 20;

/// Most that a Snappy block can grow: its longest copy, of 64 bytes, takes 3.
const SNAPPY_RATIO_MAX: usize = 64 / 3 + 1;

/// Largest zstd window, as its logarithm: 8 MiB, what RFC 9659 allows senders to use over HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How long and how slow a body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub(crate) wire_bytes: usize,
    pub(crate) decompressed_bytes: usize,
    /// How many times its size on the wire that may be, if it is more than [`SOON_INFLATED_BYTES`].
    pub(crate) inflate_ratio: usize,
    pub(crate) timeout: Duration,
}

/// Content coding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
    Deflate,
    /// Snappy's block format: what Loki's senders write, and name nowhere.
    Snappy,
}

impl Encoding {
    /// What [`Encoding::of`] understands, for answers to senders.
    pub(crate) const KNOWN: &str = "identity,gzip,zstd,deflate";

    /// The coding a `Content-Encoding` or `grpc-encoding` header names.
    ///
    /// # Errors
    /// [`IngestError::Unsupported`] for any other, or several.
    pub(crate) fn of(header: Option<&HeaderValue>) -> Result<Self, IngestError> {
        let Some(header) = header else { return Ok(Self::Identity) };
        let name = header.to_str().unwrap_or_default().trim().to_ascii_lowercase();
        Ok(match name.as_str() {
            "" | "identity" => Self::Identity,
            "gzip" | "x-gzip" => Self::Gzip,
            "zstd" => Self::Zstd,
            "deflate" => Self::Deflate,
            _ => {
                let known = Self::KNOWN;
                return Err(IngestError::Unsupported(format!(
                    "content encoding: expected one of {known}, found {header:?}"
                )));
            }
        })
    }
}

/// A body in memory, as it came over the wire.
pub(crate) struct Payload {
    pub(crate) encoding: Encoding,
    pub(crate) bytes: Bytes,
    pub(crate) permit: Permit,
}

/// Receives the `body` that `sender` sends, having its bytes admitted as they arrive.
///
/// # Errors
/// [`IngestError::TooLarge`], [`IngestError::TooSlow`], [`IngestError::Overloaded`];
/// [`IngestError::Unreadable`] when the connection breaks.
pub(crate) async fn receive(
    body: &mut Body,
    encoding: Encoding,
    admission: &Arc<Admission>,
    sender: &Sender,
    limits: BodyLimits,
) -> Result<Payload, IngestError> {
    let received =
        tokio::time::timeout(limits.timeout, collect(body, admission, sender, limits.wire_bytes));
    let (bytes, permit) = received.await.map_err(|_| IngestError::TooSlow(limits.timeout))??;
    Ok(Payload { encoding, bytes, permit })
}

/// Reads and drops what a refused sender is still sending, within the limits of a body: it comes
/// to read the answer then, and may go on using the connection.
pub(crate) async fn discard(mut body: Body, limits: BodyLimits) {
    let discarded = async {
        let mut bytes = 0;
        while bytes <= limits.wire_bytes
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whether the sender made it in time, its answer is the same.
    let _ = tokio::time::timeout(limits.timeout, discarded).await;
}

async fn collect(
    body: &mut Body,
    admission: &Arc<Admission>,
    sender: &Sender,
    limit: usize,
) -> Result<(Bytes, Permit), IngestError> {
    let too_large = || IngestError::TooLarge { limit, stage: "on the wire" };
    let declared = body.size_hint();
    let mut permit = admission.enter(sender, declared.exact())?;
    if declared.lower() > limit as u64 {
        return Err(too_large());
    }
    let declared = declared.exact().map_or(limit, |bytes| bytes as usize);
    // A body that comes in one piece is not copied.
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    let mut pause_at = LONG_BODY_BYTES;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            IngestError::Unreadable(format!("expected the rest of the body, found: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        permit.take(data.len())?;
        let length = first.len() + rest.len() + data.len();
        if length > limit {
            return Err(too_large());
        }
        counter!(meters::BYTES, "stage" => "wire").increment(data.len() as u64);
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.capacity() < length {
            // Doubles, but never beyond what was announced, and never on its word alone.
            let capacity = (2 * length).max(SMALL_BODY_BYTES).min(declared).max(length);
            rest.reserve_exact(capacity - rest.len());
        }
        rest.extend_from_slice(&std::mem::take(&mut first));
        rest.extend_from_slice(&data);
        if length > SMALL_BODY_BYTES {
            let_others_go_first();
        }
        if length >= pause_at {
            pause_at = length + PAUSE_EVERY_BYTES;
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok((if rest.is_empty() { first } else { rest.into() }, permit))
}

impl Payload {
    /// Begins to decompress the body.
    ///
    /// # Errors
    /// [`IngestError::Unreadable`] when the stream cannot even begin.
    pub(crate) fn inflate(self, limits: BodyLimits) -> Result<Inflating, IngestError> {
        let Self { encoding, bytes, permit } = self;
        let limit_bytes = limits.decompressed_bytes;
        let grown = bytes.len().saturating_mul(limits.inflate_ratio).max(SOON_INFLATED_BYTES);
        let ratio = (grown < limit_bytes).then_some(limits.inflate_ratio);
        let limit_bytes = limit_bytes.min(grown);
        let packed: Box<dyn Read + Send> = match encoding {
            Encoding::Snappy => {
                let length = snappy_length(&bytes, limit_bytes)?;
                let packed = Some(Packed::Snappy(bytes, length));
                let plain = Plain::Inflated(Vec::new());
                return Ok(Inflating { packed, plain, permit, limit_bytes, ratio });
            }
            Encoding::Identity => {
                let plain = Plain::Received(bytes);
                return Ok(Inflating { packed: None, plain, permit, limit_bytes, ratio });
            }
            Encoding::Gzip => Box::new(MultiGzDecoder::new(bytes.reader())),
            Encoding::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(bytes.reader()).map_err(broken)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
                Box::new(decoder)
            }
            Encoding::Deflate if has_zlib_header(&bytes) => {
                Box::new(ZlibDecoder::new(bytes.reader()))
            }
            Encoding::Deflate => Box::new(DeflateDecoder::new(bytes.reader())),
        };
        let plain = Plain::Inflated(Vec::new());
        let packed = Some(Packed::Stream(packed));
        Ok(Inflating { packed, plain, permit, limit_bytes, ratio })
    }
}

/// Gives the processor to threads that wait for it, with less to do perhaps than is done for a long body.
fn let_others_go_first() {
    std::thread::yield_now();
}

fn broken(error: std::io::Error) -> IngestError {
    IngestError::Unreadable(format!("body cannot be decompressed: {error}"))
}

/// `deflate` is to be in a zlib wrapping (RFC 9110 §8.4.1.2); some senders leave it out.
fn has_zlib_header(bytes: &[u8]) -> bool {
    // RFC 1950 §2.2: method 8, and the first two bytes are a multiple of 31.
    matches!(bytes, [cmf, flg, ..]
        if cmf & 0x0f == 8 && u16::from_be_bytes([*cmf, *flg]).is_multiple_of(31))
}

/// A body being decompressed, step by step, so that a long one can move to another thread.
pub(crate) struct Inflating {
    packed: Option<Packed>,
    plain: Plain,
    permit: Permit,
    limit_bytes: usize,
    /// The ratio to the bytes on the wire that makes up the limit, if it is that.
    ratio: Option<usize>,
}

/// What is left to decompress.
enum Packed {
    Stream(Box<dyn Read + Send>),
    /// A block, and the length it will have.
    Snappy(Bytes, usize),
}

/// The decompressed length of a Snappy block, which it begins with: checked before that much is
/// allocated.
fn snappy_length(block: &[u8], limit_bytes: usize) -> Result<usize, IngestError> {
    let length = snap::raw::decompress_len(block).map_err(|error| broken(error.into()))?;
    if length > limit_bytes {
        return Err(IngestError::TooLarge { limit: limit_bytes, stage: "when decompressed" });
    }
    if length > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        let found = format!("{} bytes that claim to be {length}", block.len());
        return Err(broken(std::io::Error::other(found)));
    }
    Ok(length)
}

/// Bytes of a body without its encoding.
pub(crate) enum Plain {
    Received(Bytes),
    Inflated(Vec<u8>),
}

impl std::ops::Deref for Plain {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Received(bytes) => bytes,
            Self::Inflated(bytes) => bytes,
        }
    }
}

impl Inflating {
    /// Goes on until the body is whole, or has more than `pause_bytes`; says whether it is whole
    /// and no longer than that.
    ///
    /// # Errors
    /// [`IngestError::Unreadable`] when the stream is broken or cut short,
    /// [`IngestError::TooLarge`], [`IngestError::Bomb`], [`IngestError::Overloaded`].
    pub(crate) fn advance(&mut self, pause_bytes: usize) -> Result<bool, IngestError> {
        while self.plain.len() <= pause_bytes {
            let (Some(packed), Plain::Inflated(plain)) = (&mut self.packed, &mut self.plain) else {
                return Ok(true);
            };
            let packed = match packed {
                Packed::Stream(packed) => packed,
                Packed::Snappy(_, length) if *length > pause_bytes => return Ok(false),
                Packed::Snappy(block, length) => {
                    self.permit.take(*length)?;
                    let inflated = snap::raw::Decoder::new().decompress_vec(block);
                    *plain = inflated.map_err(|error| broken(error.into()))?;
                    self.packed = None;
                    continue;
                }
            };
            if plain.capacity() - plain.len() < INFLATE_STEP_BYTES {
                // Doubles, but not beyond the limit: a bomb is to cost no more than an honest body.
                let needed = plain.len() + INFLATE_STEP_BYTES;
                let most = self.limit_bytes.saturating_add(INFLATE_STEP_BYTES);
                let capacity = (2 * needed).min(most).max(needed);
                plain.reserve_exact(capacity - plain.len());
            }
            let step = packed.take(INFLATE_STEP_BYTES as u64).read_to_end(plain).map_err(broken)?;
            self.permit.take(step)?;
            if plain.len() > self.limit_bytes {
                let (limit, stage) = (self.limit_bytes, "when decompressed");
                return Err(match self.ratio {
                    Some(ratio) => IngestError::Bomb { ratio },
                    None => IngestError::TooLarge { limit, stage },
                });
            }
            if step < INFLATE_STEP_BYTES {
                self.packed = None;
            } else {
                let_others_go_first();
            }
        }
        Ok(false)
    }

    /// The sender's turns to have a large body decoded.
    pub(crate) fn turns(&self) -> Arc<Semaphore> {
        self.permit.turns()
    }

    /// The whole body, and the permit for the bytes of it.
    pub(crate) fn finish(self) -> (Plain, Permit) {
        counter!(meters::BYTES, "stage" => "decoded").increment(self.plain.len() as u64);
        (self.plain, self.permit)
    }
}

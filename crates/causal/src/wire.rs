//! Bytes: varints, bounded reading, and what may be wrong with an input.
//!
//! Encodings are canonical: equal values have equal bytes and every accepted
//! input is the encoding of the value it decodes to, so bytes may be hashed
//! (Merkle trees) and compared. Varints are LEB128 without superfluous bytes.
//! Decoding never panics, takes time linear in the input (times a logarithm
//! where a value must be found again), and takes memory of at most a constant
//! multiple of the input's length: bound the input and both are bounded.

use alloc::{string::String, vec::Vec};

/// The format version in the first byte of every object.
pub const FORMAT_VERSION: u8 = 1;

/// The largest event number or count that is encoded or accepted: 2⁶² − 1.
///
/// A replica that makes a billion events a second gets there in 146 years. The
/// bound keeps arithmetic on decoded counters far from overflow.
pub const MAX_COUNTER: u64 = (1 << 62) - 1;

/// What is wrong with bytes that were to be decoded. Positions are byte offsets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("expected {expected} at byte {at}, found the end of the input: it was cut short")]
    Truncated {
        /// What should have followed.
        expected: &'static str,
        /// Where.
        at: usize,
    },
    /// The input was written by an incompatible version of this crate.
    #[error(
        "expected format version {FORMAT_VERSION}, found {found}: read it with the version that \
         wrote it"
    )]
    Version {
        /// The version it claims.
        found: u8,
    },
    /// The input is another kind of object.
    #[error("expected an object of kind {expected}, found kind {found}: decode it as what it is")]
    Kind {
        /// [`Crdt::KIND`](crate::Crdt::KIND) of the type asked for.
        expected: u8,
        /// The kind in the input.
        found: u8,
    },
    /// A value breaks a rule of the format.
    #[error("expected {expected} before byte {at}, found another value: the input is damaged")]
    Invalid {
        /// The rule.
        expected: &'static str,
        /// Where the value ended.
        at: usize,
    },
    /// Bytes follow the value.
    #[error("expected the end of the input at byte {at}, found {extra} more bytes")]
    Trailing {
        /// Where the value ended.
        at: usize,
        /// How many bytes are left.
        extra: usize,
    },
}

/// A value with a canonical encoding, as bodies of objects and as their elements.
///
/// Implementations for your own types must write at least one byte, write equal
/// bytes for equal values, and accept only what they write.
pub trait Wire: Sized {
    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads one value.
    ///
    /// # Errors
    /// [`DecodeError`] when the input is not what [`Wire::encode`] writes.
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// Reads bytes that may be hostile.
#[derive(Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    fn remaining(&self) -> usize {
        self.input.len() - self.at
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end.
    pub fn byte(&mut self, expected: &'static str) -> Result<u8, DecodeError> {
        self.bytes(1, expected).map(|bytes| bytes[0])
    }

    /// The next `len` bytes, borrowed.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when fewer are left.
    pub fn bytes(&mut self, len: usize, expected: &'static str) -> Result<&'a [u8], DecodeError> {
        let bytes = self
            .input
            .get(self.at..)
            .and_then(|rest| rest.get(..len))
            .ok_or(DecodeError::Truncated { expected, at: self.at })?;
        self.at += len;
        Ok(bytes)
    }

    /// An unsigned number.
    ///
    /// # Errors
    /// [`DecodeError`] at the end, beyond 64 bits, or with superfluous bytes.
    pub fn varint(&mut self, expected: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(expected)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 {
                    Err(self.invalid("a varint without superfluous bytes"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(self.invalid("a varint of at most 64 bits"))
    }

    /// An event number or count, 0 to [`MAX_COUNTER`].
    ///
    /// # Errors
    /// As [`Reader::varint`], and [`DecodeError::Invalid`] above the bound.
    pub fn counter(&mut self, expected: &'static str) -> Result<u64, DecodeError> {
        let counter = self.varint(expected)?;
        if counter > MAX_COUNTER {
            return Err(self.invalid("a counter below 2^62"));
        }
        Ok(counter)
    }

    /// A number of values that follow, each at least `min_bytes` long.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when the rest of the input cannot hold so many,
    /// so that a few bytes cannot ask for gigabytes.
    pub fn count(&mut self, min_bytes: usize, of: &'static str) -> Result<usize, DecodeError> {
        let count = self.varint(of)?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.remaining() / min_bytes.max(1))
            .ok_or(DecodeError::Truncated { expected: of, at: self.at })
    }

    /// Checks that everything was read.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] otherwise.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { at: self.at, extra }),
        }
    }

    /// The error for a value that was just read and breaks a rule.
    pub fn invalid(&self, expected: &'static str) -> DecodeError {
        DecodeError::Invalid { expected, at: self.at }
    }
}

/// Appends an unsigned number, 1 to 10 bytes.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Wire for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, *self);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.varint("a number")
    }
}

impl Wire for i64 {
    /// Zigzag: small magnitudes of either sign are short.
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, ((self << 1) ^ (self >> 63)) as u64);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let zigzag = input.varint("a number")?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }
}

impl Wire for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte("true or false")? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(input.invalid("a boolean of 0 or 1")),
        }
    }
}

impl Wire for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.len() as u64);
        out.extend_from_slice(self);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = input.count(1, "bytes")?;
        input.bytes(len, "bytes").map(<[u8]>::to_vec)
    }
}

impl Wire for String {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.len() as u64);
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_utf8(Vec::decode(input)?).map_err(|_| input.invalid("text in UTF-8"))
    }
}

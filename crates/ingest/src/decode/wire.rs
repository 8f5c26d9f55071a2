//! The protobuf wire format: fields of a message, one after the other.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use thalweg_event::Fault;

/// The fields of the message `bytes` with their numbers; groups, which no format here has,
/// are skipped.
pub(super) fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { rest: bytes }
}

pub(super) struct Fields<'b> {
    rest: &'b [u8],
}

/// One field on the wire.
pub(super) struct Field<'b> {
    number: u32,
    value: Value<'b>,
}

enum Value<'b> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    Bytes(&'b [u8]),
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u32, Field<'b>), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.read() {
                Ok(Some(field)) => return Some(Ok((field.number, field))),
                Ok(None) => {}
                Err(fault) => return Some(Err(fault)),
            }
        }
        None
    }
}

impl<'b> Fields<'b> {
    fn read(&mut self) -> Result<Option<Field<'b>>, Fault> {
        let broken = |error: prost::DecodeError| Fault(format!("protobuf: {error}"));
        let (number, wire_type) = decode_key(&mut self.rest).map_err(broken)?;
        let value = match wire_type {
            WireType::Varint => Value::Varint(decode_varint(&mut self.rest).map_err(broken)?),
            WireType::ThirtyTwoBit => Value::Fixed32(u32::from_le_bytes(self.chunk(number)?)),
            WireType::SixtyFourBit => Value::Fixed64(u64::from_le_bytes(self.chunk(number)?)),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut self.rest).map_err(broken)?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let split = self.rest.split_at_checked(length).ok_or_else(|| truncated(number))?;
                self.rest = split.1;
                Value::Bytes(split.0)
            }
            WireType::StartGroup | WireType::EndGroup => {
                let context = DecodeContext::default();
                skip_field(wire_type, number, &mut self.rest, context).map_err(broken)?;
                return Ok(None);
            }
        };
        Ok(Some(Field { number, value }))
    }

    fn chunk<const N: usize>(&mut self, number: u32) -> Result<[u8; N], Fault> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or_else(|| truncated(number))?;
        self.rest = rest;
        Ok(*chunk)
    }
}

fn truncated(number: u32) -> Fault {
    Fault(format!("protobuf: field {number} is cut off by the end of its message"))
}

impl<'b> Field<'b> {
    pub(super) fn varint(self) -> Result<u64, Fault> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(self.expected("a varint")),
        }
    }

    pub(super) fn fixed32(self) -> Result<u32, Fault> {
        match self.value {
            Value::Fixed32(value) => Ok(value),
            _ => Err(self.expected("32 bits")),
        }
    }

    pub(super) fn fixed64(self) -> Result<u64, Fault> {
        match self.value {
            Value::Fixed64(value) => Ok(value),
            _ => Err(self.expected("64 bits")),
        }
    }

    pub(super) fn bytes(self) -> Result<&'b [u8], Fault> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.expected("bytes")),
        }
    }

    pub(super) fn text(self) -> Result<&'b str, Fault> {
        let number = self.number;
        std::str::from_utf8(self.bytes()?).map_err(|error| {
            let at = error.valid_up_to();
            Fault(format!("protobuf: field {number}: expected UTF-8, found another byte at {at}"))
        })
    }

    fn expected(&self, expected: &str) -> Fault {
        let found = match self.value {
            Value::Varint(_) => "a varint",
            Value::Fixed32(_) => "32 bits",
            Value::Fixed64(_) => "64 bits",
            Value::Bytes(_) => "bytes",
        };
        Fault(format!("protobuf: field {}: expected {expected}, found {found}", self.number))
    }
}

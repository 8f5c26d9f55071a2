//! Messages as they were received, each with its sender's address, in one piece of memory.

use std::net::{IpAddr, Ipv6Addr};

use super::{Clock, read};
use crate::decode::{Sink, Unreadable};

/// An address, IPv4 as mapped into IPv6, and the length of the message in four bytes.
const HEADER_BYTES: usize = 16 + 4;

/// Appends a message that came from `sender`.
pub(crate) fn push(body: &mut Vec<u8>, sender: IpAddr, message: &[u8]) {
    let sender = match sender {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let length = u32::try_from(message.len()).expect("messages are shorter than 4 GiB");
    body.extend_from_slice(&sender.octets());
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(message);
}

/// The first message of `body`, its sender, and the rest.
fn split(body: &[u8]) -> Option<(IpAddr, &[u8], &[u8])> {
    let (header, rest) = body.split_first_chunk::<HEADER_BYTES>()?;
    let (sender, length) = header.split_first_chunk::<16>()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let (message, rest) = rest.split_at_checked(length as usize)?;
    Some((IpAddr::V6(Ipv6Addr::from(*sender)).to_canonical(), message, rest))
}

/// Reads what [`push`] wrote. The sender is the client, and the host of messages that name none
/// (RFC 3164 §4.3.2).
pub(in crate::decode) fn decode(
    mut body: &[u8],
    offset_secs: i32,
    sink: &mut Sink<'_>,
) -> Result<(), Unreadable> {
    let clock = Clock { received_unix_nanos: sink.received_unix_nanos(), offset_secs };
    // Neighbours are often of one sender.
    let (mut last, mut text) = (None, String::new());
    while !body.is_empty() {
        let (sender, message, rest) = split(body).ok_or_else(|| {
            Unreadable("body: expected messages, each with its sender and length".to_owned())
        })?;
        body = rest;
        if last != Some(sender) {
            (last, text) = (Some(sender), sender.to_string());
        }
        sink.record(message, |row| {
            row.client_ip(&text);
            row.host(&text);
            read(message, clock, row)
        });
    }
    Ok(())
}

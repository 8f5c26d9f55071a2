//! The first line of an HTTP request, as access logs quote it.

use thalweg_event::{AttributeValue, Row};

/// Reads `GET /cart?id=7 HTTP/1.1` into method, path, query and protocol version; `false`, with
/// nothing written, when `line` is no request line (RFC 9112 §3).
pub(super) fn read_line(line: &str, row: &mut Row<'_, '_>) -> bool {
    let parts = line.split_once(' ').and_then(|(method, rest)| {
        let (target, protocol) = rest.rsplit_once(' ')?;
        Some((method, target, protocol.strip_prefix("HTTP/")?))
    });
    let Some((method, target, version)) = parts else { return false };
    let is_version = version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_token(method) || target.is_empty() || version.is_empty() || !is_version {
        return false;
    }
    row.http_method(method);
    row.http_target(target);
    row.attribute("network.protocol.version", AttributeValue::Text(version));
    true
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A status as access logs write it: three digits.
pub(super) fn parse_status(text: &str) -> Option<i16> {
    let is_status = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_status.then(|| text.parse().ok()).flatten()
}

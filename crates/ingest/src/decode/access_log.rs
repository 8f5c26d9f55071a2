//! Access logs of web servers: Common and Combined Log Format.
//!
//! ```text
//! client ident user [time] "request" status bytes                                clf
//! client ident user [time] "request" status bytes "referer" "agent"              combined
//! client ident user [time] "request" status bytes "referer" "agent" duration     combined-time
//! ```
//!
//! `-` stands for an absent value. The message is the request line, what a person looks for;
//! everything else has a column or an attribute. A request that is no request line (a TLS
//! handshake on a plain port, say) is kept as message alone: servers log it with its status.
//! A duration with a decimal point is in seconds (nginx `$request_time`), a whole number in
//! microseconds (Apache `%D`).

use std::borrow::Cow;

use thalweg_event::{AttributeValue, Fault, Row};

use super::{Sink, lines, name_service, request};

/// An access log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessLog {
    /// Common Log Format.
    Common,
    /// Common Log Format and the quoted referer and user agent.
    Combined,
    /// Combined Log Format and the time the request took.
    CombinedTime,
}

impl AccessLog {
    /// Name of the format in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Common => "clf",
            Self::Combined => "combined",
            Self::CombinedTime => "combined-time",
        }
    }
}

pub(super) fn decode(format: AccessLog, body: &[u8], sink: &mut Sink<'_>) {
    lines::decode(body, sink, |line, row| read(format, line, row));
}

fn read(format: AccessLog, line: &str, row: &mut Row<'_, '_>) -> Result<(), Fault> {
    let mut fields = Fields { rest: line };
    if let Some(client) = present(fields.until(' ', "client")?) {
        row.client_ip(client);
    }
    if let Some(ident) = present(fields.until(' ', "ident")?) {
        row.attribute("ident", AttributeValue::Text(ident));
    }
    // The user's name comes from the client and may hold spaces.
    if let Some(user) = present(fields.until('[', "user")?.trim_ascii_end()) {
        row.attribute("user.name", AttributeValue::Text(user));
    }
    row.time_unix_nano(time(fields.until(']', "time")?)?);
    fields.space("request")?;
    let request = fields.quoted("request")?;
    row.message(&request);
    request::read_line(&request, row);
    fields.space("status")?;
    if let Some(status) = present(fields.word()) {
        let parsed = request::parse_status(status);
        row.http_status(parsed.ok_or_else(|| Fault::expected("status", "three digits", status))?);
    }
    fields.space("bytes")?;
    if let Some(bytes) = present(fields.word()) {
        let parsed = bytes.parse().ok().filter(|bytes| *bytes >= 0);
        row.bytes(parsed.ok_or_else(|| Fault::expected("bytes", "a number", bytes))?);
    }
    if format >= AccessLog::Combined {
        fields.space("referer")?;
        if let Some(referer) = present(&fields.quoted("referer")?) {
            row.attribute("http.request.header.referer", AttributeValue::Text(referer));
        }
        fields.space("user agent")?;
        if let Some(agent) = present(&fields.quoted("user agent")?) {
            row.user_agent(agent);
        }
    }
    if format >= AccessLog::CombinedTime {
        fields.space("duration")?;
        if let Some(duration) = present(fields.word()) {
            row.duration_ms(duration_ms(duration)?);
        }
    }
    if !fields.rest.trim_ascii().is_empty() {
        let expected = format!("the end of a `{}` line", format.name());
        return Err(Fault::expected("record", &expected, fields.rest));
    }
    name_service(row, None);
    Ok(())
}

fn present(field: &str) -> Option<&str> {
    (!matches!(field, "-" | "")).then_some(field)
}

/// What is left of a line.
struct Fields<'l> {
    rest: &'l str,
}

impl<'l> Fields<'l> {
    /// Everything before the next `end`, which is passed over.
    fn until(&mut self, end: char, field: &str) -> Result<&'l str, Fault> {
        let (before, after) = self.rest.split_once(end).ok_or_else(|| {
            Fault::expected(field, &format!("a value and then `{end}`"), self.rest)
        })?;
        self.rest = after;
        Ok(before)
    }

    /// Everything before the next space.
    fn word(&mut self) -> &'l str {
        let (word, rest) = self.rest.split_at(self.rest.find(' ').unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn space(&mut self, before: &str) -> Result<(), Fault> {
        self.rest = self
            .rest
            .strip_prefix(' ')
            .ok_or_else(|| Fault::expected(before, "a space and then a value", self.rest))?;
        Ok(())
    }

    /// The content of a string in double quotes.
    fn quoted(&mut self, field: &str) -> Result<Cow<'l, str>, Fault> {
        let unquoted = || Fault::expected(field, "a string in double quotes", self.rest);
        let inner = self.rest.strip_prefix('"').ok_or_else(unquoted)?;
        let (mut end, mut has_escape) = (0, false);
        loop {
            let rest = inner.as_bytes().get(end..).ok_or_else(unquoted)?;
            end += memchr::memchr2(b'"', b'\\', rest).ok_or_else(unquoted)?;
            if inner.as_bytes()[end] == b'"' {
                break;
            }
            has_escape = true;
            end += 2;
        }
        self.rest = &inner[end + 1..];
        let written = &inner[..end];
        let unescaped = has_escape.then(|| unescape(written)).flatten();
        Ok(unescaped.map_or(Cow::Borrowed(written), Cow::Owned))
    }
}

/// Undoes the escapes of nginx and Apache; `None` when the result is not text.
fn unescape(written: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.as_bytes();
    while let Some(backslash) = memchr::memchr(b'\\', rest) {
        bytes.extend_from_slice(&rest[..backslash]);
        let (byte, length) = match rest.get(backslash + 1)? {
            b'x' => {
                let digits = std::str::from_utf8(rest.get(backslash + 2..backslash + 4)?).ok()?;
                (u8::from_str_radix(digits, 16).ok()?, 4)
            }
            b'n' => (b'\n', 2),
            b'r' => (b'\r', 2),
            b't' => (b'\t', 2),
            byte => (*byte, 2),
        };
        bytes.push(byte);
        rest = rest.get(backslash + length..)?;
    }
    bytes.extend_from_slice(rest);
    String::from_utf8(bytes).ok()
}

/// Nanoseconds since the Unix epoch of a time such as `10/Oct/2000:13:55:36 -0700`.
fn time(text: &str) -> Result<i64, Fault> {
    parse_time(text.as_bytes())
        .ok_or_else(|| Fault::expected("time", "a time such as 10/Oct/2000:13:55:36 -0700", text))
}

fn parse_time(text: &[u8]) -> Option<i64> {
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let text: &[u8; 26] = text.try_into().ok()?;
    let marks = [text[2], text[6], text[11], text[14], text[17], text[20]];
    if marks != *b"//::: " {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0_u32, |sum, byte| {
            byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'))
        })
    };
    let month = MONTHS.iter().position(|name| name[..] == text[3..6])? as u32 + 1;
    let date = chrono::NaiveDate::from_ymd_opt(number(7, 11)? as i32, month, number(0, 2)?)?;
    let local = date.and_hms_opt(number(12, 14)?, number(15, 17)?, number(18, 20)?)?.and_utc();
    let offset = i64::from(number(22, 24)? * 3600 + number(24, 26)? * 60);
    let seconds = match text[21] {
        b'+' => local.timestamp() - offset,
        b'-' => local.timestamp() + offset,
        _ => return None,
    };
    seconds.checked_mul(1_000_000_000)
}

fn duration_ms(text: &str) -> Result<f64, Fault> {
    let ms_per_unit = if text.contains('.') { 1_000.0 } else { 0.001 };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = is_number.then(|| text.parse::<f64>().ok()).flatten().filter(|n| n.is_finite());
    let number = number.ok_or_else(|| {
        Fault::expected("duration", "seconds such as 0.012 or whole microseconds", text)
    })?;
    Ok(number * ms_per_unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decode::{
        BodyFormat, LineFormat,
        testing::{Decoded, decoded},
    };

    const CLF: &str =
        r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326"#;

    fn read(format: AccessLog, line: &str) -> Decoded {
        decoded(BodyFormat::Line(&LineFormat::AccessLog(format)), line)
    }

    fn rejection(format: AccessLog, line: &str) -> String {
        let mut decoded = read(format, line);
        assert_eq!(decoded.faults.len(), 1, "{line}");
        decoded.faults.remove(0).1
    }

    /// A line with `request` as logged, and `status`.
    fn with_request(request: &str, status: &str) -> Decoded {
        let line = format!(r#"::1 - - [10/Oct/2000:13:55:36 +0000] "{request}" {status} -"#);
        read(AccessLog::Common, &line)
    }

    #[test]
    fn every_field_of_a_common_line_has_its_column() {
        let event = read(AccessLog::Common, CLF);
        for (column, value) in [
            ("client_ip", "127.0.0.1"),
            ("time_unix_nano", "971211336000000000"),
            ("message", "GET /apache_pb.gif HTTP/1.0"),
            ("http_method", "GET"),
            ("http_path", "/apache_pb.gif"),
            ("http_status", "200"),
            ("level", "INFO"),
            ("bytes", "2326"),
            ("service", "unknown_service"),
        ] {
            assert_eq!(event.only(column).as_deref(), Some(value), "{column}");
        }
        let attributes = json!({"user.name": "frank", "network.protocol.version": "1.0"});
        assert_eq!(event.attributes(), [attributes]);
    }

    #[test]
    fn a_combined_line_adds_referer_and_agent_and_a_timed_one_the_duration() {
        let combined = format!(r#"{CLF} "http://example.com/a" "Mozilla/5.0 (X; \"Y\")""#);
        let event = read(AccessLog::Combined, &combined);
        assert_eq!(event.only("user_agent").as_deref(), Some(r#"Mozilla/5.0 (X; "Y")"#));
        assert_eq!(event.attributes()[0]["http.request.header.referer"], "http://example.com/a");
        assert_eq!(event.only("duration_ms"), None);
        for (written, ms) in [("0.012", "12.0"), ("12345", "12.345"), ("1.", "1000.0")] {
            let event = read(AccessLog::CombinedTime, &format!("{combined} {written}"));
            assert_eq!(event.only("duration_ms").as_deref(), Some(ms), "{written}");
        }
        let event = read(AccessLog::CombinedTime, &format!("{combined} -"));
        assert_eq!(event.only("duration_ms"), None);
    }

    #[test]
    fn a_dash_is_an_absent_value() {
        let event =
            read(AccessLog::Combined, r#"- - - [10/Oct/2000:13:55:36 +0000] "-" - - "-" "-""#);
        for column in
            ["client_ip", "http_status", "bytes", "user_agent", "http_method", "attributes"]
        {
            assert_eq!(event.only(column), None, "{column}");
        }
    }

    #[test]
    fn the_query_is_an_attribute_and_not_part_of_the_path() {
        let event = with_request("GET http://a.example/cart?id=7&x=%20 HTTP/2.0", "404");
        assert_eq!(event.only("http_path").as_deref(), Some("/cart"));
        assert_eq!(event.attributes()[0]["url.query"], "id=7&x=%20");
        assert_eq!(event.only("level").as_deref(), Some("WARN"));
        assert_eq!(event.only("client_ip").as_deref(), Some("::1"));
    }

    #[test]
    fn a_request_that_is_no_request_line_is_kept_as_message() {
        for (request, message) in [
            (r"\x16\x03\x01", "\u{16}\u{3}\u{1}"),
            (r"\x16\xff", r"\x16\xff"),
            (r"\xc3\xa9\\", "é\\"),
            ("GET /a b c", "GET /a b c"),
            ("hello", "hello"),
        ] {
            let event = with_request(request, "400");
            assert_eq!(event.only("message").as_deref(), Some(message));
            assert_eq!(event.only("http_method"), None, "{request}");
            assert_eq!(event.only("http_status").as_deref(), Some("400"));
        }
        let spaces = with_request("GET /a b HTTP/1.1", "200");
        assert_eq!(spaces.only("http_path").as_deref(), Some("/a b"));
    }

    #[test]
    fn a_user_may_hold_spaces() {
        let line = CLF.replace("frank", "frank n furter");
        let event = read(AccessLog::Common, &line);
        assert_eq!(event.attributes()[0]["user.name"], "frank n furter");
    }

    #[test]
    fn a_line_that_is_not_of_the_format_says_where() {
        for (line, reason) in [
            ("hello", r#"client: expected a value and then ` `, found "hello""#),
            (
                &CLF.replace("Oct", "Okt"),
                r#"time: expected a time such as 10/Oct/2000:13:55:36 -0700, found "10/Okt/2000:13:55:36 -0700""#,
            ),
            (&CLF.replace(" 200 ", " 2000 "), r#"status: expected three digits, found "2000""#),
            (&CLF.replace("2326", "-5"), r#"bytes: expected a number, found "-5""#),
            (
                &CLF.replace("1.0\"", "1.0"),
                r#"request: expected a string in double quotes, found "\"GET /apache_pb.gif HTTP/1.0 200 2326""#,
            ),
            (
                &format!("{CLF} \"-\" \"-\""),
                r#"record: expected the end of a `clf` line, found " \"-\" \"-\"""#,
            ),
        ] {
            let reason_of_more = rejection(AccessLog::Common, line);
            assert!(reason_of_more.contains(reason), "{reason_of_more}");
        }
        let reason = rejection(AccessLog::Combined, CLF);
        assert_eq!(reason, r#"referer: expected a space and then a value, found """#);
        let reason = rejection(AccessLog::CombinedTime, &format!(r#"{CLF} "-" "-" fast"#));
        assert_eq!(
            reason,
            r#"duration: expected seconds such as 0.012 or whole microseconds, found "fast""#
        );
    }
}

//! JSON text read and written piece by piece.

mod cursor;
mod scan;

use std::io::Write as _;

pub use cursor::{Cursor, MAX_DEPTH, Malformed, Value};
use scan::plain_end;

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut start = 0;
    loop {
        let end = plain_end(bytes, start);
        out.extend_from_slice(&bytes[start..end]);
        let Some(byte) = bytes.get(end) else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => write!(out, "\\u{byte:04x}").expect("writing to a Vec cannot fail"),
        }
        start = end + 1;
    }
    out.push(b'"');
}

/// Appends `number`; NaN and infinities, which JSON lacks, become strings as OTLP/JSON does.
pub fn write_f64(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        serde_json::to_writer(out, &number).expect("writing to a Vec cannot fail");
    } else {
        write_string(
            out,
            if number.is_nan() {
                "NaN"
            } else if number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            },
        );
    }
}

/// Appends `number`.
pub fn write_i64(out: &mut Vec<u8>, number: i64) {
    write!(out, "{number}").expect("writing to a Vec cannot fail");
}

/// Appends `"key":`, after a comma unless the object has just been opened.
pub fn write_key(out: &mut Vec<u8>, key: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_string(out, key);
    out.push(b':');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_written_string_reads_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn a_written_number_reads_back(number in any::<f64>()) {
            let mut out = Vec::new();
            write_f64(&mut out, number);
            if number.is_finite() {
                prop_assert_eq!(String::from_utf8(out).unwrap().parse::<f64>().unwrap(), number);
            } else {
                prop_assert_eq!(out[0], b'"');
            }
        }
    }
}

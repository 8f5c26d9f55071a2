//! JSON text written piece by piece into a byte buffer.

use std::io::Write as _;

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to a Vec cannot fail");
}

/// Appends `number`; NaN and infinities, which JSON lacks, become strings as OTLP/JSON does.
pub fn write_f64(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        serde_json::to_writer(out, &number).expect("writing to a Vec cannot fail");
    } else {
        write_string(out, if number.is_nan() { "NaN" } else if number > 0.0 { "Infinity" } else { "-Infinity" });
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

//! What holds for every decoder, whatever the bytes.

use proptest::{collection::vec, prelude::*};

use super::{
    BodyFormat, Formats,
    testing::{formats_config, try_decoded},
};

/// Bytes of any kind, and pieces that lead decoders past their first checks.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&[u8]; 44] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b"\n",
        b"\r\n",
        b" ",
        b"-",
        b"\\u00e9",
        b"\\ud83d",
        b"\\x41",
        b"\"message\"",
        b"\"service\":\"a\"",
        b"\"timestamp\":",
        b"\"level\":\"INFO\"",
        b"\"schemaVersion\":\"2.0\"",
        b"\"requiredFields\"",
        b"\"metadata\":{",
        b"1700000000",
        b"1e3",
        b"null",
        b"\"resourceLogs\":[{",
        b"\"scopeLogs\":[{",
        b"\"logRecords\":[{",
        b"\"body\":{\"stringValue\":\"x\"}",
        b"10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 12",
        b" \"-\" \"agent\"",
        b" 0.012",
        b"10.0.0.1,[29/Nov/2017:06:58:55,GET / HTTP/1.1,200",
        b"\x0a\x04\x12\x02",
        b"\x0a\x80\x01",
        b"\x12\x08\x12\x06",
        b"\"resourceSpans\":[{",
        b"\"scopeSpans\":[{",
        b"\"spans\":[{",
        b"\"spanId\":\"0102030405060708\"",
        b"<34>Oct 11 22:14:15 host app[1]: ",
        b"<34>1 2003-10-11T22:14:15Z h a - - [a b=\"",
        b"\xff",
        "é😀".as_bytes(),
    ];
    let piece = prop_oneof![
        4 => proptest::sample::select(pieces.to_vec()).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..16),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// The formats of the example and one whose columns the header names.
fn formats() -> Formats {
    let weblog = include_str!("../../../../examples/weblog.yaml");
    let header = "  sheet: {type: csv, header: true, delimiter: \";\"}\n";
    Formats::new(&formats_config(&format!("{weblog}{header}"))).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_record_of_any_body_is_accepted_or_rejected(body in body()) {
        let formats = formats();
        let named = formats.names().map(|name| formats.get(name).unwrap());
        let others = [
            BodyFormat::OtlpJson,
            BodyFormat::OtlpProtobuf,
            BodyFormat::OtlpTracesJson,
            BodyFormat::OtlpTracesProtobuf,
            BodyFormat::SyslogReceived { offset_secs: 0 },
        ];
        for format in named.chain(others) {
            let _ = try_decoded(format, &body);
        }
    }
}

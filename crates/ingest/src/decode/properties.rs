//! What holds for every decoder, whatever the bytes.

use proptest::{collection::vec, prelude::*};

use super::{
    BodyFormat, Formats,
    testing::{formats_config, try_decoded},
};

/// Bytes of any kind, and pieces that lead decoders past their first checks.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&[u8]; 64] = [
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
        b"{\"index\":{}}\n",
        b"{\"create\":{\"_index\":\"logs-2026.11.25\",\"_id\":\"7\"}}\n",
        b"{\"delete\":{\"_index\":\"a\"}}\n",
        b"{\"log\":{\"level\":\"info\"},\"http\":{\"request.method\":\"GET\"}}\n",
        b"\"@timestamp\":\"2026-11-25T00:00:00Z\"",
        b"\"log\":\"line\"",
        b"\"event\":",
        b"\"time\":\"1700000000.123\"",
        b"\"fields\":{",
        b"\"sourcetype\":\"access\"",
        b"\"streams\":[{",
        b"\"stream\":{\"job\":\"a\"},",
        b"\"values\":[",
        b"[\"1700000000000000000\",\"line\",{\"trace_id\":\"ab\"}]",
        b"\x0a\x1e",
        b"\x0a\x09{job=\"a\"}",
        b"\x12\x12\x0a\x06\x08\x80\xe2\xcf\xaa\x06\x12\x08ERROR it",
        b"\x1a\x06\x0a\x01k\x12\x01v",
        b"{k=\"\\x41\"}",
        b"\0",
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
        let protocols = [
            BodyFormat::OtlpJson,
            BodyFormat::OtlpProtobuf,
            BodyFormat::OtlpTracesJson,
            BodyFormat::OtlpTracesProtobuf,
            BodyFormat::SyslogReceived { offset_secs: 0 },
            BodyFormat::ElasticsearchBulk,
            BodyFormat::LokiJson,
            BodyFormat::LokiProtobuf,
            BodyFormat::SplunkEvents,
            BodyFormat::SplunkRaw,
        ];
        for format in named.chain(protocols) {
            let _ = try_decoded(format, &body);
        }
    }
}

#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg_fuzz::check;
use thalweg_ingest::decode::BodyFormat;

fuzz_target!(|body: &[u8]| check(BodyFormat::OtlpTracesProtobuf, body));

#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg_fuzz::check_with;
use thalweg_ingest::decode::BodyFormat;

const PARAMS: &[(&str, &str)] = &[("tenant", "team")];

fuzz_target!(|body: &[u8]| check_with(BodyFormat::LokiJson, PARAMS, body));

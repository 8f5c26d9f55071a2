#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg_fuzz::check;
use thalweg_ingest::decode::{AccessLog, BodyFormat, LineFormat};

fuzz_target!(|body: &[u8]| {
    for format in [AccessLog::Common, AccessLog::Combined, AccessLog::CombinedTime] {
        check(BodyFormat::Line(&LineFormat::AccessLog(format)), body);
    }
});

#![no_main]

use libfuzzer_sys::fuzz_target;
use thalweg_fuzz::check;
use thalweg_ingest::decode::BodyFormat;

fuzz_target!(|body: &[u8]| {
    check(BodyFormat::Syslog { offset_secs: 3600 }, body);
    check(BodyFormat::SyslogReceived { offset_secs: -3600 }, body);
    // What the listeners hand on: one message with whatever bytes.
    let header = [[0; 16].as_slice(), &(body.len() as u32).to_be_bytes()].concat();
    check(BodyFormat::SyslogReceived { offset_secs: 0 }, &[&header, body].concat());
});

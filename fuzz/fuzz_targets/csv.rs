#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use thalweg_fuzz::{check, formats};
use thalweg_ingest::decode::Formats;

const YAML: &str = "
formats:
  weblog: {type: csv, columns: [client_ip, timestamp, request, http_status], time_format: '[%d/%b/%Y:%H:%M:%S'}
  sheet: {type: csv, header: true, delimiter: ';'}
";

static FORMATS: LazyLock<Formats> = LazyLock::new(|| formats(YAML));

fuzz_target!(|body: &[u8]| {
    for name in ["weblog", "sheet"] {
        check(FORMATS.get(name).expect("defined above"), body);
    }
});

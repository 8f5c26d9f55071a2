//! What every fuzz target checks of a decoder.

use thalweg_event::{BatchContext, PriorityRules};
use thalweg_ingest::decode::{BodyFormat, Formats, FormatsConfig, Sink, decode};

/// Decodes `body`: no panic, every record accepted or rejected, and both batches well-formed.
pub fn check(format: BodyFormat<'_>, body: &[u8]) {
    let rules = PriorityRules::default();
    let mut sink = Sink::new(BatchContext::new(1_700_000_000_000_000_000, &rules, [7; 10]), "fuzz");
    if decode(format, body, &mut sink).is_ok() {
        let records = sink.records();
        let events = sink.events.finish().num_rows();
        let spans = sink.spans.map_or(0, |spans| spans.finish().num_rows());
        let rejected = sink.rejected.finish(1_700_000_000_000_000_000, None);
        assert_eq!(events + spans + rejected.num_rows(), records);
    }
}

/// The built-in formats and those that `yaml` defines.
pub fn formats(yaml: &str) -> Formats {
    #[derive(serde::Deserialize)]
    struct Config {
        formats: FormatsConfig,
    }
    let config: Config = serde_saphyr::from_str(yaml).expect("the target's YAML is well-formed");
    Formats::new(&config.formats).expect("the target's formats are valid")
}

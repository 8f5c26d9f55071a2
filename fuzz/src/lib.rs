//! What every fuzz target checks of a decoder.

use thalweg_event::{BatchContext, PriorityRules};
use thalweg_ingest::decode::{BodyFormat, Formats, FormatsConfig, Params, Sink, decode};

/// Decodes `body`: no panic, every record accepted or rejected, and both batches well-formed.
pub fn check(format: BodyFormat<'_>, body: &[u8]) {
    check_with(format, &[], body);
}

/// As [`check`], of a body of which the sender said `params`.
pub fn check_with(format: BodyFormat<'_>, params: &[(&'static str, &str)], body: &[u8]) {
    let rules = PriorityRules::default();
    let params: Params = params.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let context = BatchContext::new(1_700_000_000_000_000_000, &rules, [7; 10]);
    let mut sink = Sink::new(context, "fuzz").with_params(&params);
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

//! Bodies decoded for tests, with columns read back as text.

use arrow::{
    array::{Array as _, AsArray as _, RecordBatch},
    compute::cast,
    datatypes::DataType,
};
use thalweg_event::{BatchContext, PriorityRules};

use super::{BodyFormat, FormatsConfig, Sink, Unreadable, decode};

/// When the test's bodies were received.
pub(super) const RECEIVED_NANOS: i64 = 1_700_000_000_000_000_000;

/// The `formats` of a configuration file.
pub(super) fn formats_config(yaml: &str) -> FormatsConfig {
    #[derive(serde::Deserialize)]
    struct Config {
        formats: FormatsConfig,
    }
    serde_saphyr::from_str::<Config>(yaml).expect("the test's YAML is well-formed").formats
}

/// What came of one body.
#[derive(Debug, PartialEq)]
pub(super) struct Decoded {
    /// Events or spans.
    pub(super) events: RecordBatch,
    pub(super) rejected: RecordBatch,
    /// Index and reason of each rejected record.
    pub(super) faults: Vec<(usize, String)>,
}

/// Decodes a body that is readable.
pub(super) fn decoded(format: BodyFormat<'_>, body: impl AsRef<[u8]>) -> Decoded {
    try_decoded(format, body.as_ref()).expect("the body is readable")
}

/// Decodes `body`; checks that every record is either accepted or rejected.
pub(super) fn try_decoded(format: BodyFormat<'_>, body: &[u8]) -> Result<Decoded, Unreadable> {
    try_decoded_with(format, &[], body)
}

/// Decodes a body of which the sender said `params`.
pub(super) fn try_decoded_with(
    format: BodyFormat<'_>,
    params: &[(&'static str, String)],
    body: &[u8],
) -> Result<Decoded, Unreadable> {
    let rules = PriorityRules::default();
    let context = BatchContext::new(RECEIVED_NANOS, &rules, [7; 10]);
    let mut sink = Sink::new(context, "test").with_params(params);
    decode(format, body, &mut sink)?;
    let records = sink.records();
    let faults = sink.faults.into_iter().map(|(index, fault)| (index, fault.0)).collect();
    let events = match sink.spans {
        Some(spans) => spans.finish(),
        None => sink.events.finish(),
    };
    let rejected = sink.rejected.finish(RECEIVED_NANOS, None);
    assert_eq!(events.num_rows() + rejected.num_rows(), records);
    Ok(Decoded { events, rejected, faults })
}

impl Decoded {
    /// The values of a column as text.
    pub(super) fn column(&self, name: &str) -> Vec<Option<String>> {
        let column = self.events.column_by_name(name).expect("the column exists");
        let text = cast(column, &DataType::Utf8).expect("every column has a text form");
        text.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect()
    }

    /// The value of a column in the only event.
    pub(super) fn only(&self, name: &str) -> Option<String> {
        assert_eq!(self.faults, []);
        assert_eq!(self.events.num_rows(), 1);
        self.column(name).remove(0)
    }

    /// The attributes of each event.
    pub(super) fn attributes(&self) -> Vec<serde_json::Value> {
        let read = |json: Option<String>| {
            json.map_or(serde_json::json!({}), |json| {
                serde_json::from_str(&json).expect("attributes are JSON")
            })
        };
        self.column("attributes").into_iter().map(read).collect()
    }

    /// The bytes of the rejected records.
    pub(super) fn originals(&self) -> Vec<Vec<u8>> {
        let column = self.rejected.column_by_name("original").expect("the column exists");
        let column = column.as_binary::<i32>();
        (0..column.len()).map(|row| column.value(row).to_vec()).collect()
    }
}

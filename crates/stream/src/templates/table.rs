//! The table `templates`: what has been learnt until now.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use thalweg_event::schema::timestamp_type;

use super::Templates;

/// Schema of [`Templates::rows`]: the templates, how often each was seen, and when first and last.
pub fn templates_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("template_id", DataType::Utf8, false),
            Field::new("template", DataType::Utf8, false),
            Field::new("events", DataType::Int64, false),
            Field::new("first_seen", timestamp_type(), true),
            Field::new("last_seen", timestamp_type(), true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

impl Templates {
    /// The templates as they are now, as [`templates_schema`] says.
    pub fn rows(&self) -> RecordBatch {
        let mined = self.mined.lock();
        let (mut ids, mut texts, mut counts) = (vec![], vec![], vec![]);
        let (mut first, mut last) = (vec![], vec![]);
        for template in mined.miner.templates() {
            let known = mined.watch.statistics(template.id());
            ids.push(template.id().to_string());
            texts.push(template.to_string());
            counts.push(known.map_or(0, |known| i64::try_from(known.count).unwrap_or(i64::MAX)));
            first.push(known.map(|known| known.first_seen));
            last.push(known.map(|known| known.last_seen));
        }
        let time = |times: Vec<Option<i64>>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(ids)),
            Arc::new(StringArray::from(texts)),
            Arc::new(Int64Array::from(counts)),
            time(first),
            time(last),
        ];
        RecordBatch::try_new(templates_schema(), columns)
            .expect("columns are built in schema order")
    }
}

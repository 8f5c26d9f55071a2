//! Refused records laid out as an Arrow record batch.

use std::sync::Arc;

use arrow::{
    array::{
        BinaryBuilder, Int64Builder, RecordBatch, StringArray, StringBuilder,
        StringDictionaryBuilder, TimestampMicrosecondArray,
    },
    datatypes::Int32Type,
};

use crate::{fault::Fault, schema::rejected_schema, time::NANOS_PER_MICRO};

/// What is kept of a record: a longer one would fill what is meant for many.
const MAX_ORIGINAL_BYTES: usize = 384 << 10;

/// Lays refused records out as a record batch of [`rejected_schema`].
#[derive(Default)]
pub struct RejectedBatchBuilder {
    format: StringDictionaryBuilder<Int32Type>,
    index: Int64Builder,
    reason: StringBuilder,
    original: BinaryBuilder,
    rows: usize,
}

impl RejectedBatchBuilder {
    /// Adds the record at `index` of its request, with the bytes as they came; of a long one, with the
    /// first of them.
    pub fn push(&mut self, format: &str, index: usize, fault: &Fault, original: &[u8]) {
        self.format.append_value(format);
        self.index.append_value(i64::try_from(index).unwrap_or(i64::MAX));
        match original.get(..MAX_ORIGINAL_BYTES) {
            Some(kept) if kept.len() < original.len() => {
                let cut = format!(
                    "{} (the first {MAX_ORIGINAL_BYTES} of its {} bytes are kept)",
                    fault.0,
                    original.len()
                );
                self.reason.append_value(cut);
                self.original.append_value(kept);
            }
            _ => {
                self.reason.append_value(&fault.0);
                self.original.append_value(original);
            }
        }
        self.rows += 1;
    }

    /// Number of records added.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no record was added.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The batch: all records added, received at `observed_unix_nanos` from `client_ip`.
    pub fn finish(mut self, observed_unix_nanos: i64, client_ip: Option<&str>) -> RecordBatch {
        let micros = observed_unix_nanos.div_euclid(NANOS_PER_MICRO);
        let observed = TimestampMicrosecondArray::from_value(micros, self.rows);
        let clients: StringArray = std::iter::repeat_n(client_ip, self.rows).collect();
        RecordBatch::try_new(
            rejected_schema(),
            vec![
                Arc::new(observed.with_timezone("UTC")),
                Arc::new(clients),
                Arc::new(self.format.finish()),
                Arc::new(self.index.finish()),
                Arc::new(self.reason.finish()),
                Arc::new(self.original.finish()),
            ],
        )
        .expect("columns are built in schema order")
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn a_rejected_record_keeps_its_bytes_and_the_reason() {
        let mut rejected = RejectedBatchBuilder::default();
        rejected.push("csv", 7, &Fault("no time".into()), b"\xff,x");
        let batch = rejected.finish(1_700_000_000_000_000_000, Some("10.0.0.1"));
        assert_eq!(batch.num_rows(), 1);
        assert_eq!(batch.column(1).as_string::<i32>().value(0), "10.0.0.1");
        assert_eq!(batch.column(3).as_primitive::<arrow::datatypes::Int64Type>().value(0), 7);
        assert_eq!(batch.column(4).as_string::<i32>().value(0), "no time");
        assert_eq!(batch.column(5).as_binary::<i32>().value(0), b"\xff,x");
    }

    #[test]
    fn of_a_long_record_the_beginning_is_kept_and_the_reason_says_so() {
        let mut rejected = RejectedBatchBuilder::default();
        rejected.push("csv", 0, &Fault("no time".into()), &vec![b'x'; MAX_ORIGINAL_BYTES + 1]);
        let batch = rejected.finish(0, None);
        let reason = batch.column(4).as_string::<i32>().value(0);
        assert_eq!(reason, "no time (the first 393216 of its 393217 bytes are kept)");
        assert_eq!(batch.column(5).as_binary::<i32>().value(0).len(), MAX_ORIGINAL_BYTES);
    }
}

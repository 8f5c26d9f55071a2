//! What a table holds: its columns, where its rows come from, and how they are laid out.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use deltalake::kernel::{DataType as DeltaType, PrimitiveType, StructField};
use thalweg_event::{
    schema::{self, column, topic},
    span,
};

use crate::error::{LakeError, Result};

/// Name of the partition column every table has besides the columns of its topics: the UTC date
/// of the time column.
pub const DATE_COLUMN: &str = "date";

/// A table fed by topics.
///
/// Rows are partitioned by date and, within a file, sorted by `cluster_column` and `time_column`.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Name, for queries, metrics and the log.
    pub name: String,
    /// Columns as they are on the topics. The table has them with plain strings in place of
    /// dictionaries.
    pub schema: SchemaRef,
    /// Topics whose rows the table takes, all of them.
    pub topics: Vec<String>,
    /// Column of type timestamp(µs, UTC), not null.
    pub time_column: String,
    /// Column of few distinct strings that queries select by.
    pub cluster_column: Option<String>,
    /// Columns of random identifiers that are looked up one at a time: they get bloom filters.
    pub lookup_columns: Vec<String>,
    /// Columns of text that seldom repeats, whose smallest and largest values help nobody.
    pub text_columns: Vec<String>,
}

impl TableSpec {
    /// A table of one topic's rows, named as the topic is, with nothing to choose files by but the
    /// time.
    pub fn of_topic(topic: &str, schema: SchemaRef, time_column: &str) -> Self {
        Self {
            name: topic.into(),
            schema,
            topics: names(&[topic]),
            time_column: time_column.into(),
            cluster_column: None,
            lookup_columns: vec![],
            text_columns: vec![],
        }
    }

    /// Table `logs`: every event.
    pub fn logs() -> Self {
        Self {
            name: "logs".into(),
            schema: schema::log_schema(),
            topics: names(&[topic::LOGS_CRITICAL, topic::LOGS_ROUTINE]),
            time_column: column::TIMESTAMP.into(),
            cluster_column: Some(column::SERVICE.into()),
            lookup_columns: names(&[column::EVENT_ID, column::TRACE_ID]),
            text_columns: names(&[column::MESSAGE, column::ATTRIBUTES, column::SPAN_ID]),
        }
    }

    /// Table `spans`: every span of a trace.
    pub fn spans() -> Self {
        Self {
            name: "spans".into(),
            schema: span::span_schema(),
            topics: names(&[topic::SPANS]),
            time_column: column::TIMESTAMP.into(),
            cluster_column: Some(column::SERVICE.into()),
            lookup_columns: names(&[column::TRACE_ID]),
            text_columns: names(&[
                column::EVENT_ID,
                column::SPAN_ID,
                span::column::PARENT_SPAN_ID,
                column::ATTRIBUTES,
                span::column::EVENTS,
                span::column::LINKS,
            ]),
        }
    }

    /// Table `rejected`: records that could not be read, and why.
    pub fn rejected() -> Self {
        let time = column::OBSERVED_TIMESTAMP;
        Self {
            cluster_column: Some(column::REJECTED_FORMAT.into()),
            text_columns: names(&[column::REJECTED_REASON, column::REJECTED_ORIGINAL]),
            ..Self::of_topic(topic::REJECTED, schema::rejected_schema(), time)
        }
    }

    /// Table `audit`: who asked what.
    pub fn audit() -> Self {
        Self {
            cluster_column: Some(column::AUDIT_PRINCIPAL.into()),
            text_columns: names(&[column::AUDIT_STATEMENT]),
            ..Self::of_topic(topic::AUDIT, schema::audit_schema(), column::TIMESTAMP)
        }
    }

    /// Columns queries see: those of the topics, text as views, and the date.
    pub fn table_schema(&self) -> SchemaRef {
        let mut fields = self.file_schema().fields().to_vec();
        fields.push(Arc::new(date_field()));
        Arc::new(Schema::new(fields))
    }

    /// Columns of the table's files as queries read them: all but the date.
    pub(crate) fn file_schema(&self) -> SchemaRef {
        let read = |field: &Field| {
            let data_type = match field.data_type() {
                DataType::Dictionary(_, _) | DataType::Utf8 => DataType::Utf8View,
                DataType::Binary => DataType::BinaryView,
                other => other.clone(),
            };
            Field::new(field.name(), data_type, field.is_nullable())
        };
        Arc::new(Schema::new(self.schema.fields().iter().map(|f| read(f)).collect::<Vec<_>>()))
    }

    /// Checks what the writer relies on.
    ///
    /// # Errors
    /// [`LakeError::Schema`] when the time or cluster column is missing, or a column of a type
    /// that the writer does not sort or merge.
    pub(crate) fn validate(&self) -> Result<()> {
        let time = (&self.time_column, schema::timestamp_type());
        let cluster = self.cluster_column.iter().map(|name| (name, schema::dictionary_type()));
        let few = self.schema.fields().iter();
        let few = few.filter(|field| matches!(field.data_type(), DataType::Dictionary(_, _)));
        let few = few.map(|field| (field.name(), schema::dictionary_type()));
        for (name, expected) in [time].into_iter().chain(cluster).chain(few) {
            let found = self.schema.field_with_name(name)?.data_type();
            if *found != expected {
                let problem = format!("column `{name}` is {found}, expected {expected}");
                return Err(LakeError::Schema(ArrowError::SchemaError(problem)));
            }
        }
        Ok(())
    }

    /// The columns in Delta's terms.
    pub(crate) fn delta_fields(&self) -> Result<Vec<StructField>> {
        let delta_type = |field: &Field| {
            let primitive = match field.data_type() {
                DataType::Boolean => PrimitiveType::Boolean,
                DataType::Int8 => PrimitiveType::Byte,
                DataType::Int16 => PrimitiveType::Short,
                DataType::Int32 => PrimitiveType::Integer,
                DataType::Int64 => PrimitiveType::Long,
                DataType::Float32 => PrimitiveType::Float,
                DataType::Float64 => PrimitiveType::Double,
                DataType::Date32 => PrimitiveType::Date,
                DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => PrimitiveType::Timestamp,
                DataType::Utf8View => PrimitiveType::String,
                DataType::BinaryView => PrimitiveType::Binary,
                other => {
                    return Err(LakeError::UnsupportedType {
                        table: self.name.clone(),
                        column: field.name().clone(),
                        found: other.to_string(),
                    });
                }
            };
            Ok(DeltaType::Primitive(primitive))
        };
        let table = self.table_schema();
        let fields = table.fields().iter();
        fields.map(|f| Ok(StructField::new(f.name(), delta_type(f)?, f.is_nullable()))).collect()
    }
}

/// The partition column.
pub(crate) fn date_field() -> Field {
    Field::new(DATE_COLUMN, DataType::Date32, false)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

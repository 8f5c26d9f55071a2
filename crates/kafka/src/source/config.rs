//! Settings of sources, and the columns of their tables.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::Deserialize;
use thalweg_event::schema::{column, log_schema, timestamp_type};

use super::rows::JsonTable;
use crate::{
    codec::Codec,
    config::{Broker, ConfigError, Encoding, KafkaConfig, SaslConfig, TlsConfig},
};

/// Column of the messages' keys. Like the others below, every table of JSON objects has it.
pub const KEY: &str = "key";
pub(super) const VALUE: &str = "value";
pub(super) const PARTITION: &str = "kafka_partition";
pub(super) const OFFSET: &str = "kafka_offset";
/// Partition column that every table of the lake has.
const DATE: &str = "date";

/// Most columns that may be declared.
const MAX_COLUMNS: usize = 256;
/// Longest name of a declared column.
const MAX_NAME_BYTES: usize = 64;
/// Longest name of a topic (`org.apache.kafka.common.internals.Topic`).
const MAX_TOPIC_BYTES: usize = 249;

/// A topic of Kafka that others write, to be read as a table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSource {
    /// Addresses of brokers to begin with, `host:port`; those of `log.kafka`, with its `tls` and
    /// `sasl`, when none are named.
    #[serde(default)]
    pub brokers: Vec<Broker>,
    /// Name of the topic. It is only read: never created, changed or removed.
    pub topic: TopicName,
    /// What its messages are.
    pub format: SourceFormat,
    /// Where a new table begins.
    #[serde(default)]
    pub from: Begin,
    /// Members of the JSON objects that become columns, and their types. All others are in `value`.
    #[serde(default)]
    pub columns: BTreeMap<ColumnName, ColumnType>,
    /// Member of the JSON objects that says when a row happened; where it is missing or no time, and
    /// when none is named, it is the time of the message.
    #[serde(default)]
    pub time_column: Option<String>,
    /// Encryption of the connections. Needs a thalweg built with the feature `kafka-tls`.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// How thalweg says who it is.
    #[serde(default)]
    pub sasl: Option<SaslConfig>,
}

/// Name of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct TopicName(String);

/// What the messages of a source are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceFormat {
    /// A JSON object a message: the table has the declared columns, and the object as `value`.
    Json,
    /// What may be written to thalweg's own topics of events, such as export requests of
    /// OpenTelemetry's logs in protobuf or JSON: the table has the columns of `logs`.
    Otlp,
}

/// Where a new table begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Begin {
    /// With the oldest message that brokers still have.
    #[default]
    Earliest,
    /// With what is written after the topic was first seen.
    Latest,
}

/// Name of a declared column, as the member of the objects is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct ColumnName(String);

/// Type of a declared column. A value that is none of the type is null; `value` still has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Any value: a string as it is, others as JSON.
    Text,
    /// Whole numbers of 64 bits, also as text.
    Bigint,
    /// Floating-point numbers of 64 bits, also as text.
    Double,
    /// `true` and `false`, also as text.
    Boolean,
    /// Times, RFC 3339, or numbers since 1970 of seconds, milliseconds, microseconds or nanoseconds,
    /// which is told by their size.
    Timestamp,
}

/// A source that can be read: its settings are consistent.
#[derive(Clone, Debug)]
pub struct Source {
    pub(super) name: String,
    pub(super) kafka: KafkaSource,
    pub(super) client: KafkaConfig,
    schema: SchemaRef,
}

impl Source {
    /// The source `name`, in a node whose log is in `log_kafka`.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that cannot work.
    pub fn new(
        name: &str,
        kafka: &KafkaSource,
        log_kafka: Option<&KafkaConfig>,
    ) -> Result<Self, ConfigError> {
        let wrong = |reason: String| Err(ConfigError(reason));
        let client = match log_kafka {
            Some(log) if kafka.brokers.is_empty() => KafkaConfig {
                tls: kafka.tls.clone().or_else(|| log.tls.clone()),
                sasl: kafka.sasl.clone().or_else(|| log.sasl.clone()),
                ..KafkaConfig::new(log.brokers.clone())
            },
            _ => KafkaConfig {
                tls: kafka.tls.clone(),
                sasl: kafka.sasl.clone(),
                ..KafkaConfig::new(kafka.brokers.clone())
            },
        };
        client.validate()?;
        let declares = !kafka.columns.is_empty() || kafka.time_column.is_some();
        if kafka.format == SourceFormat::Otlp && declares {
            return wrong(
                "columns, time_column: expected them with `format: json` only; with `otlp` the table \
                 has the columns of `logs`"
                    .to_owned(),
            );
        }
        if kafka.columns.len() > MAX_COLUMNS {
            let found = kafka.columns.len();
            return wrong(format!("columns: expected at most {MAX_COLUMNS}, found {found}"));
        }
        let mut names: Vec<String> =
            kafka.columns.keys().map(|name| name.0.to_ascii_lowercase()).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.array_windows().find(|[one, other]| one == other) {
            return wrong(format!(
                "columns: expected names that differ in more than their case, found `{name}` twice; \
                 leave one to `value`"
            ));
        }
        let schema = kafka.schema();
        Ok(Self { name: name.to_owned(), kafka: kafka.clone(), client, schema })
    }

    /// Name of the source and of its table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of the topic.
    pub fn topic(&self) -> &str {
        &self.kafka.topic.0
    }

    /// Columns of the table; those of `logs` for OTLP.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// What the messages of the topic are.
    pub fn format(&self) -> SourceFormat {
        self.kafka.format
    }

    /// Columns of text that seldom repeats.
    pub fn text_columns(&self) -> Vec<String> {
        let is_text = |(_, column): &(&ColumnName, &ColumnType)| **column == ColumnType::Text;
        let declared = self.kafka.columns.iter().filter(is_text).map(|(name, _)| name.0.clone());
        declared.chain([KEY, VALUE].map(str::to_owned)).collect()
    }

    pub(super) fn codec(&self) -> Codec {
        match self.kafka.format {
            SourceFormat::Otlp => {
                Codec::new(self.schema(), Encoding::OtlpProto, self.client.message_bytes)
            }
            SourceFormat::Json => Codec::of_objects(JsonTable::new(
                self.schema(),
                self.kafka.columns.iter().map(|(name, column)| (name.0.clone(), *column)).collect(),
                self.kafka.time_column.clone(),
            )),
        }
    }
}

impl KafkaSource {
    fn schema(&self) -> SchemaRef {
        if self.format == SourceFormat::Otlp {
            return log_schema();
        }
        let mut fields = vec![
            Field::new(column::TIMESTAMP, timestamp_type(), false),
            Field::new(KEY, DataType::Utf8, true),
        ];
        let declared = self.columns.iter();
        fields.extend(declared.map(|(name, column)| Field::new(&name.0, column.arrow(), true)));
        fields.extend([
            Field::new(VALUE, DataType::Utf8, true),
            Field::new(PARTITION, DataType::Int32, false),
            Field::new(OFFSET, DataType::Int64, false),
        ]);
        Arc::new(Schema::new(fields))
    }
}

impl ColumnType {
    fn arrow(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Bigint => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Timestamp => timestamp_type(),
        }
    }
}

impl TryFrom<String> for TopicName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fits = (1..=MAX_TOPIC_BYTES).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if fits {
            return Ok(Self(name));
        }
        Err(format!(
            "expected a topic's name of 1 to {MAX_TOPIC_BYTES} letters, digits, `.`, `_` and `-`, \
             found `{name}`"
        ))
    }
}

impl TryFrom<String> for ColumnName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let taken = [column::TIMESTAMP, KEY, VALUE, PARTITION, OFFSET, DATE];
        if taken.iter().any(|taken| name.eq_ignore_ascii_case(taken)) {
            return Err(format!(
                "`{name}` is a column of every such table; read the member of that name as \
                 `value->>'{name}'`, or, if it says when a row happened, name it as `time_column`"
            ));
        }
        let fits = (1..=MAX_NAME_BYTES).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if fits {
            return Ok(Self(name));
        }
        Err(format!(
            "expected a column's name of 1 to {MAX_NAME_BYTES} letters, digits and `_` that begins \
             with no digit, found `{name}`; read other members as `value->>'{name}'`"
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn source(settings: serde_json::Value) -> Result<Source, String> {
        let kafka: KafkaSource =
            serde_json::from_value(settings).map_err(|error| error.to_string())?;
        Source::new("payments", &kafka, None).map_err(|error| error.to_string())
    }

    #[test]
    fn the_table_has_the_declared_columns_between_key_and_value() {
        let columns = json!({"id": "bigint", "paid_at": "timestamp", "currency": "text"});
        let source = source(json!({
            "brokers": ["a:9092"], "topic": "payments", "format": "json", "columns": columns,
        }));
        let schema = source.unwrap().schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(
            names,
            [
                "timestamp",
                "key",
                "currency",
                "id",
                "paid_at",
                "value",
                "kafka_partition",
                "kafka_offset"
            ]
        );
        assert_eq!(*schema.field(4).data_type(), timestamp_type());
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_what_to_do() {
        for (columns, format, brokers, expected) in [
            (json!({"Value": "text"}), "json", json!(["a:1"]), "`value->>'Value'`"),
            (json!({"a b": "text"}), "json", json!(["a:1"]), "found `a b`"),
            (json!({"id": "integer"}), "json", json!(["a:1"]), "expected one of"),
            (json!({"id": "text", "ID": "text"}), "json", json!(["a:1"]), "found `id` twice"),
            (json!({"id": "text"}), "otlp", json!(["a:1"]), "the columns of `logs`"),
            (json!({}), "json", json!([]), "found none"),
            (json!({}), "avro", json!(["a:1"]), "expected `json` or `otlp`"),
        ] {
            let error = source(json!({
                "brokers": brokers, "topic": "t", "format": format, "columns": columns,
            }));
            let error = error.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let topic = source(json!({"brokers": ["a:1"], "topic": "a/b", "format": "json"}));
        assert!(topic.unwrap_err().contains("found `a/b`"));
    }

    #[test]
    fn without_brokers_it_reads_where_the_log_is() {
        let log = KafkaConfig {
            tls: Some(TlsConfig::default()),
            ..KafkaConfig::new(vec!["log:9092".to_owned().try_into().unwrap()])
        };
        let kafka: KafkaSource =
            serde_json::from_value(json!({"topic": "t", "format": "otlp"})).unwrap();
        let source = Source::new("t", &kafka, Some(&log));
        if cfg!(feature = "tls") {
            let client = source.unwrap().client;
            assert_eq!((&client.brokers, &client.tls), (&log.brokers, &log.tls));
        } else {
            assert!(source.unwrap_err().to_string().contains("--features kafka-tls"));
        }
    }
}

//! The table `metrics`: what `/metrics` shows, as rows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Float64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, Value};
use thalweg_query::{MadeTable, NamedTable};

use crate::telemetry;

/// Name of the table.
pub(crate) const METRICS: &str = "metrics";

/// The metrics of this node as they are when they are asked for.
pub(crate) fn table(handle: PrometheusHandle) -> NamedTable {
    let schema = schema();
    let rows = {
        let schema = schema.clone();
        move || rows(&schema, &telemetry::render(&handle))
    };
    // As `/metrics`, they are for whoever sees all services.
    let provider = MadeTable::new(schema, rows);
    NamedTable { name: METRICS.into(), provider, is_for_admins: false }
}

/// Name, labels as a JSON object, and value.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("labels", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
    ]))
}

fn rows(schema: &SchemaRef, text: &str) -> RecordBatch {
    let samples: Vec<Sample<'_>> = text.lines().filter_map(Sample::read).collect();
    let names = samples.iter().map(|sample| sample.name);
    let labels = samples.iter().map(|sample| Value::Object(sample.labels.clone()).to_string());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(names)),
        Arc::new(StringArray::from_iter_values(labels)),
        Arc::new(Float64Array::from_iter_values(samples.iter().map(|sample| sample.value))),
    ];
    RecordBatch::try_new(schema.clone(), columns).expect("columns are in the order of the schema")
}

/// A line of Prometheus' text format that is no comment.
#[derive(Debug, PartialEq)]
struct Sample<'a> {
    name: &'a str,
    labels: Map<String, Value>,
    value: f64,
}

impl<'a> Sample<'a> {
    fn read(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = Map::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            while !rest.starts_with('}') {
                let (label, quoted) = rest.split_once("=\"")?;
                let (value, behind) = unquote(quoted)?;
                labels.insert(label.to_owned(), value.into());
                rest = behind.strip_prefix(',').unwrap_or(behind);
            }
            rest = &rest[1..];
        }
        Some(Self { name, labels, value: rest.trim().parse().ok()? })
    }
}

/// Text as far as its closing quote, and what is behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut unquoted = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((unquoted, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => unquoted.push('\n'),
                other => unquoted.push(other),
            },
            _ => unquoted.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_of_prometheus_are_rows() {
        let sample = |line| {
            let Sample { name, labels, value } = Sample::read(line)?;
            Some((name, Value::Object(labels), value))
        };
        assert_eq!(sample("up 1"), Some(("up", json!({}), 1.0)));
        let two = r#"rows{topic="logs.a",partition="0"} 2.5"#;
        let labels = json!({"topic": "logs.a", "partition": "0"});
        assert_eq!(sample(two), Some(("rows", labels, 2.5)));
        let odd = r#"odd{text="a \"b\"} \\ , c=\n"} 3"#;
        assert_eq!(sample(odd), Some(("odd", json!({"text": "a \"b\"} \\ , c=\n"}), 3.0)));
        for none in ["# HELP up x", "", "up", "up{a=\"b} 1", "up{a} 1"] {
            assert_eq!(sample(none), None, "{none}");
        }
        let batch = rows(&schema(), "# TYPE a gauge\na 1\nb{c=\"d\"} 2\n");
        assert_eq!(batch.num_rows(), 2);
    }
}

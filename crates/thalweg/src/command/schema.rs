//! `thalweg schema`: what events, the configuration and the HTTP interface look like.

use std::process::ExitCode;

use arrow::datatypes::{DataType, Schema};
use thalweg_event::{schema::log_schema, span::span_schema};

use crate::{cli::SchemaKind, config::Config, openapi};

pub(crate) fn run(kind: SchemaKind) -> anyhow::Result<ExitCode> {
    match kind {
        SchemaKind::Events => print_columns(&log_schema()),
        SchemaKind::Spans => print_columns(&span_schema()),
        SchemaKind::Config => {
            println!("{}", serde_json::to_string_pretty(&schemars::schema_for!(Config))?);
        }
        SchemaKind::Openapi => println!("{}", serde_json::to_string_pretty(&openapi::document())?),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_columns(schema: &Schema) {
    println!("{:<20} {:<28} null", "column", "type");
    for field in schema.fields() {
        let nullable = if field.is_nullable() { "yes" } else { "no" };
        println!("{:<20} {:<28} {nullable}", field.name(), type_name(field.data_type()));
    }
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Dictionary(_, values) => format!("{} (dictionary)", type_name(values)),
        DataType::Timestamp(unit, _) => format!("timestamp({unit}, UTC)"),
        other => other.to_string().to_lowercase(),
    }
}

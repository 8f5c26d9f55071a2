//! `thalweg schema`: what events, the configuration and the HTTP interface look like.

use std::process::ExitCode;

use arrow::datatypes::DataType;
use thalweg_event::schema::log_schema;

use crate::{cli::SchemaKind, config::Config, openapi};

pub(crate) fn run(kind: SchemaKind) -> anyhow::Result<ExitCode> {
    match kind {
        SchemaKind::Events => {
            println!("{:<20} {:<28} null", "column", "type");
            for field in log_schema().fields() {
                let nullable = if field.is_nullable() { "yes" } else { "no" };
                println!("{:<20} {:<28} {nullable}", field.name(), type_name(field.data_type()));
            }
        }
        SchemaKind::Config => {
            println!("{}", serde_json::to_string_pretty(&schemars::schema_for!(Config))?);
        }
        SchemaKind::Openapi => println!("{}", serde_json::to_string_pretty(&openapi::document())?),
    }
    Ok(ExitCode::SUCCESS)
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Dictionary(_, values) => format!("{} (dictionary)", type_name(values)),
        DataType::Timestamp(unit, _) => format!("timestamp({unit}, UTC)"),
        other => other.to_string().to_lowercase(),
    }
}

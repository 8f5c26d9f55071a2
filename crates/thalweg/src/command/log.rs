//! `thalweg topics` and `thalweg groups`: what the log of a server holds, and who has read how far.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;
use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array},
    util::pretty::pretty_format_batches,
};

use crate::{
    cli::{LogArgs, Output},
    client::Client,
    log_api::{GroupInfo, PartitionInfo},
};

/// Prints the topics of the log.
pub(crate) fn topics(args: &LogArgs) -> anyhow::Result<ExitCode> {
    print(args, "/api/v1/topics", |json| {
        let rows: Vec<PartitionInfo> = serde_json::from_str(json)?;
        Ok(RecordBatch::try_from_iter([
            ("topic", text(&rows, |row| &row.topic)),
            ("partition", number(&rows, |row| row.partition)),
            ("start", offset(&rows, |row| row.start)),
            ("end", offset(&rows, |row| row.end)),
        ])?)
    })
}

/// Prints how far consumer groups have read.
pub(crate) fn groups(args: &LogArgs) -> anyhow::Result<ExitCode> {
    print(args, "/api/v1/groups", |json| {
        let rows: Vec<GroupInfo> = serde_json::from_str(json)?;
        Ok(RecordBatch::try_from_iter([
            ("group", text(&rows, |row| &row.group)),
            ("topic", text(&rows, |row| &row.topic)),
            ("partition", number(&rows, |row| row.partition)),
            ("committed", offset(&rows, |row| row.committed)),
            ("end", offset(&rows, |row| row.end)),
            ("lag", offset(&rows, |row| row.lag)),
        ])?)
    })
}

fn print(
    args: &LogArgs,
    path: &str,
    rows: impl FnOnce(&str) -> anyhow::Result<RecordBatch>,
) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?;
    let json = super::block_on(async { anyhow::Ok(client.get(path, &[]).await?.text().await?) })??;
    if args.output == Output::Json {
        println!("{json}");
        return Ok(ExitCode::SUCCESS);
    }
    let rows = rows(&json).with_context(|| format!("unexpected answer: {json}"))?;
    if args.output == Output::Csv {
        print!("{}", super::csv(&rows)?);
    } else {
        println!("{}", pretty_format_batches(&[rows])?);
    }
    Ok(ExitCode::SUCCESS)
}

fn text<T>(rows: &[T], of: impl Fn(&T) -> &String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
}

fn number<T>(rows: &[T], of: impl Fn(&T) -> u32) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(rows.iter().map(of)))
}

fn offset<T>(rows: &[T], of: impl Fn(&T) -> u64) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(rows.iter().map(of)))
}

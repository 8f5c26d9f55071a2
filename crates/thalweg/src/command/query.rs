//! `thalweg query`: SQL from the command line.

use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
};

use arrow::{array::RecordBatch, ipc::reader::StreamReader, util::pretty::pretty_format_batches};
use futures::StreamExt as _;

use crate::{
    cli::{Output, QueryArgs},
    client::{ARROW_STREAM, Client, MAX_ROWS},
};

/// Rows of a table for people unless they ask for more.
pub(super) const TABLE_ROWS: usize = 1_000;

pub(crate) fn run(args: &QueryArgs) -> anyhow::Result<ExitCode> {
    let sql = match args.sql.as_str() {
        "-" => {
            let mut sql = String::new();
            std::io::stdin().read_to_string(&mut sql)?;
            sql
        }
        sql => sql.to_owned(),
    };
    super::block_on(print(&Client::new(&args.server)?, &sql, args.limit, args.output))??;
    Ok(ExitCode::SUCCESS)
}

/// Prints the answer to `sql`.
async fn print(
    client: &Client,
    sql: &str,
    limit: Option<usize>,
    output: Output,
) -> anyhow::Result<()> {
    let accept = match output {
        Output::Table => {
            println!("{}", table(client, sql, limit.unwrap_or(TABLE_ROWS)).await?);
            return Ok(());
        }
        Output::Json => "application/x-ndjson",
        Output::Csv => "text/csv",
    };
    let response = client.sql(sql, limit.unwrap_or(MAX_ROWS), accept).await?;
    let mut out = std::io::stdout();
    let mut body = response.bytes_stream();
    while let Some(part) = body.next().await {
        out.write_all(&part?)?;
    }
    Ok(out.flush()?)
}

/// The answer to `sql` as a table for people, with the number of rows under it.
pub(super) async fn table(client: &Client, sql: &str, limit: usize) -> anyhow::Result<String> {
    let body = client.sql(sql, limit, ARROW_STREAM).await?.bytes().await?;
    let reader = StreamReader::try_new(&body[..], None)?;
    // Without a row, the header still says what was asked.
    let header = RecordBatch::new_empty(reader.schema());
    let mut batches = reader.collect::<Result<Vec<RecordBatch>, _>>()?;
    if batches.is_empty() {
        batches.push(header);
    }
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let s = if rows == 1 { "" } else { "s" };
    let more = if rows == limit { "; there may be more, see --limit" } else { "" };
    Ok(format!("{}\n{rows} row{s}{more}", pretty_format_batches(&batches)?))
}

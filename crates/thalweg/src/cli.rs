//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use thalweg_alert::Period;

/// Logs from the wire to a SQL answer, in one binary.
#[derive(Debug, Parser)]
#[command(name = "thalweg", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(ConfigArgs),
    /// Run a server with eight simulated services and an incident
    Demo(DemoArgs),
    /// Send log files to a server; continues where an interrupted run stopped
    Ingest(IngestArgs),
    /// Ask a server a SQL question
    Query(QueryArgs),
    /// Follow new events as they arrive
    Tail(TailArgs),
    /// Show alerts: what is wrong, since when, and what was
    Alerts(AlertsArgs),
    /// Watch services and alerts on the terminal
    Top(TopArgs),
    /// Show the topics of the log, by partition
    Topics(LogArgs),
    /// Show how far consumer groups have read the log, and how far they lag behind
    Groups(LogArgs),
    /// Begin a view or a table anew from a time on; it answers as before until that is done
    ///
    /// A view begins with the events since that time, from the lake and then the log, and forgets what
    /// was before. A table keeps its rows from before; those at and after that time are read from
    /// the log anew, and take the place of what the table has in one step: after an upgrade that
    /// reads more, or when files of the table were damaged. It is refused when the log no longer has
    /// what came since, and ends without a change when the table would have fewer rows.
    Replay(ReplayArgs),
    /// Create, list and revoke tokens, with which clients prove who they are
    #[command(subcommand)]
    Token(TokenCommand),
    /// Check a configuration file
    Check {
        /// The YAML file
        config: PathBuf,
    },
    /// Print a schema
    Schema {
        /// Which one
        #[arg(value_enum, default_value_t = SchemaKind::Events)]
        kind: SchemaKind,
    },
    /// Examine this machine and, if one runs, the server
    Doctor(ConfigArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token and print it: it is shown only this once
    Create(TokenCreateArgs),
    /// List the tokens
    List(ConfigArgs),
    /// Revoke a token; servers know within a second
    Revoke {
        /// Id or name of the token
        token: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// What to call the token, in lists and in the audit log
    pub(crate) name: String,
    /// What it is good for: ingest, query or admin (which comprises the others); may be repeated
    #[arg(long = "scope", required = true, value_delimiter = ',')]
    pub(crate) scopes: Vec<thalweg_access::Scope>,
    /// Limit it to a service's rows, in reading and writing; may be repeated
    #[arg(long = "service")]
    pub(crate) services: Vec<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Which configuration to run with: file < `THALWEG_…` environment < flags.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigArgs {
    /// YAML configuration file [default: ./thalweg.yaml if there is one]
    #[arg(short, long, env = "THALWEG_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Directory for the log and the tables
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Change one setting, e.g. `--set listen.http=127.0.0.1:7171`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Stop after this long (e.g. 20s, 5m) and check that every acknowledged event can be queried
    /// exactly once
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) run_for: Option<std::time::Duration>,
    /// Leave the shop in peace; with --for, check that no alert fired
    #[arg(long)]
    pub(crate) no_incident: bool,
    /// Shop requests per second; each logs about five events
    #[arg(long, default_value_t = 60.0)]
    pub(crate) rate: f64,
    /// Seed of the simulation
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// How to print the rows
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The view or the table
    pub(crate) name: String,
    /// Time of the first events, e.g. 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) from: String,
    /// Let a table lose the rows that the log has no longer
    #[arg(long)]
    pub(crate) allow_fewer: bool,
    /// Do not wait until the new version answers
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// The server's HTTP address
    #[arg(long, env = "THALWEG_URL", default_value = "http://127.0.0.1:7070")]
    pub(crate) url: String,
    /// Token to show to the server; others on this machine can see flags, so rather set the
    /// variable
    #[arg(long, env = "THALWEG_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Authorities to trust besides the system's, in PEM
    #[arg(long, env = "THALWEG_CA_CERT", value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// Certificate to show to a server that asks for one, and its key, in one PEM file
    #[arg(long, env = "THALWEG_CLIENT_CERT", value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Files to send; `-` is standard input; .gz and .zst are decompressed
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Format of the lines: ndjson, text, clf, combined, combined-time, or one from the server's
    /// configuration
    #[arg(short, long, default_value = "ndjson")]
    pub(crate) format: String,
    /// Service of events that name none
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// Send files again that were sent before
    #[arg(long)]
    pub(crate) again: bool,
}

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The SQL; `-` reads it from standard input
    pub(crate) sql: String,
    /// Most rows to print [default: 1000 in a table, 1000000 in json and csv]
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// How to print the rows
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Only events that match, e.g. 'service:checkout level>=warn refused'
    pub(crate) search: Option<String>,
    /// Only this service
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// Only this level and above
    #[arg(long)]
    pub(crate) level: Option<String>,
    /// How to print the events
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct AlertsArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Only alerts in this state: pending, firing or resolved
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// Show them anew every two seconds, until Ctrl-C
    #[arg(long)]
    pub(crate) follow: bool,
    /// How to print the alerts
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// How often to ask the server
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub(crate) every: std::time::Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaKind {
    /// Columns of table `logs`
    Events,
    /// Columns of table `spans`
    Spans,
    /// JSON Schema of the configuration file, for editors
    Config,
    /// OpenAPI document of the HTTP interface
    Openapi,
}

/// A span of time such as `20s`, `5m` or `1h`.
fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    Period::<0>::try_from(text.to_owned()).map(Period::get)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        for bad in ["", "20", "s", "-1s", "1é", "99999999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}

//! `thalweg serve`: the server, until it is told to stop.

use std::{process::ExitCode, time::Duration};

use crate::{cli::ConfigArgs, config::Config, server::Server, telemetry};

/// Our own crates say what happens, the libraries only what goes wrong. That a commit meets another
/// process' is as it should be, and what comes of it the lake says itself.
const DEFAULT_FILTER: &str = "warn,thalweg=info,thalweg_log=info,thalweg_ingest=info,\
                              thalweg_lake=info,thalweg_query=info,\
                              deltalake_core::kernel::transaction=off";

/// Longest that the end waits for work that blocks, such as for a broker that is away. What had to be
/// durable is so by then.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args)?;
    telemetry::start_logging(&config.logging, DEFAULT_FILTER)?;
    let metrics = telemetry::start_metrics()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let served = runtime.block_on(async {
        let server = Server::start(&config, metrics).await?;
        let addresses = server.addresses();
        tracing::info!(
            http = %addresses.http,
            otlp_grpc = %addresses.otlp_grpc,
            syslog = %addresses.syslog,
            postgres = %addresses.postgres,
            data_dir = %config.data_dir.display(),
            "ready"
        );
        let signal = termination().await?;
        tracing::info!("{signal}: finishing what is under way");
        server.stop().await;
        tracing::info!("stopped");
        anyhow::Ok(())
    });
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    served.map(|()| ExitCode::SUCCESS)
}

/// Waits for SIGTERM or SIGINT and names it.
pub(super) async fn termination() -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

//! The server's own logs and metrics.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::Logging;

/// Bucket bounds of every histogram that counts seconds.
const SECONDS_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Starts logging to standard error.
pub(crate) fn start_logging(config: &Logging, default_filter: &str) -> anyhow::Result<()> {
    let filter = config.filter.as_deref().unwrap_or(default_filter);
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("logging.filter: `{filter}` is no filter such as info,thalweg_lake=debug")
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer =
        fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    if config.json {
        registry.with(layer.json()).try_init()?;
    } else {
        registry.with(layer.with_target(false)).try_init()?;
    }
    Ok(())
}

/// Starts collecting metrics; the handle renders them for Prometheus.
pub(crate) fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let suffix = Matcher::Suffix("_seconds".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(suffix, &SECONDS_BUCKETS)?
        .install_recorder()?;
    metrics_process::Collector::default().describe();
    Ok(handle)
}

/// All metrics in Prometheus' text format.
pub(crate) fn render(handle: &PrometheusHandle) -> String {
    metrics_process::Collector::default().collect();
    handle.run_upkeep();
    handle.render()
}

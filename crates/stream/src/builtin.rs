//! Views that every server keeps.

use crate::config::{Emit, Late, ViewConfig, ViewOptions};

/// Names, lateness in seconds, and queries.
const VIEWS: [(&str, u64, &str); 6] = [
    ("service_health", 10, SERVICE_HEALTH),
    // A span is sent when it has ended, a caller's after those it called.
    ("service_map", 60, SERVICE_MAP),
    ("refused_clients", 10, REFUSED_CLIENTS),
    ("probing_clients", 10, PROBING_CLIENTS),
    ("account_sweeps", 10, ACCOUNT_SWEEPS),
    ("top_templates", 10, TOP_TEMPLATES),
];

/// Throughput, errors and latency of each service, by the minute.
const SERVICE_HEALTH: &str = "\
SELECT service, count(*) AS events,
       count(*) FILTER (WHERE severity_number >= 17) AS errors,
       count(*) FILTER (WHERE severity_number >= 17) / CAST(count(*) AS DOUBLE) AS error_rate,
       count(http_status) AS requests,
       count(*) FILTER (WHERE http_status >= 500) AS failed_requests,
       approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) AS p50_ms,
       approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms,
       approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_ms
FROM logs
GROUP BY tumble(INTERVAL '1 minute'), service";

/// Which service calls which: a span of one, below a span of another.
/// Clocks may differ by a second.
const SERVICE_MAP: &str = "\
SELECT caller.service AS caller, callee.service AS callee, count(*) AS calls,
       count(*) FILTER (WHERE callee.status_code = 'ERROR') AS errors,
       count(*) FILTER (WHERE callee.status_code = 'ERROR') / CAST(count(*) AS DOUBLE) AS error_rate,
       approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY callee.duration_ms) AS p50_ms,
       approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY callee.duration_ms) AS p95_ms,
       approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY callee.duration_ms) AS p99_ms
FROM spans AS callee JOIN spans AS caller
  ON callee.trace_id = caller.trace_id AND callee.parent_span_id = caller.span_id
 AND caller.timestamp BETWEEN callee.timestamp - INTERVAL '1 minute'
                          AND callee.timestamp + INTERVAL '1 second'
WHERE callee.service <> caller.service
GROUP BY tumble(INTERVAL '1 minute', callee.timestamp), caller.service, callee.service";

/// Clients that were often refused, or asked for what is not there.
const REFUSED_CLIENTS: &str = "\
SELECT client_ip, service,
       count(*) FILTER (WHERE http_status = 401) AS unauthorized,
       count(*) FILTER (WHERE http_status = 403) AS forbidden,
       count(*) FILTER (WHERE http_status = 404) AS not_found,
       count(*) AS refused
FROM logs
WHERE http_status IN (401, 403, 404) AND client_ip IS NOT NULL
GROUP BY tumble(INTERVAL '1 minute'), client_ip, service
HAVING count(*) >= 20";

/// Clients whose paths try to leave the tree of documents, or to inject SQL, scripts or commands.
const PROBING_CLIENTS: &str = r"
SELECT client_ip, service, count(*) AS probes,
       count(*) FILTER (WHERE http_status < 400) AS answered,
       min(http_path) AS example
FROM logs
WHERE http_path IS NOT NULL AND http_path ~* '(\.\./|\.\.%2f|%2e%2e|%00|/etc/passwd|union(\s|\+|%20)+(all(\s|\+|%20)+)?select|(''|%27)(\s|\+|%20)*or(\s|\+|%20)|<script|%3cscript|\$\{jndi:|;(\s|\+|%20)*(cat|wget|curl)(\s|\+|%20))'
GROUP BY tumble(INTERVAL '1 minute'), client_ip, service";

/// Clients that were refused in the name of many accounts.
const ACCOUNT_SWEEPS: &str = "\
SELECT client_ip, count(DISTINCT attributes->>'user.id') AS accounts, count(*) AS refused
FROM logs
WHERE http_status IN (401, 403) AND client_ip IS NOT NULL
GROUP BY tumble(INTERVAL '5 minutes'), client_ip
HAVING count(DISTINCT attributes->>'user.id') >= 10";

/// How often services log which messages. Table `templates` has the text to the id.
const TOP_TEMPLATES: &str = "\
SELECT service, level, template_id(message) AS template_id, count(*) AS events
FROM logs
WHERE message IS NOT NULL
GROUP BY tumble(INTERVAL '1 minute'), service, level, template_id(message)";

/// The views that every server keeps, unless it is told not to.
pub fn builtin_views() -> Vec<ViewConfig> {
    let view = |(name, lateness_secs, query): (&str, u64, &str)| ViewConfig {
        name: name.to_owned().try_into().expect("a constant name"),
        query: query.to_owned(),
        // Old logs that someone loads are late for all of these: that is no news.
        options: ViewOptions {
            lateness_secs,
            emit: Emit::OnUpdate,
            late: Late::Count,
            ..ViewOptions::default()
        },
    };
    VIEWS.into_iter().map(view).collect()
}

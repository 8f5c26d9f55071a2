//! The public web-server log of `shared/data`, from the command line to SQL.

use std::path::Path;

use crate::server::{Server, thalweg};

pub(crate) const WEBLOG: &str = "../../../shared/data/weblog.csv";
pub(crate) const CONFIG: &str = "../../examples/weblog.yaml";

fn ingest(server: &Server, state: &Path) -> String {
    let output = thalweg()
        .env("XDG_STATE_HOME", state)
        .args(["ingest", "--url", &server.http, "--format", "weblog", WEBLOG])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn the_public_web_log_is_ingested_and_counted() {
    if !Path::new(WEBLOG).exists() {
        eprintln!("SKIPPED: {WEBLOG} is absent, so the real web log was NOT tested");
        return;
    }
    let (data, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start_with(data.path(), Some(Path::new(CONFIG)), &[]);
    let answer = ingest(&server, state.path());
    assert!(answer.contains("15789 accepted, 273 rejected"), "{answer}");
    assert!(answer.contains("rejected: "), "reasons are shown: {answer}");

    let status = server.sql("SELECT http_status, count(*) FROM logs GROUP BY 1 ORDER BY 2 DESC");
    assert_eq!(status, ["200,11330", "302,3498", "304,658", "404,251", "206,52"]);
    let method = server.sql("SELECT http_method, count(*) FROM logs GROUP BY 1 ORDER BY 2 DESC");
    assert_eq!(method, ["GET,15098", "POST,682", "HEAD,9"]);
    let times = server
        .sql("SELECT CAST(min(timestamp) AS VARCHAR), CAST(max(timestamp) AS VARCHAR) FROM logs");
    assert!(times[0].starts_with("2017-11-07T23:59:19"), "{times:?}");
    assert!(times[0].contains("2018-03-02T15:47:46"), "{times:?}");
    let levels = server.sql("SELECT level, count(*) FROM logs GROUP BY 1 ORDER BY 1");
    assert_eq!(levels, ["INFO,15538", "WARN,251"]);
    assert_eq!(server.sql("SELECT count(*), count(reason) FROM rejected"), ["273,273"]);

    // A second run finds nothing new and repeats no row.
    assert!(ingest(&server, state.path()).contains("nothing new"));
    assert_eq!(server.sql("SELECT count(*) FROM logs"), ["15789"]);
}

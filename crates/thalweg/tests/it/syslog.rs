//! Syslog from the senders that machines have: logger and rsyslog.

use std::{
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    certificates::certify,
    server::{Server, thalweg},
};

/// Longest that a message may take from its sender to an answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether `program` is there; says so when not, lest a test seem to have passed.
fn is_installed(program: &str, args: &[&str]) -> bool {
    let found = Command::new(program).args(args).stdout(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: {program} is not installed (`make test` does), so it was NOT tested");
    }
    found
}

/// The only row that answers `sql`, once there is one.
fn awaited(server: &Server, sql: &str) -> String {
    let begun = Instant::now();
    loop {
        let rows = server.sql(sql);
        match &rows[..] {
            [row] => return row.clone(),
            [] => assert!(begun.elapsed() < PATIENCE, "no row came for {sql}"),
            _ => panic!("{sql}: {rows:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn logger(args: &[&str]) {
    let output = Command::new("logger").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn logger_sends_by_either_rfc_over_udp_and_tcp() {
    if !is_installed("logger", &["--version"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let port = server.syslog.rsplit(':').next().unwrap();
    for (number, options) in [
        &["--udp", "--rfc5424"][..],
        &["--udp", "--rfc3164"],
        &["--tcp", "--rfc5424"],
        &["--tcp", "--rfc5424", "--octet-count"],
        &["--tcp", "--rfc3164"],
        &["--tcp", "--rfc3164", "--octet-count"],
    ]
    .into_iter()
    .enumerate()
    {
        let message = format!("{number}: 7 € for café [and] tea");
        let to = ["--server", "127.0.0.1", "--port", port, "--priority", "auth.err"];
        let from = ["--tag", "shop", "--id=4711", &message];
        logger(&[&to[..], options, &from].concat());
        let row = awaited(
            &server,
            &format!(
                "SELECT service, level, attributes->>'syslog.facility', attributes->>'syslog.procid', \
                 host IS NOT NULL, abs(date_part('epoch', observed_timestamp - timestamp)) < 60, client_ip \
                 FROM logs WHERE message = '{message}'"
            ),
        );
        assert_eq!(row, "shop,ERROR,auth,4711,true,true,127.0.0.1", "{options:?}");
    }
    let data = r#"ip="192.0.2.\"1\"""#;
    logger(&[
        "--server",
        "127.0.0.1",
        "--port",
        port,
        "--tcp",
        "--rfc5424",
        "--msgid",
        "ID47",
        "--sd-id",
        "origin@1",
        "--sd-param",
        data,
        "structured",
    ]);
    let row = awaited(
        &server,
        "SELECT attributes->>'syslog.msgid', replace(attributes->>'origin@1.ip', '\"', '|') \
         FROM logs WHERE message = 'structured'",
    );
    assert_eq!(row, "ID47,192.0.2.|1|");
}

/// A running rsyslogd, which forwards what comes to its socket; killed when dropped.
struct Rsyslog(Child);

impl Rsyslog {
    fn start(directory: &Path, port: &str) -> Self {
        let directory = directory.display();
        let target = format!("type=\"omfwd\" target=\"127.0.0.1\" port=\"{port}\"");
        let config = format!(
            r#"
            global(workDirectory="{directory}")
            module(load="imuxsock" SysSock.Use="off")
            input(type="imuxsock" Socket="{directory}/socket")
            if $programname == "new" then
                action({target} protocol="tcp" TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format")
            if $programname == "iso" then
                action({target} protocol="tcp" template="RSYSLOG_ForwardFormat")
            if $programname == "old" then
                action({target} protocol="udp" template="RSYSLOG_TraditionalForwardFormat")
            "#
        );
        let file = format!("{directory}/rsyslog.conf");
        std::fs::write(&file, config).unwrap();
        let pid_file = format!("{directory}/rsyslog.pid");
        let process = Command::new("rsyslogd").args(["-n", "-f", &file, "-i", &pid_file]).spawn();
        Self(process.unwrap())
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn rsyslog_forwards_in_each_of_its_formats() {
    if !is_installed("rsyslogd", &["-v"]) || !is_installed("logger", &["--version"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &[]);
    let _rsyslog = Rsyslog::start(directory.path(), server.syslog.rsplit(':').next().unwrap());
    let socket = directory.path().join("socket");
    let begun = Instant::now();
    while !socket.exists() {
        assert!(begun.elapsed() < PATIENCE, "rsyslogd has made no socket");
        std::thread::sleep(Duration::from_millis(50));
    }
    for format in ["new", "iso", "old"] {
        for number in 0..20 {
            let message = format!("{format} {number}: café");
            let socket = socket.to_str().unwrap();
            logger(&[
                "--socket",
                socket,
                "--priority",
                "local3.notice",
                "--tag",
                format,
                "--id=7",
                &message,
            ]);
        }
        let count = format!(
            "SELECT count(*) FROM logs WHERE service = '{format}' AND severity_number = 10 \
             AND attributes->>'syslog.facility' = 'local3' AND attributes->>'syslog.procid' = '7' \
             AND host IS NOT NULL AND message LIKE '{format} %: café' \
             AND abs(date_part('epoch', observed_timestamp - timestamp)) < 60 HAVING count(*) = 20"
        );
        assert_eq!(awaited(&server, &count), "20");
    }
}

#[test]
fn over_tls_senders_show_a_certificate_where_the_server_asks_for_one() {
    if !is_installed("openssl", &["version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (ca, client) = (path("ca.pem"), path("client.pem"));
    let tls =
        format!("tls={{cert: {}, key: {}, client_ca: {ca}}}", path("cert.pem"), path("key.pem"));
    let server = Server::start(&folder.path().join("data"), &[&tls]);
    let port = server.syslog.rsplit(':').next().unwrap();
    let connect = format!("127.0.0.1:{port}");
    let send = |message: &str, options: &[&str]| {
        let mut openssl = Command::new("openssl")
            .args(["s_client", "-quiet", "-no_ign_eof", "-connect", &connect])
            .args(["-CAfile", &ca, "-verify_hostname", "localhost", "-verify_return_error"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = format!("<34>1 2026-01-05T10:00:00Z box shop - - - {message}\n");
        // Without a certificate it may be gone already.
        let _ = openssl.stdin.take().unwrap().write_all(line.as_bytes());
        openssl.wait().unwrap();
    };
    send("without a certificate", &[]);
    send("with a certificate", &["-cert", &client, "-key", &client]);
    let url = server.http.replace("http://127.0.0.1", "https://localhost");
    let begun = Instant::now();
    loop {
        let mut query = thalweg();
        query.args(["query", "--output", "csv", "SELECT message FROM logs", "--url", &url]);
        let output = query.args(["--ca-cert", &ca, "--client-cert", &client]).output().unwrap();
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        if found == "message\nwith a certificate\n" {
            return;
        }
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(begun.elapsed() < PATIENCE, "found {found:?}; {error}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

//! Mail to a real SMTP server, in the clear and encrypted.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;
use thalweg_alert::UNDELIVERED;

use crate::node::{Disk, Table, eventually};

const SCRIPT: &str = "../../clients/smtp_server.py";
const PATIENCE: Duration = Duration::from_secs(20);

/// `aiosmtpd`, and what it gets.
struct MailServer {
    process: Child,
    port: u64,
    mails: mpsc::Receiver<Value>,
}

impl MailServer {
    /// Nothing when there is no Python with the library.
    fn start(arguments: &[&str]) -> Option<Self> {
        let python = std::env::var_os("CLIENTS_PYTHON").map(PathBuf::from);
        let Some(python) = python.filter(|python| python.exists()) else {
            eprintln!(
                "SKIPPED: CLIENTS_PYTHON is not set (`make test` does), so mail was NOT tested"
            );
            return None;
        };
        let mut process = Command::new(python)
            .arg(SCRIPT)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Clients that do not trust it are none of its failures.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, mails) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        let port: Value = mails.recv_timeout(PATIENCE).unwrap();
        Some(Self { process, port: port.as_u64().unwrap(), mails })
    }

    fn next(&self) -> Value {
        self.mails.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn yaml(port: u64, to: &str, more: &str) -> String {
    format!(
        "alerts: [{{name: Errors, query: SELECT, every: 1s, annotations: {{summary: '{{{{ service }}}} fails'}}}}]\n\
         alerting:\n  receivers:\n    - name: mail\n      \
         retry: {{first: 300ms, longest: 300ms, give_up_after: 10s}}\n      \
         email: {{to: [{to}], from: Thalweg <alerts@example.com>, host: localhost, port: {port}, {more}}}\n  \
         routes: [{{receivers: [mail], group_wait: 0s}}]\n"
    )
}

/// A certificate of `localhost`, and its key.
fn certificate(directory: &Path) -> (PathBuf, PathBuf) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    std::fs::write(&cert, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_is_sent_again_when_the_server_asks_for_it() {
    let Some(server) = MailServer::start(&["plain"]) else { return };
    let (disk, table) = (Disk::new(), Table::of(&[("café", 0.5)]));
    let to = "later@example.com, Ops <ops@example.com>";
    let alerts = disk.start(&yaml(server.port, to, "security: none"), &table).await;
    let mail = server.next();
    assert_eq!(mail["from"], "alerts@example.com");
    assert_eq!(mail["to"], serde_json::json!(["later@example.com", "ops@example.com"]));
    assert_eq!(mail["headers"]["Subject"], "[FIRING:1] Errors");
    assert_eq!(mail["headers"]["Auto-Submitted"], "auto-generated");
    let body = mail["body"].as_str().unwrap();
    assert!(body.contains("what: café fails"), "{body}");
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_does_not_exist_is_not_tried_again() {
    let Some(server) = MailServer::start(&["plain"]) else { return };
    let (disk, table) = (Disk::new(), Table::of(&[("cart", 0.5)]));
    let yaml = yaml(server.port, "nobody@example.com", "security: none");
    let alerts = disk.start(&yaml, &table).await;
    let rows = eventually("a row in undelivered", async || {
        Some(disk.rows(UNDELIVERED, &["tries", "reason"]).await).filter(|rows| !rows.is_empty())
    })
    .await;
    assert_eq!((&*rows[0][0], rows[0][1].contains("no such user")), ("1", true), "{rows:?}");
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_is_encrypted_and_the_password_is_sent_to_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(directory.path());
    let password = directory.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    for mode in ["starttls", "tls"] {
        let arguments = [mode, cert.to_str().unwrap(), key.to_str().unwrap()];
        let Some(server) = MailServer::start(&arguments) else { return };
        let (disk, table) = (Disk::new(), Table::of(&[("cart", 0.5)]));
        let login =
            format!("security: {mode}, username: ops, password: 'file:{}'", password.display());
        let trusted = format!("{login}, ca_cert: '{}'", cert.display());
        let alerts = disk.start(&yaml(server.port, "ops@example.com", &trusted), &table).await;
        assert_eq!(server.next()["tls"], true, "{mode}");
        alerts.stop().await;

        let disk = Disk::new();
        let untrusted = yaml(server.port, "ops@example.com", &login).replace("10s}", "0s}");
        let alerts = disk.start(&untrusted, &table).await;
        let rows = eventually("a row in undelivered", async || {
            Some(disk.rows(UNDELIVERED, &["reason"]).await).filter(|rows| !rows.is_empty())
        })
        .await;
        assert!(rows[0][0].contains("certificate"), "{rows:?}");
        alerts.stop().await;
    }
    let Some(plain) = MailServer::start(&["plain"]) else { return };
    let (disk, table) = (Disk::new(), Table::of(&[("cart", 0.5)]));
    let yaml = yaml(plain.port, "ops@example.com", "security: starttls").replace("10s}", "0s}");
    let alerts = disk.start(&yaml, &table).await;
    let rows = eventually("a row in undelivered", async || {
        Some(disk.rows(UNDELIVERED, &["reason"]).await).filter(|rows| !rows.is_empty())
    })
    .await;
    assert!(rows[0][0].to_lowercase().contains("starttls"), "{rows:?}");
    alerts.stop().await;
}

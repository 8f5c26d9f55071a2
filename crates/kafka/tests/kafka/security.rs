//! Brokers that ask who is there, and what they may do.

use std::path::Path;

use thalweg_kafka::{KafkaConfig, SaslConfig, SaslMechanism};
use thalweg_kafka_broker::{Cluster, Options};
use thalweg_log::{Log as _, LogConfig, LogError};

use crate::node::{ENCODINGS, all_ids, close, config, events, open, routine, topics};

/// Settings of a thalweg that shows `password`.
fn with_password(
    config: KafkaConfig,
    directory: &Path,
    mechanism: SaslMechanism,
    password: &str,
) -> KafkaConfig {
    let password_file = directory.join("password");
    std::fs::write(&password_file, format!("{password}\n")).unwrap();
    let sasl = SaslConfig { mechanism, username: "thalweg".into(), password_file };
    KafkaConfig { sasl: Some(sasl), ..config }
}

/// A broker that knows the users `admin` and `thalweg` by their passwords, and lets the latter do
/// what it is allowed.
pub(crate) fn plain_cluster() -> Cluster {
    let settings = [
        "sasl.enabled.mechanisms=PLAIN",
        "sasl.mechanism.inter.broker.protocol=PLAIN",
        "listener.name.client.plain.sasl.jaas.config=\
         org.apache.kafka.common.security.plain.PlainLoginModule required username=\"admin\" \
         password=\"admin-secret\" user_admin=\"admin-secret\" user_thalweg=\"s3cret\";",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:admin;User:ANONYMOUS",
    ];
    Cluster::start(Options {
        security_protocol: "SASL_PLAINTEXT",
        settings: settings.map(str::to_owned).to_vec(),
        ..Options::default()
    })
    .unwrap()
}

/// Changes what `thalweg` may do.
pub(crate) fn acl(cluster: &Cluster, directory: &Path, change: &[&str]) {
    let admin = directory.join("admin.properties");
    std::fs::write(
        &admin,
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=\
         org.apache.kafka.common.security.plain.PlainLoginModule required username=\"admin\" \
         password=\"admin-secret\";\n",
    )
    .unwrap();
    let output = cluster
        .java()
        .command(128, "org.apache.kafka.tools.AclCommand")
        .args(["--bootstrap-server", &cluster.addresses()[0], "--command-config"])
        .arg(&admin)
        .args(["--add", "--force"])
        .args(change)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_asked_for_and_what_is_not_allowed_is_refused_with_the_reason() {
    let cluster = plain_cluster();
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    let settings = |password| {
        let config = config(&cluster, &spool, ENCODINGS[0]);
        with_password(config, directory.path(), SaslMechanism::Plain, password)
    };
    let everything =
        ["--allow-principal", "User:thalweg", "--operation", "All", "--topic", "*", "--group", "*"];
    acl(&cluster, directory.path(), &everything);
    acl(&cluster, directory.path(), &[&everything[..4], &["--cluster"]].concat());

    let wrong = KafkaConfig { connect_within_secs: 3, ..settings("guessed") };
    let opened = thalweg_kafka::KafkaLog::open(wrong, LogConfig::default(), topics()).await;
    let error = opened.err().unwrap();
    assert!(error.to_string().contains("correct the addresses, `tls` and `sasl`"), "{error}");

    let log = open(settings("s3cret")).await;
    log.append(routine(0), events("a", [("1", "m")].into_iter())).await.unwrap();
    assert_eq!(all_ids(&log, &routine(0)).await, ["1"]);
    let no_writes =
        ["--deny-principal", "User:thalweg", "--operation", "Write", "--topic", "logs.routine"];
    acl(&cluster, directory.path(), &no_writes);
    let error = log.append(routine(0), events("a", [("2", "m")].into_iter())).await.unwrap_err();
    assert!(matches!(error, LogError::Rejected { .. }), "{error}");
    assert!(error.to_string().contains("authorization"), "{error}");
    close(log).await;
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn events_travel_over_tls_and_the_password_by_scram() {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = key.cert.pem();
    let (ca, server) = (directory.path().join("ca.pem"), directory.path().join("server.pem"));
    std::fs::write(&ca, &certificate).unwrap();
    std::fs::write(&server, format!("{}{certificate}", key.signing_key.serialize_pem())).unwrap();
    let settings = vec![
        "ssl.keystore.type=PEM".to_owned(),
        format!("ssl.keystore.location={}", server.display()),
        "ssl.truststore.type=PEM".to_owned(),
        format!("ssl.truststore.location={}", ca.display()),
        "sasl.enabled.mechanisms=SCRAM-SHA-256".to_owned(),
        "sasl.mechanism.inter.broker.protocol=SCRAM-SHA-256".to_owned(),
        "listener.name.client.scram-sha-256.sasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required username=\"admin\" \
         password=\"admin-secret\";"
            .to_owned(),
    ];
    let user =
        |name: &str, password: &str| format!("SCRAM-SHA-256=[name={name},password={password}]");
    let cluster = Cluster::start(Options {
        security_protocol: "SASL_SSL",
        settings,
        scram_users: vec![user("admin", "admin-secret"), user("thalweg", "s3cret")],
        ..Options::default()
    })
    .unwrap();
    let config = config(&cluster, &directory.path().join("spool"), ENCODINGS[0]);
    let mechanism = SaslMechanism::ScramSha256;
    let config = with_password(config, directory.path(), mechanism, "s3cret");
    let untrusted = KafkaConfig {
        tls: Some(thalweg_kafka::TlsConfig::default()),
        connect_within_secs: 3,
        ..config.clone()
    };
    let opened = thalweg_kafka::KafkaLog::open(untrusted, LogConfig::default(), topics()).await;
    assert!(opened.is_err(), "a certificate of nobody's authority is not trusted");
    let tls = thalweg_kafka::TlsConfig { ca: Some(ca), ..Default::default() };
    let log = open(KafkaConfig { tls: Some(tls), ..config }).await;
    log.append(routine(0), events("a", [("1", "m")].into_iter())).await.unwrap();
    assert_eq!(all_ids(&log, &routine(0)).await, ["1"]);
    close(log).await;
}

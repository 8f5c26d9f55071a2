//! Settings of the Kafka log.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to reach Kafka, and how events are kept there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Addresses of brokers to begin with, `host:port`; they name the others.
    pub brokers: Vec<Broker>,
    /// How events are written. What is read may be of either encoding.
    #[serde(default)]
    pub encoding: Encoding,
    /// Replicas of each partition of topics that thalweg creates.
    #[serde(default = "one_replica")]
    pub replication: u16,
    /// Time that a broker has to acknowledge an append before it is spooled instead.
    #[serde(default = "default_patience_ms")]
    pub acknowledge_within_ms: u64,
    /// Largest message that is sent, before compression; at most what brokers and topics allow
    /// (`message.max.bytes`, `max.message.bytes`).
    #[serde(default = "default_message_bytes")]
    pub message_bytes: usize,
    /// Longest that a start waits for the brokers.
    #[serde(default = "default_connect_secs")]
    pub connect_within_secs: u64,
    /// What waits on this machine's disk while brokers are away.
    #[serde(default)]
    pub spool: SpoolConfig,
    /// Disk for rows that came from Kafka and that memory has no room for, until tables and views that
    /// are behind have read them; beyond it they are read from Kafka again, by each. 0 uses none.
    #[serde(default = "default_overflow_bytes")]
    pub overflow_bytes: u64,
    /// Whether several processes share the partitions. They have the same data directory, on a file
    /// system with locks that all of them see.
    #[serde(default)]
    pub shared: bool,
    /// Name of this process among those that share the partitions, the host's unless it is set. Its
    /// spool is kept under it, so it must be the same after a restart.
    #[serde(default)]
    pub node: Option<NodeName>,
    /// Encryption of the connections. Needs a thalweg built with the feature `kafka-tls`.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// How thalweg says who it is.
    #[serde(default)]
    pub sasl: Option<SaslConfig>,
}

/// Address of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Broker(String);

/// Name of a process among those that share partitions: a directory is called so.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct NodeName(String);

/// How events are written into messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// A batch of events a message, as the OpenTelemetry Collector's Kafka exporter writes them.
    #[default]
    OtlpProto,
    /// One event a message: a JSON object with the columns of the table.
    Json,
}

/// What waits on disk while brokers are away.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolConfig {
    /// Directory of the spool. Not a setting of a user: the program that opens the log says it.
    #[serde(skip)]
    pub directory: PathBuf,
    /// Events that take more than this are refused (HTTP: 429) until brokers have taken some.
    pub limit_bytes: u64,
}

/// Encryption of the connections to brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificates of authorities that brokers' certificates are signed by, PEM; the system's
    /// when not set.
    pub ca: Option<PathBuf>,
    /// Certificate to show, PEM.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
}

/// How thalweg says who it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaslConfig {
    /// How the password is shown.
    pub mechanism: SaslMechanism,
    /// Name of the user.
    pub username: String,
    /// File with the password, so that it need not stand in the configuration.
    pub password_file: PathBuf,
}

/// How a password is shown to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SaslMechanism {
    /// As it is: with `tls` only, unless the network is trusted.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 5802 with SHA-256. Needs a thalweg built with the feature `kafka-tls`.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// RFC 5802 with SHA-512. Needs a thalweg built with the feature `kafka-tls`.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// Why settings cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

impl KafkaConfig {
    /// Settings for these brokers and otherwise the defaults.
    pub fn new(brokers: Vec<Broker>) -> Self {
        Self {
            brokers,
            encoding: Encoding::default(),
            replication: one_replica(),
            acknowledge_within_ms: default_patience_ms(),
            message_bytes: default_message_bytes(),
            connect_within_secs: default_connect_secs(),
            overflow_bytes: default_overflow_bytes(),
            spool: SpoolConfig::default(),
            shared: false,
            node: None,
            tls: None,
            sasl: None,
        }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |reason: &str| Err(ConfigError(reason.to_owned()));
        if self.brokers.is_empty() {
            return wrong("brokers: expected one `host:port` or more, found none");
        }
        if self.replication == 0 {
            return wrong("replication: expected 1 or more, found 0");
        }
        if !(MIN_MESSAGE_BYTES..=MAX_MESSAGE_BYTES).contains(&self.message_bytes) {
            return wrong(&format!(
                "message_bytes: expected {MIN_MESSAGE_BYTES} to {MAX_MESSAGE_BYTES}, found {}",
                self.message_bytes
            ));
        }
        if self.tls.as_ref().is_some_and(|tls| tls.cert.is_some() != tls.key.is_some()) {
            return wrong("tls: expected both `cert` and `key`, or neither, found one of them");
        }
        let has_scram =
            self.sasl.as_ref().is_some_and(|sasl| sasl.mechanism != SaslMechanism::Plain);
        if !cfg!(feature = "tls") && (self.tls.is_some() || has_scram) {
            return wrong(
                "this thalweg was built without TLS and SCRAM for Kafka; build it with \
                 `--features kafka-tls`, or remove `tls` and use PLAIN",
            );
        }
        Ok(())
    }

    /// What librdkafka is told, whatever it is used for.
    ///
    /// # Errors
    /// [`ConfigError`] when the password cannot be read.
    pub(crate) fn client(&self) -> Result<BTreeMap<&'static str, String>, ConfigError> {
        let brokers: Vec<&str> = self.brokers.iter().map(|broker| broker.0.as_str()).collect();
        let mut client = BTreeMap::from([
            ("bootstrap.servers", brokers.join(",")),
            ("client.id", "thalweg".to_owned()),
            // A topic that was removed must not come back because somebody still asks for it.
            ("allow.auto.create.topics", "false".to_owned()),
            ("socket.keepalive.enable", "true".to_owned()),
            ("reconnect.backoff.ms", "100".to_owned()),
            ("reconnect.backoff.max.ms", "2000".to_owned()),
            ("topic.metadata.refresh.interval.ms", "30000".to_owned()),
        ]);
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        client.insert("security.protocol", protocol.to_owned());
        if let Some(tls) = &self.tls {
            let files = [
                ("ssl.ca.location", &tls.ca),
                ("ssl.certificate.location", &tls.cert),
                ("ssl.key.location", &tls.key),
            ];
            for (name, file) in files {
                client.extend(file.as_ref().map(|file| (name, file.display().to_string())));
            }
        }
        if let Some(sasl) = &self.sasl {
            let file = &sasl.password_file;
            let password = std::fs::read_to_string(file).map_err(|error| {
                ConfigError(format!("sasl.password_file: {}: {error}", file.display()))
            })?;
            client.insert("sasl.mechanism", sasl.mechanism.name().to_owned());
            client.insert("sasl.username", sasl.username.clone());
            client.insert("sasl.password", password.trim_end_matches(['\r', '\n']).to_owned());
        }
        Ok(client)
    }
}

/// Smallest limit of messages: records of a few kilobytes must fit.
const MIN_MESSAGE_BYTES: usize = 16 << 10;
/// Longest name of a node: longer than what Kubernetes and DNS allow for hosts.
const MAX_NODE_NAME_BYTES: usize = 253;
/// Largest that may be sent: librdkafka's consumers receive 100 MB at once by default, the frame of a
/// batch included.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

impl SaslMechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl TryFrom<String> for Broker {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains([',', '/', ' ']) && port.parse::<u16>().is_ok()
        });
        if is_address {
            return Ok(Self(text));
        }
        Err(format!("expected a broker's address such as kafka-1:9092, found `{text}`"))
    }
}

impl From<Broker> for String {
    fn from(broker: Broker) -> Self {
        broker.0
    }
}

impl NodeName {
    /// The name of this machine, if it has one.
    pub fn of_host() -> Option<Self> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = name.or_else(|| std::env::var("HOSTNAME").ok())?;
        Self::try_from(name.trim().to_owned()).ok()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.len() <= MAX_NODE_NAME_BYTES
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.chars().all(is_allowed)
        {
            return Ok(Self(text));
        }
        Err(format!(
            "expected a node's name of 1 to {MAX_NODE_NAME_BYTES} letters, digits, `.`, `_` and `-`, \
             found `{text}`"
        ))
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { directory: "data/spool".into(), limit_bytes: 8 << 30 }
    }
}

fn default_overflow_bytes() -> u64 {
    4 << 30
}

fn one_replica() -> u16 {
    1
}

fn default_patience_ms() -> u64 {
    1_000
}

fn default_message_bytes() -> usize {
    1_000_000
}

fn default_connect_secs() -> u64 {
    60
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaConfig {
        KafkaConfig::new(vec!["localhost:9092".to_owned().try_into().unwrap()])
    }

    #[test]
    fn a_broker_without_a_port_is_refused() {
        for text in ["kafka", "kafka:", ":9092", "a:1,b:2", "http://kafka:9092", "kafka:99999"] {
            let error = Broker::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains(&format!("found `{text}`")), "{error}");
        }
        assert!(Broker::try_from("[::1]:9092".to_owned()).is_ok());
    }

    #[test]
    fn half_a_certificate_is_refused() {
        let tls = TlsConfig { cert: Some("c.pem".into()), ..TlsConfig::default() };
        let error = KafkaConfig { tls: Some(tls), ..config() }.validate().unwrap_err();
        assert!(error.to_string().contains("both `cert` and `key`"), "{error}");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_that_was_not_built_in_is_refused_with_what_to_do() {
        let tls = Some(TlsConfig::default());
        let error = KafkaConfig { tls, ..config() }.validate().unwrap_err();
        assert!(error.to_string().contains("--features kafka-tls"), "{error}");
    }

    #[test]
    fn a_password_is_read_from_its_file_without_the_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " s3cret \n").unwrap();
        let sasl = SaslConfig {
            mechanism: SaslMechanism::Plain,
            username: "thalweg".into(),
            password_file: file.path().into(),
        };
        let client = KafkaConfig { sasl: Some(sasl), ..config() }.client().unwrap();
        assert_eq!(client["sasl.password"], " s3cret ");
        assert_eq!(client["security.protocol"], "sasl_plaintext");
    }
}

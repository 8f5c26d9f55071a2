//! The configuration: defaults < YAML file < `THALWEG_…` environment < flags.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thalweg_alert::{AlertsConfig, RuleConfig};
use thalweg_edge::{EdgeConfig, TlsFiles};

use crate::{
    alerts,
    cli::ConfigArgs,
    node_log::LogSettings,
    sources::{self, SourceConfig},
    views::created_names,
};

/// File read when none is named.
const DEFAULT_FILE: &str = "thalweg.yaml";
/// Prefix of environment variables that change settings; `__` separates levels:
/// `THALWEG_LISTEN__HTTP=127.0.0.1:7171`.
const ENVIRONMENT_PREFIX: &str = "THALWEG_";
/// Environment variables that flags read and that are no settings.
const FLAG_VARIABLES: [&str; 5] =
    ["THALWEG_CONFIG", "THALWEG_URL", "THALWEG_TOKEN", "THALWEG_CA_CERT", "THALWEG_CLIENT_CERT"];
/// Most mistakes that `thalweg check` lists.
const MAX_MISTAKES: usize = 20;

/// Everything a server can be told.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Directory for the log (`log/`, with Kafka `spool/`), the tables (`lake/`) and what is known of
    /// sources (`sources/`); made if it is missing.
    pub(crate) data_dir: PathBuf,
    /// Addresses to listen on.
    pub(crate) listen: Listen,
    /// Encryption, of everything that is listened for.
    pub(crate) tls: Option<TlsFiles>,
    /// What clients may hold open, and for how long.
    pub(crate) limits: EdgeConfig,
    /// The durable log.
    pub(crate) log: LogSettings,
    /// Taking in events.
    pub(crate) ingest: thalweg_ingest::IngestConfig,
    /// Line formats by name, besides the built-in ones.
    pub(crate) formats: thalweg_ingest::decode::FormatsConfig,
    /// Tables.
    pub(crate) lake: thalweg_lake::LakeConfig,
    /// What others keep, read as tables.
    pub(crate) sources: Vec<SourceConfig>,
    /// Continuous views, besides the built-in ones.
    pub(crate) views: Vec<thalweg_stream::ViewConfig>,
    /// How views are kept.
    pub(crate) stream: thalweg_stream::StreamConfig,
    /// Queries whose rows are alerts.
    pub(crate) alerts: Vec<thalweg_alert::RuleConfig>,
    /// Columns of views that are watched for what is unusual.
    pub(crate) anomalies: Vec<thalweg_alert::AnomalyConfig>,
    /// Who is told of alerts, and of which not.
    pub(crate) alerting: thalweg_alert::AlertingConfig,
    /// Queries.
    pub(crate) query: thalweg_query::QueryConfig,
    /// The server's own log.
    pub(crate) logging: Logging,
    /// The settings as they were made, in file, environment and flags; the rest are defaults.
    #[serde(skip)]
    pub(crate) made: Value,
}

/// Addresses to listen on. Those that other machines can reach need `tls`, and a token to exist.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Listen {
    /// HTTP: native API, OTLP/HTTP, SQL.
    pub(crate) http: Address,
    /// OTLP over gRPC.
    pub(crate) otlp_grpc: Address,
    /// Syslog over TCP and, on the same port, over UDP.
    pub(crate) syslog: Address,
    /// Postgres wire protocol.
    pub(crate) postgres: Address,
}

/// The server's own log, written to standard error.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Logging {
    /// One JSON object per line instead of text for people.
    pub(crate) json: bool,
    /// What to log, e.g. `info,thalweg_lake=debug`.
    pub(crate) filter: Option<String>,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub(crate) struct Address(pub(crate) SocketAddr);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("expected an address such as 127.0.0.1:7070, found `{text}`"))
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0.to_string()
    }
}

/// An address that other machines can reach, and that must not be listened on as things are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exposed {
    setting: &'static str,
    address: String,
    missing: &'static str,
}

impl std::fmt::Display for Exposed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { setting, address, missing } = self;
        write!(f, "{setting}: `{address}` can be reached from other machines, and {missing}")
    }
}

impl Listen {
    fn exposed(&self, missing: &'static str) -> Option<Exposed> {
        let settings = [
            ("listen.http", self.http),
            ("listen.otlp_grpc", self.otlp_grpc),
            ("listen.syslog", self.syslog),
            ("listen.postgres", self.postgres),
        ];
        let (setting, address) =
            settings.into_iter().find(|(_, address)| !address.0.ip().is_loopback())?;
        Some(Exposed { setting, address: address.0.to_string(), missing })
    }

    fn exposed_without(&self, tls: Option<&TlsFiles>) -> Option<Exposed> {
        if let Some(tls) = tls {
            let unknown = tls.client_ca.is_none() && !self.syslog.0.ip().is_loopback();
            return unknown.then(|| Exposed {
                setting: "listen.syslog",
                address: self.syslog.0.to_string(),
                missing: "its senders cannot show a token; have them show certificates with \
                          `tls.client_ca`, or listen on 127.0.0.1 or [::1]",
            });
        }
        self.exposed(
            "events and tokens would cross the network unencrypted; set `tls: {cert: …, key: …}`, \
             or listen on 127.0.0.1 or [::1]",
        )
    }

    /// The first address that other machines can reach, if none of them would be asked for a
    /// token.
    pub(crate) fn exposed_without_tokens(&self, has_tokens: bool) -> Option<Exposed> {
        if has_tokens {
            return None;
        }
        self.exposed(
            "nobody has a token to show; create one with `thalweg token create`, or listen on \
             127.0.0.1 or [::1]",
        )
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "thalweg-data".into(),
            listen: Listen::default(),
            tls: None,
            limits: EdgeConfig::default(),
            log: Default::default(),
            ingest: Default::default(),
            formats: Default::default(),
            lake: Default::default(),
            sources: vec![],
            views: vec![],
            stream: Default::default(),
            alerts: vec![],
            anomalies: vec![],
            alerting: Default::default(),
            query: Default::default(),
            logging: Logging::default(),
            made: Value::Null,
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| Address(SocketAddr::from(([127, 0, 0, 1], port)));
        Self {
            http: local(7070),
            otlp_grpc: local(4317),
            syslog: local(5514),
            postgres: local(5433),
        }
    }
}

impl Config {
    /// The configuration that `args` and the environment ask for.
    pub(crate) fn load(args: &ConfigArgs) -> anyhow::Result<Self> {
        let default_file = Path::new(DEFAULT_FILE);
        let file = match &args.config {
            Some(file) => Some(file.as_path()),
            None => default_file.exists().then_some(default_file),
        };
        let text = match file {
            Some(file) => read(file)?,
            None => String::new(),
        };
        let name = file.unwrap_or(default_file);
        if let Some(mistake) = mistakes(&text).into_iter().next() {
            anyhow::bail!("{}: {mistake}", name.display());
        }
        let mut config: Value = parse(&text).map_err(|error| anyhow::anyhow!("{error}"))?;
        if config.is_null() {
            config = Value::Object(serde_json::Map::new());
        }
        for (source, path, value) in overrides(args, std::env::vars())? {
            set(&mut config, &path, &value).with_context(|| source.clone())?;
            Self::deserialize(&config).with_context(|| source)?;
        }
        let made = config;
        let mut config = Self::deserialize(&made)?;
        config.made = made;
        if let Some(exposed) = config.listen.exposed_without(config.tls.as_ref()) {
            anyhow::bail!("{exposed}");
        }
        config.ingest.formats = std::mem::take(&mut config.formats);
        config.ingest.routes = config.log.routes.clone();
        config.ingest.validate().with_context(|| name.display().to_string())?;
        thalweg_ingest::decode::Formats::new(&config.ingest.formats)
            .with_context(|| name.display().to_string())?;
        config.alerts().validate().with_context(|| name.display().to_string())?;
        if let Some(kafka) = &config.log.kafka {
            let validated = kafka.validate().context("log.kafka");
            validated.with_context(|| name.display().to_string())?;
        }
        if config.log.kafka.as_ref().is_some_and(|kafka| kafka.shared) && !config.sources.is_empty()
        {
            anyhow::bail!(
                "{}: sources: read by one process only, and log.kafka.shared says that there are \
                 others; read them in a process with a data directory of its own",
                name.display()
            );
        }
        let created = created_names(&config.data_dir)?;
        sources::stated(&config, &created).with_context(|| name.display().to_string())?;
        if let Some(file) = config.query.tables.iter().find(|file| created.contains(&file.name)) {
            anyhow::bail!(
                "{}: query.tables: `{}`: the name is taken by a view; drop that first, or choose another",
                name.display(),
                file.name
            );
        }
        Ok(config)
    }
}

impl Config {
    /// The sections about alerts, with the rules that a server has of itself.
    pub(crate) fn alerts(&self) -> AlertsConfig {
        let kafka = self.log.kafka.as_ref().filter(|_| self.alerting.builtin_rules);
        let is_stated = |rule: &RuleConfig| self.alerts.iter().any(|own| own.name == rule.name);
        let builtin = kafka.map(alerts::about_spool).into_iter().flatten();
        let builtin = builtin.filter(|rule| !is_stated(rule));
        AlertsConfig {
            alerts: self.alerts.iter().cloned().chain(builtin).collect(),
            anomalies: self.anomalies.clone(),
            alerting: self.alerting.clone(),
        }
    }
}

/// Reads a configuration file.
pub(crate) fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    // A file of comments only is an empty configuration.
    let is_empty =
        text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#'));
    serde_saphyr::from_str(if is_empty { "{}" } else { text })
}

/// Every mistake in a configuration file, each with its line and column.
///
/// A mistake in a setting of one line does not hide those after it: the line is taken out and the
/// rest read again.
pub(crate) fn mistakes(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut mistakes = Vec::new();
    while mistakes.len() < MAX_MISTAKES {
        let error = match parse::<Config>(&lines.join("\n")) {
            Err(error) => error,
            Ok(config) => {
                if let Some(exposed) = config.listen.exposed_without(config.tls.as_ref()) {
                    let number = lines.iter().position(|line| line.contains(&exposed.address));
                    let place = number.map(|number| format!("line {}: ", number + 1));
                    mistakes.push(format!("{}{exposed}", place.unwrap_or_default()));
                }
                if let Err(wrong) = sources::stated(&config, &[]) {
                    let number = source_line(&lines, &wrong.name);
                    let place = number.map(|number| format!("line {number}: "));
                    mistakes.push(format!("{}{wrong}", place.unwrap_or_default()));
                }
                break;
            }
        };
        mistakes.push(error.to_string());
        let line = error.location().and_then(|place| usize::try_from(place.line()).ok());
        if line.is_none_or(|line| !take_out(&mut lines, line.wrapping_sub(1))) {
            break;
        }
    }
    mistakes
}

/// Number of the line that names the source `name`, of the last one if there are several: it repeats
/// the name of the others. Of sources that are written otherwise, the line where they begin.
fn source_line(lines: &[String], name: &str) -> Option<usize> {
    let section = lines.iter().position(|line| line.starts_with("sources:"))? + 1;
    let is_within = |line: &&String| !line.starts_with(|first: char| first.is_ascii_alphabetic());
    let within = lines[section..].iter().take_while(is_within);
    let names = |line: &str| {
        let line = line.trim_start_matches([' ', '-', '{']);
        line.strip_prefix("name:")
            .is_some_and(|rest| rest.trim_matches([' ', ',', '}', '"', '\'']) == name)
    };
    let found = within.zip(section + 1..).filter(|(line, _)| names(line)).last();
    Some(found.map_or(section, |(_, number)| number))
}

/// Takes the setting at `index` out, if it is of one line; a section left empty stays a section.
fn take_out(lines: &mut [String], index: usize) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_parent = |lines: &[String], index: usize| {
        let next = lines[index + 1..].iter().find(|line| !line.trim().is_empty());
        next.is_some_and(|next| indent(next) > indent(&lines[index]))
    };
    if lines.get(index).is_none_or(|line| line.trim().is_empty()) || is_parent(lines, index) {
        return false;
    }
    let depth = indent(&std::mem::take(&mut lines[index]));
    let is_section = |line: &String| line.trim_end().ends_with(':') && indent(line) < depth;
    if let Some(section) = lines[..index].iter().rposition(is_section)
        && !is_parent(lines, section)
    {
        lines[section].push_str(" {}");
    }
    true
}

/// Settings changed by the environment and then by flags: where from, path, value.
fn overrides(
    args: &ConfigArgs,
    environment: impl Iterator<Item = (String, String)>,
) -> anyhow::Result<Vec<(String, Vec<String>, String)>> {
    let mut all: Vec<_> = environment
        .filter(|(name, _)| !FLAG_VARIABLES.contains(&name.as_str()))
        .filter_map(|(name, value)| {
            let path = name.strip_prefix(ENVIRONMENT_PREFIX)?.to_ascii_lowercase();
            let path = path.split("__").map(str::to_owned).collect();
            Some((format!("environment variable {name}"), path, value))
        })
        .collect();
    for setting in &args.settings {
        let (path, value) = setting
            .split_once('=')
            .with_context(|| format!("--set: expected KEY=VALUE, found `{setting}`"))?;
        let path = path.split('.').map(str::to_owned).collect();
        all.push((format!("--set {setting}"), path, value.to_owned()));
    }
    if let Some(directory) = &args.data_dir {
        let directory = directory.to_str().context("--data-dir: expected a path in UTF-8")?;
        all.push(("--data-dir".into(), vec!["data_dir".into()], directory.to_owned()));
    }
    Ok(all)
}

/// Sets the value at `path`; a value that reads as YAML of another type than text is that.
fn set(config: &mut Value, path: &[String], value: &str) -> anyhow::Result<()> {
    let mut place = config;
    for key in path {
        let object =
            place.as_object_mut().with_context(|| format!("`{key}` is not within a section"))?;
        place = object.entry(key).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    *place = serde_saphyr::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_shown_with_its_line_and_column() {
        let text = "listen:\n  http: 127.0.0.1:7171\n  htpp: 127.0.0.1:1\n  postgres: nowhere\nquery:\n  max_rows: many\n";
        let mistakes = mistakes(text);
        assert_eq!(mistakes.len(), 3, "{mistakes:#?}");
        for (mistake, place, word) in [
            (&mistakes[0], "3:3", "htpp"),
            (&mistakes[1], "4:13", "nowhere"),
            (&mistakes[2], "6:13", "max_rows"),
        ] {
            let line_and_column: Vec<&str> = place.split(':').collect();
            assert!(
                mistake.contains(&format!("line {}", line_and_column[0])),
                "{place}: {mistake}"
            );
            assert!(
                mistake.contains(&format!("column {}", line_and_column[1])),
                "{place}: {mistake}"
            );
            assert!(mistake.contains(word), "{mistake}");
        }
    }

    #[test]
    fn an_address_that_others_can_reach_is_refused_with_an_explanation() {
        let mistakes = mistakes("listen:\n  http: 0.0.0.0:7070\n");
        assert!(mistakes[0].contains("can be reached from other machines"), "{mistakes:?}");
        assert!(mistakes[0].contains("line 2"), "{mistakes:?}");
        let tls = "listen:\n  http: 0.0.0.0:7070\ntls: {cert: c.pem, key: k.pem}\n";
        assert_eq!(super::mistakes(tls), Vec::<String>::new());
    }

    #[test]
    fn rules_about_the_spool_come_with_kafka_and_can_be_replaced_or_switched_off() {
        let rules = |more: &str| {
            let text = format!("log: {{kafka: {{brokers: [a:1]}}}}\n{more}");
            let rules = parse::<Config>(&text).unwrap().alerts().alerts;
            rules.iter().map(|rule| rule.name.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(rules(""), ["SpoolNotForwarded", "SpoolNearlyFull"]);
        let own = "alerts: [{name: SpoolNearlyFull, query: SELECT 1}]";
        assert_eq!(rules(own), ["SpoolNearlyFull", "SpoolNotForwarded"]);
        assert_eq!(rules("alerting: {builtin_rules: false}"), Vec::<String>::new());
        assert!(parse::<Config>("{}").unwrap().alerts().alerts.is_empty());
    }

    #[test]
    fn an_empty_file_is_the_default_configuration() {
        assert_eq!(mistakes(""), Vec::<String>::new());
        assert_eq!(mistakes("# nothing\n"), Vec::<String>::new());
    }

    #[test]
    fn flags_win_over_the_environment() {
        let args =
            ConfigArgs { settings: vec!["listen.http=[::1]:3".into()], ..Default::default() };
        let environment =
            [("THALWEG_LISTEN__HTTP", "127.0.0.1:2"), ("THALWEG_URL", "x"), ("HOME", "/")];
        let environment = environment.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
        let mut config = serde_json::json!({"listen": {"http": "127.0.0.1:1"}});
        for (_, path, value) in overrides(&args, environment).unwrap() {
            set(&mut config, &path, &value).unwrap();
        }
        let config = Config::deserialize(config).unwrap();
        assert_eq!(config.listen.http.0.to_string(), "[::1]:3");
    }
}

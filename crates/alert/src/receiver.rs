//! Who can be told.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    period::Period,
    secret::{Secret, SecretUrl},
};

/// Somebody or something that is told of alerts, in one way.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub struct ReceiverConfig {
    /// What routes call it.
    pub name: String,
    /// Whether it is told that alerts are resolved.
    pub send_resolved: bool,
    /// What is done when it cannot be reached.
    pub retry: RetryConfig,
    /// How it is told.
    pub channel: ChannelConfig,
}

/// A receiver, with exactly one of `webhook`, `slack`, `email` and `command`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// What routes call it.
    name: String,
    /// Whether it is told that alerts are resolved.
    #[serde(default = "yes")]
    send_resolved: bool,
    /// What is done when it cannot be reached.
    #[serde(default)]
    retry: RetryConfig,
    webhook: Option<WebhookConfig>,
    slack: Option<SlackConfig>,
    email: Option<EmailConfig>,
    command: Option<CommandConfig>,
}

fn yes() -> bool {
    true
}

/// How a receiver is told.
#[derive(Debug, Clone)]
pub enum ChannelConfig {
    /// By HTTP, as Alertmanager does it.
    Webhook(WebhookConfig),
    /// By an incoming webhook of Slack or what is like it.
    Slack(SlackConfig),
    /// By e-mail.
    Email(EmailConfig),
    /// By a program that is started.
    Command(CommandConfig),
}

/// What is done when a receiver cannot be reached: it is tried again after a random time of up to
/// twice as much as before, or when it says.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Longest pause after the first try.
    pub first: Period,
    /// Longest pause after later ones.
    pub longest: Period,
    /// After how long a notification is given up and goes to the table `undelivered`.
    pub give_up_after: Period,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            first: Period::secs(1),
            longest: Period::secs(120),
            give_up_after: Period::secs(3_600),
        }
    }
}

/// A `POST` of Alertmanager's JSON, version 4.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to.
    pub url: SecretUrl,
    /// A token to be sent as `Authorization: Bearer`.
    pub bearer_token: Option<Secret>,
    /// How long a try may take.
    #[serde(default = "ten_seconds")]
    pub timeout: Period<1>,
}

/// A `POST` to an incoming webhook of Slack, Mattermost or Rocket.Chat.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// Where to.
    pub url: SecretUrl,
    /// How long a try may take.
    #[serde(default = "ten_seconds")]
    pub timeout: Period<1>,
}

/// An e-mail by SMTP.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// Whom to.
    pub to: Vec<Mailbox>,
    /// Whom from.
    pub from: Mailbox,
    /// Name of the server.
    pub host: String,
    /// Its port; 465 with `security: tls`, 587 with `starttls`, 25 with `none`.
    pub port: Option<u16>,
    /// How the connection is secured.
    #[serde(default)]
    pub security: MailSecurity,
    /// Authorities to trust besides those that the system trusts, in PEM.
    pub ca_cert: Option<PathBuf>,
    /// Whom to log in as.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// How long a try may take.
    #[serde(default = "thirty_seconds")]
    pub timeout: Period<1>,
}

/// How a connection to a mail server is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MailSecurity {
    /// TLS from the first byte.
    Tls,
    /// TLS after a plain greeting; a server that does not offer it is not spoken to.
    #[default]
    Starttls,
    /// Not at all: for servers on this machine. Passwords are not sent.
    None,
}

/// An address of e-mail: `ops@example.com` or `Operators <ops@example.com>`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Mailbox(pub(crate) lettre::message::Mailbox);

/// A program that gets Alertmanager's JSON on its standard input.
///
/// It is started without a shell; what senders wrote reaches it in the JSON only, never as an
/// argument or a variable.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Its environment, besides `PATH`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// How long it may take before it is killed.
    #[serde(default = "thirty_seconds")]
    pub timeout: Period<1>,
}

fn ten_seconds() -> Period<1> {
    Period::secs(10)
}

fn thirty_seconds() -> Period<1> {
    Period::secs(30)
}

impl ChannelConfig {
    /// How long a try may take.
    pub(crate) fn timeout(&self) -> Duration {
        match self {
            Self::Webhook(config) => config.timeout.get(),
            Self::Slack(config) => config.timeout.get(),
            Self::Email(config) => config.timeout.get(),
            Self::Command(config) => config.timeout.get(),
        }
    }
}

impl TryFrom<Written> for ReceiverConfig {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, send_resolved, retry, webhook, slack, email, command } = written;
        let channels = [
            webhook.map(ChannelConfig::Webhook),
            slack.map(ChannelConfig::Slack),
            email.map(ChannelConfig::Email),
            command.map(ChannelConfig::Command),
        ];
        let mut channels: Vec<ChannelConfig> = channels.into_iter().flatten().collect();
        let (1, Some(channel)) = (channels.len(), channels.pop()) else {
            return Err(format!(
                "expected exactly one of webhook, slack, email and command for receiver `{name}`"
            ));
        };
        if let ChannelConfig::Email(email) = &channel {
            email.validate(&name)?;
        }
        Ok(Self { name, send_resolved, retry, channel })
    }
}

impl EmailConfig {
    fn validate(&self, receiver: &str) -> Result<(), String> {
        if self.to.is_empty() {
            return Err(format!("expected an address in `to` of receiver `{receiver}`"));
        }
        if self.username.is_some() != self.password.is_some() {
            return Err(format!(
                "expected `username` and `password` together for receiver `{receiver}`"
            ));
        }
        if self.password.is_some() && self.security == MailSecurity::None {
            return Err(format!(
                "the password of receiver `{receiver}` would cross the network unencrypted; set \
                 `security` to tls or starttls"
            ));
        }
        Ok(())
    }
}

impl TryFrom<String> for Mailbox {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("expected an address such as ops@example.com, found `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(yaml: &str) -> Result<ReceiverConfig, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_receiver_is_told_in_exactly_one_way() {
        let ops = receiver("name: ops\nwebhook: {url: 'https://x/y'}").unwrap();
        assert!(ops.send_resolved && matches!(ops.channel, ChannelConfig::Webhook(_)));
        for yaml in
            ["name: ops", "name: ops\nwebhook: {url: 'https://x'}\nslack: {url: 'https://x'}"]
        {
            assert!(receiver(yaml).unwrap_err().contains("exactly one of"), "{yaml}");
        }
    }

    #[test]
    fn mail_that_cannot_be_sent_or_is_not_safe_does_not_parse() {
        let mail =
            |more: &str| receiver(&format!("name: m\nemail: {{from: a@b.c, host: h, {more}}}"));
        assert!(mail("to: [Operators <ops@b.c>], username: u, password: 'env:P'").is_ok());
        for (more, why) in [
            ("to: []", "address in `to`"),
            ("to: [nobody]", "such as ops@example.com"),
            ("to: [\"a@b.c>\\r\\nBcc: x@y.z\"]", "such as ops@example.com"),
            ("to: [a@b.c], username: u", "together"),
            ("to: [a@b.c], username: u, password: hunter2", "env:NAME"),
            ("to: [a@b.c], username: u, password: 'env:P', security: none", "unencrypted"),
        ] {
            let error = mail(more).unwrap_err();
            assert!(error.contains(why), "{more}: {error}");
        }
    }
}

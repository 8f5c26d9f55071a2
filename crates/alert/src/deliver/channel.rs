//! Ways to tell somebody.

use std::sync::Arc;

use reqwest::Client;

use super::{Failure, command, post, slack};
use crate::{
    error::{AlertError, Result},
    notification::Notification,
    receiver::{ChannelConfig, ReceiverConfig},
};

/// A way to tell one receiver.
#[derive(Clone)]
pub(super) struct Channel {
    config: ChannelConfig,
    client: Client,
    external_url: Arc<str>,
}

impl Channel {
    pub(super) fn new(config: &ReceiverConfig, client: Client, external_url: Arc<str>) -> Self {
        Self { config: config.channel.clone(), client, external_url }
    }

    /// Tells it once, within its time limit.
    pub(super) async fn tell(&self, notification: &Notification) -> Result<(), Failure> {
        let limit = self.config.timeout();
        let late = || Failure::retry(format!("no answer within {limit:?}"));
        tokio::time::timeout(limit, self.tell_in_any_time(notification))
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn tell_in_any_time(&self, notification: &Notification) -> Result<(), Failure> {
        // A secret that is not there may be put there yet.
        let secret = |missing: String| Failure::retry(missing);
        match &self.config {
            ChannelConfig::Webhook(config) => {
                let url = config.url.read().map_err(secret)?;
                let token = config.bearer_token.as_ref().map(|token| token.read());
                let token = token.transpose().map_err(secret)?;
                let body = notification.to_alertmanager_json(&self.external_url);
                post::post(&self.client, url, token, &body).await
            }
            ChannelConfig::Slack(config) => {
                let url = config.url.read().map_err(secret)?;
                let body = slack::message(notification, &self.external_url);
                post::post(&self.client, url, None, &body).await
            }
            ChannelConfig::Email(config) => {
                super::email::send(config, notification, &self.external_url).await
            }
            ChannelConfig::Command(config) => {
                let body = notification.to_alertmanager_json(&self.external_url);
                command::run(config, body.to_string()).await
            }
        }
    }
}

/// The client that channels share.
pub(super) fn client() -> Result<Client> {
    post::client().map_err(|error| AlertError::Config(format!("no HTTP client: {error}")))
}

//! Talking to a running server over HTTP.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use reqwest::{
    Certificate, Identity,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::cli::ServerArgs;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most rows a server answers with by default configuration.
pub(crate) const MAX_ROWS: usize = 1_000_000;
/// Media type of Arrow IPC streams.
pub(crate) const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// A server's HTTP interface.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
}

/// Answer to sent events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Accepted {
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    #[serde(default)]
    pub(crate) errors: Vec<RecordError>,
}

/// Why a record was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct RecordError {
    pub(crate) reason: String,
}

/// Answer to an OTLP export request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exported {
    /// What was rejected, if anything was.
    #[serde(default)]
    pub(crate) partial_success: serde_json::Value,
}

/// What came of sending events.
#[derive(Debug)]
pub(crate) enum Sent<T = Accepted> {
    /// The server answered for each record.
    Done(T),
    /// The server, or the way to it, is busy: worth a retry.
    Busy(String),
}

impl Client {
    /// Talks to the server that `args` name, with the token and the authorities they name.
    pub(crate) fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
        // An empty variable is as good as none.
        if let Some(token) = args.token.as_ref().filter(|token| !token.is_empty()) {
            let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| anyhow::anyhow!("--token: expected tw_ID_SECRET"))?;
            bearer.set_sensitive(true);
            http = http.default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer)]));
        }
        if let Some(file) = &args.ca_cert {
            let of_file = || format!("--ca-cert {}", file.display());
            let pem = std::fs::read(file).with_context(of_file)?;
            let authorities = Certificate::from_pem_bundle(&pem).with_context(of_file)?;
            anyhow::ensure!(!authorities.is_empty(), "{}: no certificate in PEM", of_file());
            http = http.tls_certs_merge(authorities);
        }
        if let Some(file) = &args.client_cert {
            let of_file = || format!("--client-cert {}", file.display());
            let pem = std::fs::read(file).with_context(of_file)?;
            http = http.identity(Identity::from_pem(&pem).with_context(of_file)?);
        }
        Ok(Self { http: http.build()?, url: args.url.trim_end_matches('/').to_owned() })
    }

    /// Talks to a server of this machine without a token.
    pub(crate) fn local(address: SocketAddr) -> anyhow::Result<Self> {
        Self::new(&ServerArgs {
            url: format!("http://{address}"),
            token: None,
            ca_cert: None,
            client_cert: None,
        })
    }

    /// Sends `body` to `/api/v1/logs` with the given query parameters.
    ///
    /// # Errors
    /// Only what a retry cannot mend.
    pub(crate) async fn send_logs(
        &self,
        parameters: &[(&str, String)],
        body: Bytes,
    ) -> anyhow::Result<Sent> {
        self.send(self.post("/api/v1/logs").query(parameters).body(body)).await
    }

    /// Sends an OTLP/JSON `ExportTraceServiceRequest`.
    ///
    /// # Errors
    /// Only what a retry cannot mend.
    pub(crate) async fn send_spans(
        &self,
        request: &serde_json::Value,
    ) -> anyhow::Result<Sent<Exported>> {
        self.send(self.post("/v1/traces").json(request)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> anyhow::Result<Sent<T>> {
        let answer = async {
            let response = request.send().await?;
            Ok((response.status().as_u16(), response.text().await?))
        };
        let (status, text) = match answer.await {
            Ok(answer) => answer,
            Err(error) => return Ok(Sent::Busy(self.describe(&error))),
        };
        match status {
            200 | 422 => {
                let answer = serde_json::from_str(&text);
                Ok(Sent::Done(answer.with_context(|| format!("unexpected answer: {text}"))?))
            }
            408 | 429 | 500.. => Ok(Sent::Busy(format!("{status}: {}", error_message(&text)))),
            _ => bail!("{status}: {}", error_message(&text)),
        }
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.url))
    }

    /// Asks `sql` and returns the answer, `limit` rows at most, in the media type `accept`.
    pub(crate) async fn sql(
        &self,
        sql: &str,
        limit: usize,
        accept: &str,
    ) -> anyhow::Result<reqwest::Response> {
        let response = self
            .post("/api/v1/sql")
            .header("accept", accept)
            .json(&serde_json::json!({ "query": sql, "limit": limit }))
            .send()
            .await;
        self.check(response).await
    }

    /// `GET`s a path with query parameters.
    pub(crate) async fn get(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> anyhow::Result<reqwest::Response> {
        let response = self.http.get(format!("{}{path}", self.url)).query(parameters).send().await;
        self.check(response).await
    }

    /// `POST`s JSON to a path.
    pub(crate) async fn post_json(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> anyhow::Result<reqwest::Response> {
        let response = self.post(path).json(body).send().await;
        self.check(response).await
    }

    async fn check(
        &self,
        response: reqwest::Result<reqwest::Response>,
    ) -> anyhow::Result<reqwest::Response> {
        let response = response.map_err(|error| anyhow::anyhow!(self.describe(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        bail!("{}: {}", status.as_u16(), error_message(&response.text().await.unwrap_or_default()))
    }

    fn describe(&self, error: &reqwest::Error) -> String {
        if error.is_connect() {
            format!(
                "no server answers at {}; start one with `thalweg serve` or name it with --url",
                self.url
            )
        } else {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            format!("{error}{}", cause.unwrap_or_default())
        }
    }
}

/// The message within an error answer, or the answer itself.
fn error_message(text: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let message = parsed.as_ref().and_then(|json| {
        ["/error/message", "/detail", "/message", "/error"]
            .iter()
            .find_map(|at| json.pointer(at)?.as_str())
    });
    message.unwrap_or(text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_taken_out_of_an_error_answer() {
        assert_eq!(error_message(r#"{"error":{"code":"x","message":"no table"}}"#), "no table");
        assert_eq!(error_message("plain\n"), "plain");
    }
}

//! JSON by HTTP.

use std::time::{Duration, SystemTime};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use serde_json::Value;

use super::Failure;
use crate::labels::one_line;

/// Longest part of an answer that is shown, bytes.
const SHOWN_BYTES: usize = 300;

/// A client for all receivers. It follows no redirects: a body sent to one address is not meant
/// for another.
pub(super) fn client() -> reqwest::Result<Client> {
    Client::builder().redirect(Policy::none()).user_agent("thalweg").build()
}

/// Posts `body`.
pub(super) async fn post(
    client: &Client,
    url: Url,
    bearer_token: Option<String>,
    body: &Value,
) -> Result<(), Failure> {
    let mut request = client.post(url).json(body);
    if let Some(token) = bearer_token {
        request = request.bearer_auth(token);
    }
    let response = match request.send().await {
        Ok(response) => response,
        // Without the URL, which may be a secret.
        Err(error) => return Err(Failure::retry(reason(&error.without_url()))),
    };
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let after = retry_after(response.headers(), SystemTime::now());
    let reason = format!("answered {status}{}", said(response).await);
    Err(match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Failure::Retry { reason, after }
        }
        status if status.is_server_error() => Failure::Retry { reason, after },
        status if status.is_redirection() => {
            Failure::Final(format!("{reason}; redirects are not followed: set the final address"))
        }
        _ => Failure::Final(reason),
    })
}

/// What an error says, and why.
fn reason(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }
    reason
}

/// The beginning of an answer.
async fn said(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < SHOWN_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        let wanted = chunk.len().min(SHOWN_BYTES - bytes.len());
        bytes.extend_from_slice(&chunk[..wanted]);
    }
    match one_line(String::from_utf8_lossy(&bytes).trim(), SHOWN_BYTES) {
        nothing if nothing.is_empty() => nothing,
        text => format!(": {text}"),
    }
}

/// Seconds or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(secs) => Some(Duration::from_secs(secs)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_says_when_in_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let date = httpdate::fmt_http_date(now + Duration::from_secs(30));
        for (text, expected) in
            [("120", Some(120)), (&*date, Some(30)), ("soon", None), ("-1", None)]
        {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}

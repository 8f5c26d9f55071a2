//! What all HTTP endpoints do with a request, whatever protocol they speak.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    extract::ConnectInfo,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT, RETRY_AFTER},
    request::Parts,
};

use crate::{
    body::{self, Encoding},
    error::IngestError,
    meters,
    pipeline::{Accepted, Ingest, Request, Stored},
    sender::Sender,
};

/// Receives the body of a request and stores its events; a sender that is refused is let finish.
///
/// # Errors
/// The one of `asked`, or any other [`IngestError`].
pub(crate) async fn accept(
    ingest: &Arc<Ingest>,
    asked: Result<Request, IngestError>,
    parts: &Parts,
    body: Body,
) -> Result<Accepted, IngestError> {
    let encoding = Encoding::of(parts.headers.get(CONTENT_ENCODING));
    let asked = asked.and_then(|request| Ok((request, encoding?)));
    Ok(accept_bulk(ingest, asked, parts, body).await?.accepted)
}

/// As [`accept`], of a body in an encoding that the protocol determines.
pub(crate) async fn accept_bulk(
    ingest: &Arc<Ingest>,
    asked: Result<(Request, Encoding), IngestError>,
    parts: &Parts,
    mut body: Body,
) -> Result<Stored, IngestError> {
    let payload = async {
        let (mut request, encoding) = asked?;
        ingest.format(&request.format)?;
        request.client_ip =
            parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|client| client.0.ip());
        let sender = Sender::of(&parts.extensions)?;
        let (admission, limits) = (ingest.admission(), ingest.limits());
        let payload = body::receive(&mut body, encoding, admission, &sender, limits);
        Ok((request, payload.await?))
    };
    match payload.await {
        Ok((request, payload)) => ingest.process_bulk(request, payload).await,
        Err(error) => {
            // A sender that expects `100 Continue` has sent nothing yet.
            if !matches!(error, IngestError::TooSlow(_)) && !parts.headers.contains_key(EXPECT) {
                body::discard(body, ingest.limits()).await;
            }
            Err(error)
        }
    }
}

/// Content type without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// The answer to a request that was not accepted.
pub(crate) fn refuse(error: &IngestError, answer: impl IntoResponse) -> Response {
    refuse_as(error.http_status(), error, answer)
}

/// As [`refuse`], with the status that the protocol has for it.
pub(crate) fn refuse_as(
    status: StatusCode,
    error: &IngestError,
    answer: impl IntoResponse,
) -> Response {
    meters::refused(error);
    let mut response = (status, answer).into_response();
    if let Some(delay) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, delay.as_secs().into());
    }
    response
}

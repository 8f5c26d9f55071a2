//! Splunk's HTTP Event Collector (HEC).

mod channels;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, header::CONTENT_ENCODING};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thalweg_event::Fault;
use thalweg_log::LogError;
use utoipa::IntoParams;

use self::channels::Channels;
use crate::{
    body::{self, BodyLimits, Encoding},
    decode::{
        Params,
        splunk::{EVENT_BLANK, EVENT_REQUIRED, FIELDS_UNREADABLE},
    },
    edge,
    error::IngestError,
    pipeline::{Accepted, Ingest, Request, SPLUNK_EVENTS, SPLUNK_RAW},
    sender::Sender,
};

/// Names the channel whose acknowledgements a client will ask for.
const CHANNEL: &str = "x-splunk-request-channel";

/// Longest question about acknowledgements: some ten thousand ids.
const ACK_QUERY_LIMIT_BYTES: usize = 64 << 10;

/// What the handlers share.
pub(crate) struct Hec {
    ingest: Arc<Ingest>,
    channels: Channels,
}

pub(crate) fn router(ingest: Arc<Ingest>) -> Router {
    let events = || post(post_events).options(async || StatusCode::OK);
    let mut router = Router::new();
    for path in ["", "/1.0", "/event", "/event/1.0"] {
        router = router.route(&format!("/services/collector{path}"), events());
    }
    for version in ["", "/1.0"] {
        router = router
            .route(&format!("/services/collector/raw{version}"), post(post_raw))
            .route(&format!("/services/collector/health{version}"), get(health))
            .route(&format!("/services/collector/ack{version}"), post(acks));
    }
    router.with_state(Arc::new(Hec { ingest, channels: Channels::default() }))
}

/// Where the events of a request come from, unless they say otherwise, and their channel.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(crate) struct HecParams {
    /// Channel for acknowledgements; also as header `X-Splunk-Request-Channel`.
    channel: Option<String>,
    /// Host of events that name none.
    host: String,
    /// Source of events that name none.
    source: String,
    /// Source type of events that name none.
    sourcetype: String,
    /// Index of events that name none.
    index: String,
}

type QueryParams = Result<Query<HecParams>, QueryRejection>;

/// Stores events as Splunk's HTTP Event Collector does; also at `/services/collector/event`.
#[utoipa::path(
    post,
    path = "/services/collector",
    tag = "ingest",
    params(HecParams),
    request_body(description = "JSON objects, one after the other or in arrays", content((serde_json::Value = "application/json"))),
    responses(
        (status = 200, description = "All events are durable; `ackId` if there is a channel"),
        (status = 400, description = "No data, or events were rejected; the first is named"),
        (status = 413, description = "The body is too long"),
        (status = 415, description = "The encoding is unknown"),
        (status = 503, description = "Busy; see `Retry-After`"),
    )
)]
pub(crate) async fn post_events(
    State(hec): State<Arc<Hec>>,
    params: QueryParams,
    request: http::Request<Body>,
) -> Response {
    hec.store(SPLUNK_EVENTS, params, request).await
}

/// Stores lines of text as Splunk's HTTP Event Collector does.
#[utoipa::path(
    post,
    path = "/services/collector/raw",
    tag = "ingest",
    params(HecParams),
    request_body(description = "Lines", content((String = "text/plain"))),
    responses(
        (status = 200, description = "All events are durable; `ackId` if there is a channel"),
        (status = 400, description = "No data, or events were rejected; the first is named"),
        (status = 413, description = "The body is too long"),
        (status = 415, description = "The encoding is unknown"),
        (status = 503, description = "Busy; see `Retry-After`"),
    )
)]
pub(crate) async fn post_raw(
    State(hec): State<Arc<Hec>>,
    params: QueryParams,
    request: http::Request<Body>,
) -> Response {
    hec.store(SPLUNK_RAW, params, request).await
}

impl Hec {
    async fn store(
        &self,
        format: &str,
        params: QueryParams,
        request: http::Request<Body>,
    ) -> Response {
        let (parts, body) = request.into_parts();
        let asked = read_params(params).and_then(|params| {
            let channel = channel(&params, &parts.headers)?;
            let HecParams { host, source, sourcetype, index, .. } = params;
            let params: Params = vec![
                ("host", host),
                ("source", source),
                ("sourcetype", sourcetype),
                ("index", index),
            ];
            let request = Request { format: format.to_owned(), params, ..Request::default() };
            Ok((request, channel))
        });
        let (asked, channel) = match asked {
            Ok((request, channel)) => (Ok(request), channel),
            Err(error) => (Err(error), None),
        };
        match edge::accept(&self.ingest, asked, &parts, body).await {
            Ok(accepted) => self.answer(&accepted, channel.as_deref()),
            Err(error) => refuse(&error),
        }
    }

    fn answer(&self, accepted: &Accepted, channel: Option<&str>) -> Response {
        if let Some((number, fault)) = accepted.faults.first() {
            let detail = json!({"invalid-event-number": number, "detail": fault.0});
            return say(code_of(fault), detail);
        }
        if accepted.accepted == 0 {
            return say(Code::NoData, json!({}));
        }
        match channel {
            Some(channel) => say(Code::Success, json!({"ackId": self.channels.issue(channel)})),
            None => say(Code::Success, json!({})),
        }
    }
}

async fn health(State(hec): State<Arc<Hec>>, request: http::Request<Body>) -> Response {
    let sender = match Sender::of(request.extensions()) {
        Ok(sender) => sender,
        Err(error) => return refuse(&error.into()),
    };
    match hec.ingest.admission().enter(&sender, Some(0)) {
        Ok(_) => say(Code::Healthy, json!({})),
        Err(_) => say(Code::QueuesFull, json!({})),
    }
}

/// Tells which acknowledgement ids were issued: with them, the events were durable.
async fn acks(
    State(hec): State<Arc<Hec>>,
    params: QueryParams,
    request: http::Request<Body>,
) -> Response {
    #[derive(Deserialize)]
    struct Question {
        acks: Vec<u64>,
    }
    let (parts, mut body) = request.into_parts();
    let channel = match read_params(params).and_then(|params| channel(&params, &parts.headers)) {
        Ok(Some(channel)) => channel,
        Ok(None) => return say(Code::ChannelMissing, json!({})),
        Err(error) => return refuse(&error),
    };
    let (wire_bytes, decompressed_bytes) = (ACK_QUERY_LIMIT_BYTES, ACK_QUERY_LIMIT_BYTES);
    let limits = BodyLimits { wire_bytes, decompressed_bytes, ..hec.ingest.limits() };
    let question = async {
        let encoding = Encoding::of(parts.headers.get(CONTENT_ENCODING))?;
        let (admission, sender) = (hec.ingest.admission(), Sender::of(&parts.extensions)?);
        let payload = body::receive(&mut body, encoding, admission, &sender, limits).await?;
        let mut inflating = payload.inflate(limits)?;
        inflating.advance(usize::MAX)?;
        let (bytes, _permit) = inflating.finish();
        serde_json::from_slice::<Question>(&bytes).map_err(|error| {
            IngestError::Unreadable(format!("expected {{\"acks\":[…]}}, but {error}"))
        })
    };
    match question.await {
        Ok(Question { acks }) => {
            let answers = hec.channels.are_issued(&channel, &acks);
            let answers = acks.iter().zip(answers).map(|(id, is)| (id.to_string(), is.into()));
            Json(json!({"acks": answers.collect::<Map<String, Value>>()})).into_response()
        }
        Err(error) => refuse(&error),
    }
}

fn read_params(params: QueryParams) -> Result<HecParams, IngestError> {
    let Query(params) = params.map_err(|error| IngestError::Unreadable(error.body_text()))?;
    Ok(params)
}

/// The channel of a request, from the header or the query.
fn channel(params: &HecParams, headers: &HeaderMap) -> Result<Option<String>, IngestError> {
    let header = headers.get(CHANNEL).and_then(|channel| channel.to_str().ok());
    let channel = header.or(params.channel.as_deref()).filter(|channel| !channel.is_empty());
    match channel {
        Some(channel) if channel.len() > channels::MAX_NAME_BYTES => {
            let (most, found) = (channels::MAX_NAME_BYTES, channel.len());
            Err(IngestError::Unreadable(format!(
                "channel: expected at most {most} bytes, such as a GUID has, found {found}"
            )))
        }
        channel => Ok(channel.map(str::to_owned)),
    }
}

/// What is answered, with Splunk's code for it ("HTTP Event Collector: possible error codes").
#[derive(Debug, Clone, Copy)]
enum Code {
    Success,
    NoData,
    InvalidDataFormat,
    InternalError,
    Busy,
    ChannelMissing,
    EventRequired,
    EventBlank,
    FieldsUnreadable,
    Healthy,
    QueuesFull,
}

impl Code {
    fn parts(self) -> (StatusCode, u8, &'static str) {
        use StatusCode as Http;
        match self {
            Self::Success => (Http::OK, 0, "Success"),
            Self::NoData => (Http::BAD_REQUEST, 5, "No data"),
            Self::InvalidDataFormat => (Http::BAD_REQUEST, 6, "Invalid data format"),
            Self::InternalError => (Http::INTERNAL_SERVER_ERROR, 8, "Internal server error"),
            Self::Busy => (Http::SERVICE_UNAVAILABLE, 9, "Server is busy"),
            Self::ChannelMissing => (Http::BAD_REQUEST, 10, "Data channel is missing"),
            Self::EventRequired => (Http::BAD_REQUEST, 12, "Event field is required"),
            Self::EventBlank => (Http::BAD_REQUEST, 13, "Event field cannot be blank"),
            Self::FieldsUnreadable => (Http::BAD_REQUEST, 15, "Error in handling indexed fields"),
            Self::Healthy => (Http::OK, 17, "HEC is healthy"),
            Self::QueuesFull => {
                (Http::SERVICE_UNAVAILABLE, 18, "HEC is unhealthy, queues are full")
            }
        }
    }
}

fn code_of(fault: &Fault) -> Code {
    match &*fault.0 {
        EVENT_REQUIRED => Code::EventRequired,
        EVENT_BLANK => Code::EventBlank,
        FIELDS_UNREADABLE => Code::FieldsUnreadable,
        _ => Code::InvalidDataFormat,
    }
}

/// An answer with `code` and the members of `more`.
fn say(code: Code, more: Value) -> Response {
    let (status, code, text) = code.parts();
    let mut answer = json!({"text": text, "code": code});
    if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
        answer.extend(more);
    }
    (status, Json(answer)).into_response()
}

/// Splunk knows no 429 and older agents do not repeat after one, so overload is a busy server.
fn refuse(error: &IngestError) -> Response {
    let code = match error {
        IngestError::Overloaded(_)
        | IngestError::TooSlow(_)
        | IngestError::TwinFailed
        | IngestError::Log(
            LogError::StorageFull(_) | LogError::Unavailable { .. } | LogError::Overloaded { .. },
        ) => Code::Busy,
        IngestError::Log(_) | IngestError::NoGate(_) | IngestError::Internal => Code::InternalError,
        IngestError::Unreadable(_)
        | IngestError::TooLarge { .. }
        | IngestError::Bomb { .. }
        | IngestError::Unsupported(_) => Code::InvalidDataFormat,
    };
    let status = match error {
        IngestError::TooLarge { .. } | IngestError::Bomb { .. } | IngestError::Unsupported(_) => {
            error.http_status()
        }
        _ => code.parts().0,
    };
    edge::refuse_as(status, error, say(code, json!({"detail": error.to_string()})))
}

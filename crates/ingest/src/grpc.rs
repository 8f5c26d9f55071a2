//! OTLP over gRPC.
//!
//! One unary method for each signal, read and answered here and not through generated code: so the body is
//! received under the same limits, and decoded by the same decoder, as one over HTTP
//! (gRPC over HTTP/2, "Protocol").

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, State},
    response::Response,
    routing::post,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tonic::Status;

use crate::{
    answer::{self, ExportServiceResponse},
    body::{self, BodyLimits, Encoding, Payload},
    error::IngestError,
    meters,
    pipeline::{Accepted, Ingest, Request},
    sender::Sender,
    signal::Signal,
};

/// Path of the only method of the service for logs.
pub const EXPORT_PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// Path of the only method of the service for traces.
pub const EXPORT_TRACES_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Before a message: whether it is compressed, and its length in four bytes.
const PREFIX_BYTES: usize = 5;

/// The gRPC services of `ingest`, to be served over HTTP/2 with `ConnectInfo<SocketAddr>`
/// behind a `thalweg_access::Gate`.
pub fn router(ingest: Arc<Ingest>) -> Router {
    let unknown = async || {
        let methods = "the only methods are LogsService/Export and TraceService/Export";
        Status::unimplemented(methods).into_http::<Body>()
    };
    let method = |signal| {
        post(move |State(ingest): State<Arc<Ingest>>, request: http::Request<Body>| {
            export(ingest, signal, request)
        })
    };
    Router::new()
        .route(EXPORT_PATH, method(Signal::Logs))
        .route(EXPORT_TRACES_PATH, method(Signal::Traces))
        .fallback(unknown)
        .with_state(ingest)
}

async fn export(ingest: Arc<Ingest>, signal: Signal, request: http::Request<Body>) -> Response {
    let mut response = match accept(&ingest, signal, request).await {
        Ok(accepted) if accepted.accepted == 0 && accepted.rejected > 0 => {
            Status::from(answer::Status::all_rejected(&accepted)).into_http()
        }
        Ok(accepted) => message(&ExportServiceResponse::from(&accepted)),
        Err(error) => {
            meters::refused(&error);
            Status::from(answer::Status::from(&error)).into_http()
        }
    };
    let accepted = HeaderValue::from_static(Encoding::KNOWN);
    response.headers_mut().insert(HeaderName::from_static("grpc-accept-encoding"), accepted);
    response
}

async fn accept(
    ingest: &Arc<Ingest>,
    signal: Signal,
    request: http::Request<Body>,
) -> Result<Accepted, IngestError> {
    let (parts, mut body) = request.into_parts();
    let encoding = Encoding::of(parts.headers.get("grpc-encoding"))?;
    let limits = ingest.limits();
    let limits = BodyLimits { wire_bytes: limits.wire_bytes + PREFIX_BYTES, ..limits };
    let sender = Sender::of(&parts.extensions)?;
    let admission = ingest.admission();
    let mut payload = body::receive(&mut body, encoding, admission, &sender, limits).await?;
    take_prefix(&mut payload)?;
    let request = Request {
        format: signal.protobuf().to_owned(),
        client_ip: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|client| client.0.ip()),
        ..Request::default()
    };
    ingest.process(request, payload).await
}

/// Takes the prefix off the only message of the body.
fn take_prefix(payload: &mut Payload) -> Result<(), IngestError> {
    let bytes = &mut payload.bytes;
    let found = bytes.len();
    if let (Ok(is_compressed @ (0 | 1)), Ok(length)) = (bytes.try_get_u8(), bytes.try_get_u32())
        && length as usize == bytes.len()
    {
        if is_compressed == 0 {
            payload.encoding = Encoding::Identity;
        }
        return Ok(());
    }
    Err(IngestError::Unreadable(format!(
        "expected one gRPC message, its length before it, found {found} bytes that are not"
    )))
}

/// A message and the status OK.
fn message(message: &impl Message) -> Response {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    bytes.put_slice(&message.encode_to_vec());
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::<Bytes>::from(bytes.freeze()).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, grpc);
    response
}

//! Denials in the words of the protocol that the client speaks.

use axum::{
    Json,
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde_json::json;

use crate::denial::Denial;

/// How the client wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `{"error":{"code","message"}}`
    Json,
    /// `{"error":"…"}`, as the native ingest answers.
    Ingest,
    /// Splunk's HTTP Event Collector.
    Splunk,
    /// Elasticsearch.
    Elasticsearch,
    /// OTLP over HTTP: `google.rpc.Status` in protobuf, …
    OtlpProtobuf,
    /// … or in JSON.
    OtlpJson,
    /// gRPC: a status in the headers.
    Grpc,
    /// Loki, and people.
    Text,
}

impl Refusal {
    pub(crate) fn of_request(request: &Request) -> Self {
        let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_of =
            |prefix: &str| content_type.is_some_and(|found| found.starts_with(prefix.as_bytes()));
        let path = request.uri().path();
        let mut segments = path.split('/').skip(1);
        if is_of("application/grpc") {
            Self::Grpc
        } else if path.starts_with("/services/collector") {
            Self::Splunk
        } else if matches!(path, "/v1/logs" | "/v1/traces" | "/v1/metrics") {
            if is_of("application/json") { Self::OtlpJson } else { Self::OtlpProtobuf }
        } else if path.starts_with("/loki/") || path == "/metrics" {
            Self::Text
        } else if path == "/" || segments.any(|segment| segment.starts_with('_')) {
            Self::Elasticsearch
        } else if path == "/api/v1/logs" && request.method() == Method::POST {
            Self::Ingest
        } else {
            Self::Json
        }
    }

    pub(crate) fn answer(self, denial: &Denial) -> Response {
        let message = denial.to_string();
        let (status, code, grpc_code) = match denial {
            Denial::Missing | Denial::Malformed(_) | Denial::Invalid => {
                (StatusCode::UNAUTHORIZED, "unauthenticated", 16)
            }
            Denial::Scope { .. } => (StatusCode::FORBIDDEN, "permission_denied", 7),
            Denial::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_checks", 8),
        };
        let mut response = match self {
            Self::Json => {
                let error = json!({"error": {"code": code, "message": message}});
                (status, Json(error)).into_response()
            }
            Self::Ingest => (status, Json(json!({"error": message}))).into_response(),
            Self::Splunk => splunk(denial, &message),
            Self::Elasticsearch => {
                let reason = json!({"type": "security_exception", "reason": message});
                let mut error = reason.clone();
                error["root_cause"] = json!([reason]);
                (status, Json(json!({"error": error, "status": status.as_u16()}))).into_response()
            }
            Self::OtlpJson => {
                (status, Json(json!({"code": grpc_code, "message": message}))).into_response()
            }
            Self::OtlpProtobuf => {
                let protobuf = HeaderValue::from_static("application/x-protobuf");
                (status, [(CONTENT_TYPE, protobuf)], rpc_status(grpc_code, &message))
                    .into_response()
            }
            Self::Grpc => return grpc(grpc_code, &message),
            Self::Text => (status, message + "\n").into_response(),
        };
        hints(response.headers_mut(), denial);
        response
    }
}

fn hints(headers: &mut HeaderMap, denial: &Denial) {
    match denial {
        Denial::Missing | Denial::Malformed(_) | Denial::Invalid => {
            for scheme in ["Bearer realm=\"thalweg\"", "Basic realm=\"thalweg\"", "ApiKey"] {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
            }
        }
        Denial::Busy(wait) => {
            headers.insert(RETRY_AFTER, wait.as_secs().max(1).into());
        }
        Denial::Scope { .. } => {}
    }
}

/// Statuses and codes of "Troubleshoot HTTP Event Collector" in Splunk's manual.
fn splunk(denial: &Denial, message: &str) -> Response {
    let (status, code, text) = match denial {
        Denial::Missing => (StatusCode::UNAUTHORIZED, 2, "Token is required"),
        Denial::Malformed(_) => (StatusCode::UNAUTHORIZED, 3, "Invalid authorization"),
        Denial::Invalid => (StatusCode::FORBIDDEN, 4, "Invalid token"),
        Denial::Scope { .. } => (StatusCode::FORBIDDEN, 4, message),
        Denial::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, 9, "Server is busy"),
    };
    (status, Json(json!({"text": text, "code": code}))).into_response()
}

/// `google.rpc.Status` in protobuf: code and message.
fn rpc_status(code: u8, message: &str) -> Vec<u8> {
    let mut bytes = vec![0x08, code, 0x12];
    let mut length = message.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(message.as_bytes());
    bytes
}

/// A response of headers only (gRPC over HTTP/2, "Responses").
fn grpc(code: u8, message: &str) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", u16::from(code).into());
    // Percent-encoded where it is not printable ASCII.
    let message: String = message
        .bytes()
        .map(|byte| match byte {
            b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert("grpc-message", message);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(method: Method, path: &str, content_type: &str) -> Refusal {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header(CONTENT_TYPE, content_type).body(Body::empty()).unwrap();
        Refusal::of_request(&request)
    }

    #[test]
    fn the_protocol_is_told_by_path_and_content_type() {
        for (method, path, content_type, expected) in [
            (Method::POST, "/services/collector/event", "", Refusal::Splunk),
            (Method::POST, "/_bulk", "application/x-ndjson", Refusal::Elasticsearch),
            (Method::POST, "/index/_bulk", "application/json", Refusal::Elasticsearch),
            (Method::GET, "/", "", Refusal::Elasticsearch),
            (Method::POST, "/v1/logs", "application/json", Refusal::OtlpJson),
            (Method::POST, "/v1/traces", "application/x-protobuf", Refusal::OtlpProtobuf),
            (Method::POST, "/x.LogsService/Export", "application/grpc+proto", Refusal::Grpc),
            (Method::POST, "/loki/api/v1/push", "", Refusal::Text),
            (Method::POST, "/api/v1/logs", "", Refusal::Ingest),
            (Method::GET, "/api/v1/logs", "", Refusal::Json),
            (Method::POST, "/api/v1/sql", "application/json", Refusal::Json),
        ] {
            assert_eq!(refusal(method, path, content_type), expected, "{path}");
        }
    }

    #[test]
    fn a_status_in_protobuf_has_its_code_and_message() {
        let message = "m".repeat(300);
        let bytes = rpc_status(16, &message);
        assert_eq!(bytes[..5], [0x08, 16, 0x12, 0xac, 0x02]);
        assert_eq!(&bytes[5..], message.as_bytes());
    }
}

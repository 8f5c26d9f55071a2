//! Errors as HTTP answers, in one shape everywhere.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::QueryError;

/// Delay after which a refused request is worth repeating, in seconds.
const RETRY_AFTER_SECS: &str = "1";

/// `{"error":{"code","message"}}`, with `line` and `column` where they are known.
pub(crate) fn error_json(error: &QueryError) -> Value {
    let mut fields = json!({"code": error.code(), "message": error.to_string()});
    if let Some(position) = error.position() {
        fields["line"] = position.line.into();
        fields["column"] = position.column.into();
    }
    json!({"error": fields})
}

fn status(error: &QueryError) -> StatusCode {
    match error {
        QueryError::Syntax { .. }
        | QueryError::Invalid { .. }
        | QueryError::Parameter { .. }
        | QueryError::Cancelled => StatusCode::BAD_REQUEST,
        QueryError::NotReading(_) | QueryError::Forbidden(_) => StatusCode::FORBIDDEN,
        QueryError::NotFound(_) => StatusCode::NOT_FOUND,
        QueryError::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
        QueryError::TooManyQueries { .. } | QueryError::TooManyTailers { .. } => {
            StatusCode::TOO_MANY_REQUESTS
        }
        QueryError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
        QueryError::Memory(_) | QueryError::Execution(_) => StatusCode::UNPROCESSABLE_ENTITY,
        QueryError::Table { .. } | QueryError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for QueryError {
    fn into_response(self) -> Response {
        let status = status(&self);
        if status.is_server_error() {
            tracing::warn!(error = %self, "query failed");
        }
        let mut response = (status, Json(error_json(&self))).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
        }
        response
    }
}

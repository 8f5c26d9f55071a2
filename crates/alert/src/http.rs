//! HTTP endpoints: alerts, and silences.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thalweg_access::{Caller, Principal, Scope};
use utoipa::{IntoParams, OpenApi, ToSchema};
use uuid::Uuid;

use crate::{
    alerts::Alerts,
    error::{AlertError, Result},
    evidence::Evidence,
    instance,
    labels::{Labels, SERVICE, SEVERITY},
    matcher::{Matcher, Matchers},
    severity::Severity,
    silence::{NewSilence, Silence},
    snapshot::{Health, RuleStatus, ShownAlert},
};

/// Longest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Alerts of an answer unless the request asks for another number.
const DEFAULT_ALERTS: usize = 1_000;

/// The endpoints' part of the OpenAPI description.
#[derive(Debug, OpenApi)]
#[openapi(
    paths(alerts, silences, silence, end_silence),
    components(schemas(
        AlertsAnswer,
        AlertRow,
        RuleStatus,
        Health,
        Evidence,
        NewSilence,
        Silence
    ))
)]
pub struct ApiDoc;

/// Routes `/api/v1/alerts` and `/api/v1/silences`, to be served behind a `thalweg_access::Gate`
/// that asks for [`Scope::Query`]. Whoever silences needs [`Scope::Admin`], which is asked for
/// here.
pub fn router(alerts_at_work: Arc<Alerts>) -> Router {
    Router::new()
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/silences", get(silences).post(silence))
        .route("/api/v1/silences/{id}", delete(end_silence))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(alerts_at_work)
}

/// Which alerts to show.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AlertParameters {
    /// `pending`, `firing` or `resolved`; several separated by commas.
    state: Option<String>,
    /// `info`, `warning` or `critical`; several separated by commas.
    severity: Option<String>,
    /// A condition on a label: `service="payment"`, `host=~"db-.*"`.
    label: Option<String>,
    /// The alert with this fingerprint.
    fingerprint: Option<String>,
    /// Whether to show alerts that are silenced or explained by others; they are unless this is
    /// false.
    muted: Option<bool>,
    /// Alerts to show at most, 1000 unless given.
    limit: Option<usize>,
}

/// Alerts, and how the rules are doing.
#[derive(Debug, Serialize, ToSchema)]
struct AlertsAnswer {
    /// Firing ones first, the worst and newest of them first.
    alerts: Vec<AlertRow>,
    /// Alerts that were asked for, more of which there may be than are shown.
    total: usize,
    /// Rules and anomalies; none for tokens that are limited to services.
    rules: Vec<RuleStatus>,
}

/// An alert.
#[derive(Debug, Serialize, ToSchema)]
struct AlertRow {
    /// Name of its rule or anomaly.
    name: String,
    /// How far it has come.
    state: instance::State,
    /// How bad it is.
    severity: String,
    /// The service that it is about.
    service: Option<String>,
    /// One line for people.
    summary: String,
    /// Value at the last evaluation in which its condition held.
    value: Option<f64>,
    /// When its condition began to hold.
    active_at: DateTime<Utc>,
    /// When it began to fire; while it is pending, when its condition began to hold.
    starts_at: DateTime<Utc>,
    /// When it was resolved.
    ends_at: Option<DateTime<Utc>>,
    /// Short name of its labels.
    fingerprint: String,
    /// What it is.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    labels: Labels,
    /// Texts for people.
    annotations: std::collections::BTreeMap<String, String>,
    /// How a detector came to its judgement.
    evidence: Option<Evidence>,
    /// Silences that hold for it: ids, and names of recurring ones.
    silenced_by: Vec<String>,
    /// Fingerprints of alerts that explain it.
    inhibited_by: Vec<String>,
}

/// The alerts.
///
/// Pending, firing and lately resolved alerts as they were at most half a second ago, and the
/// health of rules and anomalies. A token that is limited to services sees the alerts whose label
/// `service` is one of them.
#[utoipa::path(
    get,
    path = "/api/v1/alerts",
    tag = "alerts",
    params(AlertParameters),
    responses(
        (status = 200, description = "Alerts and rules", body = AlertsAnswer),
        (status = 400, description = "A parameter is wrong; says which"),
        (status = 503, description = "Nobody looks after the alerts here: what is known is old, or another process does"),
    )
)]
async fn alerts(
    State(alerts): State<Arc<Alerts>>,
    Caller(principal): Caller,
    parameters: Result<Query<AlertParameters>, QueryRejection>,
) -> Result<Json<AlertsAnswer>> {
    let Query(parameters) = parameters.map_err(|rejection| query_string(rejection.body_text()))?;
    let wanted = Wanted::new(parameters)?;
    alerts.check()?;
    let snapshot = alerts.snapshot();
    let mut shown: Vec<&ShownAlert> = snapshot
        .alerts
        .iter()
        .filter(|shown| sees(&principal, shown.alert.service()) && wanted.is(shown))
        .collect();
    shown.sort_by_key(|shown| {
        let order = match shown.alert.state {
            instance::State::Firing => 0,
            instance::State::Pending => 1,
            instance::State::Resolved => 2,
        };
        let severity = severity_of(&shown.alert.labels);
        (order, std::cmp::Reverse(severity), std::cmp::Reverse(shown.alert.starts_at))
    });
    let rules = if principal.services().is_none() { snapshot.rules.clone() } else { Vec::new() };
    let total = shown.len();
    let alerts = shown.into_iter().take(wanted.limit).map(AlertRow::new).collect();
    Ok(Json(AlertsAnswer { alerts, total, rules }))
}

/// The silences.
///
/// Those that were asked for, and are not over for long. A token that is limited to services sees
/// those that are about one of them.
#[utoipa::path(
    get,
    path = "/api/v1/silences",
    tag = "alerts",
    responses(
        (status = 200, description = "Silences", body = Vec<Silence>),
        (status = 503, description = "Another process looks after the alerts"),
    )
)]
async fn silences(
    State(alerts): State<Arc<Alerts>>,
    Caller(principal): Caller,
) -> Result<Json<Vec<Silence>>> {
    alerts.check()?;
    let snapshot = alerts.snapshot();
    let silences = snapshot.silences.iter();
    let seen = silences.filter(|silence| sees(&principal, silence.service().unwrap_or_default()));
    Ok(Json(seen.cloned().collect()))
}

/// Silence alerts.
///
/// Nobody is told of alerts that meet all conditions, from `starts_at` to `ends_at`. They are
/// shown as before. Needs the scope `admin`.
#[utoipa::path(
    post,
    path = "/api/v1/silences",
    tag = "alerts",
    request_body = NewSilence,
    responses(
        (status = 201, description = "The silence", body = Silence),
        (status = 400, description = "Part of the request is wrong; says which"),
        (status = 403, description = "The token has not the scope `admin`"),
        (status = 429, description = "There are too many silences"),
    )
)]
async fn silence(
    State(alerts): State<Arc<Alerts>>,
    Caller(principal): Caller,
    request: Result<Json<NewSilence>, JsonRejection>,
) -> Result<Response> {
    let by = admin(&principal)?;
    let Json(new) = request.map_err(|rejection| AlertError::Parameter {
        name: "body",
        message: rejection.body_text(),
    })?;
    let silence = alerts.silence(new, by).await?;
    Ok((StatusCode::CREATED, Json(silence)).into_response())
}

/// End a silence.
///
/// It is over from now on. Needs the scope `admin`.
#[utoipa::path(
    delete,
    path = "/api/v1/silences/{id}",
    tag = "alerts",
    params(("id" = Uuid, Path, description = "Id of the silence")),
    responses(
        (status = 200, description = "The silence as it was", body = Silence),
        (status = 403, description = "The token has not the scope `admin`"),
        (status = 404, description = "There is no such silence"),
    )
)]
async fn end_silence(
    State(alerts): State<Arc<Alerts>>,
    Caller(principal): Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<Json<Silence>> {
    admin(&principal)?;
    let Path(id) = id.map_err(|rejection| AlertError::NotFound(rejection.body_text()))?;
    Ok(Json(alerts.end_silence(id).await?))
}

/// Whether `principal` sees what is about `service`.
fn sees(principal: &Principal, service: &str) -> bool {
    principal.services().is_none_or(|services| services.contains(service))
}

/// The name of a principal that may change things.
fn admin(principal: &Principal) -> Result<&str> {
    if principal.may(Scope::Admin) {
        return Ok(principal.name());
    }
    Err(AlertError::Forbidden(format!(
        "token `{}` may not silence alerts: that needs the scope admin",
        principal.name()
    )))
}

/// Which alerts are asked for.
struct Wanted {
    states: Vec<instance::State>,
    severities: Vec<Severity>,
    labels: Matchers,
    fingerprint: Option<String>,
    muted: bool,
    limit: usize,
}

impl Wanted {
    fn new(parameters: AlertParameters) -> Result<Self> {
        let AlertParameters { state, severity, label, fingerprint, muted, limit } = parameters;
        let labels = label.map(|text| text.parse::<Matcher>()).transpose();
        let labels = labels.map_err(|message| AlertError::Parameter { name: "label", message })?;
        Ok(Self {
            states: listed("state", state, "pending, firing or resolved")?,
            severities: listed("severity", severity, "info, warning or critical")?,
            labels: labels.into_iter().collect(),
            fingerprint,
            muted: muted.unwrap_or(true),
            limit: limit.unwrap_or(DEFAULT_ALERTS),
        })
    }

    fn is(&self, shown: &ShownAlert) -> bool {
        let alert = &shown.alert;
        let fingerprint = self.fingerprint.as_ref();
        (self.states.is_empty() || self.states.contains(&alert.state))
            && (self.severities.is_empty()
                || severity_of(&alert.labels)
                    .is_some_and(|severity| self.severities.contains(&severity)))
            && self.labels.match_all(&alert.labels)
            && fingerprint.is_none_or(|wanted| *wanted == alert.fingerprint.to_string())
            && (self.muted || !shown.is_muted())
    }
}

/// Values separated by commas.
fn listed<T: serde::de::DeserializeOwned>(
    name: &'static str,
    text: Option<String>,
    expected: &str,
) -> Result<Vec<T>> {
    let text = text.unwrap_or_default();
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let read = |word: &str| {
        serde_json::from_value(word.into()).map_err(|_| AlertError::Parameter {
            name,
            message: format!("expected {expected}, found `{word}`"),
        })
    };
    words.map(read).collect()
}

fn severity_of(labels: &Labels) -> Option<Severity> {
    serde_json::from_value(labels.value(SEVERITY).into()).ok()
}

fn query_string(message: String) -> AlertError {
    AlertError::Parameter { name: "query string", message }
}

impl AlertRow {
    fn new(shown: &ShownAlert) -> Self {
        let alert = &shown.alert;
        let service = alert.labels.value(SERVICE);
        Self {
            name: alert.name().to_owned(),
            state: alert.state,
            severity: alert.labels.value(SEVERITY).to_owned(),
            service: (!service.is_empty()).then(|| service.to_owned()),
            summary: alert.summary().into_owned(),
            value: alert.value,
            active_at: alert.active_at,
            starts_at: alert.starts_at,
            ends_at: alert.ends_at,
            fingerprint: alert.fingerprint.to_string(),
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            evidence: alert.evidence.clone(),
            silenced_by: shown.silenced_by.clone(),
            inhibited_by: shown.inhibited_by.iter().map(ToString::to_string).collect(),
        }
    }
}

impl IntoResponse for AlertError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::Parameter { .. } | Self::Config(_) => (StatusCode::BAD_REQUEST, "parameter"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many"),
            Self::Standby => (StatusCode::SERVICE_UNAVAILABLE, "standby"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            Self::Unattended { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unattended"),
            Self::Io { .. } | Self::Unreadable { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal")
            }
        };
        let body = json!({"error": {"code": code, "message": self.to_string()}});
        (status, Json(body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let description = ApiDoc::openapi();
        let paths: Vec<&str> = description.paths.paths.keys().map(String::as_str).collect();
        assert_eq!(paths, ["/api/v1/alerts", "/api/v1/silences", "/api/v1/silences/{id}"]);
    }

    #[test]
    fn a_filter_that_names_nothing_is_refused() {
        let wanted = |state: &str| {
            Wanted::new(AlertParameters { state: Some(state.into()), ..Default::default() })
        };
        assert_eq!(wanted("firing,pending").unwrap().states.len(), 2);
        let error = wanted("fire").err().unwrap().to_string();
        assert_eq!(error, "state: expected pending, firing or resolved, found `fire`");
    }
}

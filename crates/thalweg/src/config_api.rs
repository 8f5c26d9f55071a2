//! `GET /api/v1/config`: the configuration in force.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};
use serde::Serialize;
use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

use crate::config::Config;

/// What is shown in the place of a secret.
const MASK: &str = "••••••";
/// Settings whose values are secret, wherever they stand, unless they only point at one.
const SECRET_SETTINGS: [&str; 6] =
    ["bearer_token", "password", "secret", "token", "authorization", "url"];
/// How a value points at a secret that is kept elsewhere.
const POINTERS: [&str; 2] = ["env:", "file:"];

/// This module's part of the OpenAPI document.
#[derive(Debug, OpenApi)]
#[openapi(paths(config), components(schemas(ConfigInForce)))]
pub(crate) struct ApiDoc;

/// The configuration in force.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ConfigInForce {
    /// Version of the server.
    version: &'static str,
    /// Directory for the log and the tables.
    data_dir: String,
    /// All settings, as one document. Secrets are masked.
    #[schema(value_type = Object)]
    settings: Value,
}

/// Routes `/api/v1/config`, to be served behind a gate that asks for the scope `admin`.
pub(crate) fn router(config: &Config) -> Router {
    let schema = schemars::schema_for!(Config).to_value();
    let mut settings = in_force(Some(&config.made), &schema, &schema["$defs"]).unwrap_or_default();
    mask(&mut settings, false);
    let config = ConfigInForce {
        version: env!("CARGO_PKG_VERSION"),
        data_dir: config.data_dir.display().to_string(),
        settings,
    };
    Router::new().route("/api/v1/config", get(self::config)).with_state(Arc::new(config))
}

/// The configuration in force.
#[utoipa::path(
    get,
    path = "/api/v1/config",
    tag = "operation",
    responses(
        (status = 200, description = "The configuration, secrets masked", body = ConfigInForce),
        (status = 403, description = "The token has not the scope `admin`"),
    )
)]
async fn config(State(config): State<Arc<ConfigInForce>>) -> Json<ConfigInForce> {
    Json(ConfigInForce::clone(&config))
}

/// Settings as they were made, and defaults where they were not; what is left out is empty.
/// `schema` describes them; `defs` are the schemas that it names.
fn in_force(made: Option<&Value>, schema: &Value, defs: &Value) -> Option<Value> {
    let name = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/"));
    let shape = name.map_or(schema, |name| &defs[name]);
    let made = made.or(schema.get("default")).or(shape.get("default"));
    match (shape["properties"].as_object(), made) {
        (Some(properties), None | Some(Value::Object(_))) => {
            let mut members = made.and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, schema) in properties {
                let value = in_force(members.get(name), schema, defs);
                members.extend(value.map(|value| (name.clone(), value)));
            }
            Some(Value::Object(members))
        }
        (_, Some(Value::Array(elements))) => {
            let items = &shape["items"];
            Some(elements.iter().filter_map(|one| in_force(Some(one), items, defs)).collect())
        }
        _ => made.cloned(),
    }
}

/// Masks the texts below secret settings, other than those that say where a secret is.
fn mask(value: &mut Value, is_secret: bool) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| {
            mask(value, is_secret || SECRET_SETTINGS.contains(&name.as_str()))
        }),
        Value::Array(elements) => elements.iter_mut().for_each(|value| mask(value, is_secret)),
        Value::String(text) if is_secret && !POINTERS.iter().any(|at| text.starts_with(at)) => {
            MASK.clone_into(text);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_that_were_not_made_have_their_defaults() {
        let made = json!({
            "query": {"max_rows": 50_000},
            "views": [{"name": "v", "query": "SELECT 1", "lateness_secs": 60}],
        });
        let schema = schemars::schema_for!(Config).to_value();
        let settings = in_force(Some(&made), &schema, &schema["$defs"]).unwrap();
        assert_eq!(settings["query"]["max_rows"], 50_000);
        assert_eq!(settings["query"]["default_timeout_secs"], 30);
        assert_eq!(settings["listen"]["http"], "127.0.0.1:7070");
        assert_eq!(settings["views"][0]["lateness_secs"], 60);
        assert_eq!(settings["views"][0]["idle_secs"], 5);
        let config: Config = serde_json::from_value(settings).unwrap();
        assert_eq!(config.query.max_rows, 50_000);
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand_and_their_places_are_not() {
        let mut settings = json!({
            "listen": {"http": "127.0.0.1:7070"},
            "alerting": {"receivers": [
                {"name": "chat", "slack": {"url": "https://hooks.example/T0/B0/key"}},
                {"name": "pager", "webhook": {"url": "env:PAGER", "bearer_token": "file:/run/pager"}},
                {"name": "mail", "email": {"password": ["hunter2"], "host": "smtp.example"}},
            ]},
        });
        mask(&mut settings, false);
        let text = settings.to_string();
        assert!(!text.contains("hooks.example") && !text.contains("hunter2"), "{text}");
        for shown in ["127.0.0.1:7070", "env:PAGER", "file:/run/pager", "smtp.example"] {
            assert!(text.contains(shown), "{shown} is not in {text}");
        }
    }
}

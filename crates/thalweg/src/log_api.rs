//! `GET /api/v1/topics` and `/api/v1/groups`: what the log holds, and who has read how far.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use thalweg_log::{TopicPartition, Topics};
use utoipa::{OpenApi, ToSchema};

/// This module's part of the OpenAPI document.
#[derive(Debug, OpenApi)]
#[openapi(paths(topics, groups), components(schemas(PartitionInfo, GroupInfo)))]
pub(crate) struct ApiDoc;

/// A partition of a topic.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PartitionInfo {
    /// Name of the topic.
    pub(crate) topic: String,
    /// Number of the partition, from 0.
    pub(crate) partition: u32,
    /// First retained offset.
    pub(crate) start: u64,
    /// Offset after the last durable row.
    pub(crate) end: u64,
}

/// How far a consumer group has read a partition.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct GroupInfo {
    /// Name of the group.
    pub(crate) group: String,
    /// Name of the topic.
    pub(crate) topic: String,
    /// Number of the partition, from 0.
    pub(crate) partition: u32,
    /// Offset before which it has read everything.
    pub(crate) committed: u64,
    /// Offset after the last durable row.
    pub(crate) end: u64,
    /// Offsets between the two.
    pub(crate) lag: u64,
}

pub(crate) fn router(log: Arc<dyn Topics>) -> Router {
    Router::new()
        .route("/api/v1/topics", get(topics))
        .route("/api/v1/groups", get(groups))
        .with_state(log)
}

/// The topics of the log, by partition.
#[utoipa::path(get, path = "/api/v1/topics", tag = "operation", responses((status = 200, description = "Partitions", body = [PartitionInfo])))]
async fn topics(State(log): State<Arc<dyn Topics>>) -> Response {
    answer(partitions(&*log))
}

/// How far consumer groups have read.
#[utoipa::path(get, path = "/api/v1/groups", tag = "operation", responses((status = 200, description = "Groups", body = [GroupInfo])))]
async fn groups(State(log): State<Arc<dyn Topics>>) -> Response {
    answer(read_by_groups(&*log))
}

fn answer(rows: thalweg_log::Result<impl Serialize>) -> Response {
    match rows {
        Ok(rows) => Json(rows).into_response(),
        Err(error) => {
            let body = serde_json::json!({"error": {"message": error.to_string()}});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

fn partitions(log: &dyn Topics) -> thalweg_log::Result<Vec<PartitionInfo>> {
    let mut names = log.topics()?;
    names.sort();
    let mut found = vec![];
    for topic in names {
        // A topic that is on disk only is of no use to anybody who asks.
        let Ok(partitions) = log.partitions(&topic) else { continue };
        for partition in 0..partitions {
            let range = log.offsets(TopicPartition::new(topic.as_str(), partition))?;
            let (start, end) = (range.start, range.end);
            found.push(PartitionInfo { topic: topic.clone(), partition, start, end });
        }
    }
    Ok(found)
}

fn read_by_groups(log: &dyn Topics) -> thalweg_log::Result<Vec<GroupInfo>> {
    let partitions = partitions(log)?;
    let mut found = vec![];
    for group in log.groups() {
        for PartitionInfo { topic, partition, end, .. } in &partitions {
            let at = TopicPartition::new(topic.as_str(), *partition);
            if let Some(committed) = log.committed(&group, at)? {
                found.push(GroupInfo {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                    committed,
                    end: *end,
                    lag: end.saturating_sub(committed),
                });
            }
        }
    }
    Ok(found)
}

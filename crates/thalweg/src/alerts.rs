//! Alerts of a node: their questions are answered by its query engine.

use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use thalweg_access::{Asker, Principal};
use thalweg_alert::Rows;
use thalweg_query::{Limits, QueryEngine};

/// Longest that a question may take; alerts give up sooner, as they are configured.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Answers the questions of rules, which see everything.
pub(crate) struct EngineRows(pub(crate) Arc<QueryEngine>);

#[async_trait]
impl Rows for EngineRows {
    async fn rows(&self, sql: &str, max_rows: usize) -> Result<Vec<RecordBatch>, String> {
        let asker = Asker { principal: Principal::anyone(), protocol: "alerts", address: None };
        let answer = async {
            let limits = Limits { rows: Some(max_rows), timeout: TIMEOUT };
            let mut running = self.0.view(asker)?.sql(sql, limits).await?;
            let mut rows = vec![];
            while let Some(batch) = running.next_batch().await? {
                rows.push(batch);
            }
            Ok::<_, thalweg_query::QueryError>(rows)
        };
        answer.await.map_err(|error| error.to_string())
    }
}

//! Alerts of a node: their questions are answered by its query engine.

use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use thalweg_access::{Asker, Principal};
use thalweg_alert::Rows;
use thalweg_query::{Limits, Places, QueryEngine};

/// Longest that a question may take; alerts give up sooner, as they are configured.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Answers the questions of rules, which see everything and do not wait for users' questions.
pub(crate) struct EngineRows {
    engine: Arc<QueryEngine>,
    places: Places,
}

impl EngineRows {
    /// Answers up to `max_queries` questions at once.
    pub(crate) fn new(engine: Arc<QueryEngine>, max_queries: usize) -> Self {
        Self { engine, places: Places::new(max_queries) }
    }
}

#[async_trait]
impl Rows for EngineRows {
    async fn rows(&self, sql: &str, max_rows: usize) -> Result<Vec<RecordBatch>, String> {
        let asker = Asker { principal: Principal::anyone(), protocol: "alerts", address: None };
        let answer = async {
            let limits = Limits { rows: Some(max_rows), timeout: TIMEOUT };
            let view = self.engine.view(asker)?.within(self.places.clone());
            let mut running = view.sql(sql, limits).await?;
            let mut rows = vec![];
            while let Some(batch) = running.next_batch().await? {
                rows.push(batch);
            }
            Ok::<_, thalweg_query::QueryError>(rows)
        };
        answer.await.map_err(|error| error.to_string())
    }
}

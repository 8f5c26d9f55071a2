//! Alerts of a node: their questions are answered by its query engine. And the rules that it has of
//! itself.

use std::{sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use thalweg_access::{Asker, Principal};
use thalweg_alert::{Rows, RuleConfig};
use thalweg_kafka::KafkaConfig;
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

/// The rules about what waits in the spool: for too long, and too much.
pub(crate) fn about_spool(kafka: &KafkaConfig) -> Vec<RuleConfig> {
    let limit_bytes = kafka.spool.limit_bytes;
    let rules = serde_json::json!([
        {
            "name": "SpoolNotForwarded",
            "query": "SELECT labels->>'topic' AS topic, max(value) AS value FROM metrics \
                WHERE name = 'thalweg_kafka_spool_age_seconds' GROUP BY 1",
            "threshold": {"fire": "> 60", "resolve": "< 30"},
            "severity": "warning",
            "annotations": {"summary":
                "events of {{ topic }} have waited {{ value }} s for Kafka; they are safe in the \
                 spool, and no query sees them yet"},
        },
        {
            "name": "SpoolNearlyFull",
            "query": format!("SELECT value / {limit_bytes} AS value FROM metrics \
                WHERE name = 'thalweg_kafka_spool_bytes'"),
            "threshold": {"fire": "> 0.8", "resolve": "< 0.7"},
            "severity": "critical",
            "annotations": {"summary":
                "{{ value }} of log.kafka.spool.limit_bytes wait for Kafka; at 1 senders get 429"},
        },
    ]);
    serde_json::from_value(rules).expect("the rules are well-formed")
}

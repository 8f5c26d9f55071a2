//! What streams held before a view began: the rows that the lake has committed.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::StreamExt as _;
use parking_lot::RwLock;
use thalweg_lake::LakeTable;
use thalweg_stream::{Histories, History, Result, StreamError};

/// Histories from the tables of the lake.
pub(crate) struct LakeHistories {
    tables: RwLock<BTreeMap<String, Arc<LakeTable>>>,
}

impl LakeHistories {
    /// The histories of streams that are named as their tables are.
    pub(crate) fn new(tables: &[Arc<LakeTable>]) -> Self {
        let tables = tables.iter().map(|table| (table.name().to_owned(), table.clone()));
        Self { tables: RwLock::new(tables.collect()) }
    }

    pub(crate) fn add(&self, stream: &str, table: Arc<LakeTable>) {
        self.tables.write().insert(stream.to_owned(), table);
    }

    pub(crate) fn remove(&self, stream: &str) {
        self.tables.write().remove(stream);
    }
}

#[async_trait]
impl Histories for LakeHistories {
    async fn open(
        &self,
        stream: &str,
        columns: &[String],
        since_micros: Option<i64>,
    ) -> Result<History> {
        let fault = |reason: String| StreamError::History { stream: stream.to_owned(), reason };
        let table = self.tables.read().get(stream).cloned();
        let table = table.ok_or_else(|| fault("it has no table".into()))?;
        let session = thalweg_query::planning_session().map_err(|e| fault(e.to_string()))?;
        let committed = table.committed(&session, columns, since_micros).await;
        let (cursors, rows) = committed.map_err(|error| fault(error.to_string()))?;
        let rows = rows.map(|rows| rows.map_err(StreamError::from)).boxed();
        Ok(History { rows, cursors })
    }
}

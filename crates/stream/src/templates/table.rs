//! The table `templates`: what has been learnt until now.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use thalweg_event::schema::timestamp_type;

use super::Templates;

/// The templates, how often each was seen, and when first and last.
pub struct TemplateTable {
    templates: Arc<Templates>,
    schema: SchemaRef,
}

impl TemplateTable {
    /// The table of `templates`.
    pub fn new(templates: Arc<Templates>) -> Self {
        let schema = Arc::new(Schema::new(vec![
            Field::new("template_id", DataType::Utf8, false),
            Field::new("template", DataType::Utf8, false),
            Field::new("events", DataType::Int64, false),
            Field::new("first_seen", timestamp_type(), true),
            Field::new("last_seen", timestamp_type(), true),
        ]));
        Self { templates, schema }
    }

    fn rows(&self) -> Result<RecordBatch> {
        let mined = self.templates.mined.lock();
        let (mut ids, mut texts, mut counts) = (vec![], vec![], vec![]);
        let (mut first, mut last) = (vec![], vec![]);
        for template in mined.miner.templates() {
            let known = mined.watch.statistics(template.id());
            ids.push(template.id().to_string());
            texts.push(template.to_string());
            counts.push(known.map_or(0, |known| i64::try_from(known.count).unwrap_or(i64::MAX)));
            first.push(known.map(|known| known.first_seen));
            last.push(known.map(|known| known.last_seen));
        }
        let time = |times: Vec<Option<i64>>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(ids)),
            Arc::new(StringArray::from(texts)),
            Arc::new(Int64Array::from(counts)),
            time(first),
            time(last),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl fmt::Debug for TemplateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateTable").finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for TemplateTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = vec![vec![self.rows()?]];
        let columns = projection.cloned();
        Ok(MemorySourceConfig::try_new_exec(&rows, Arc::clone(&self.schema), columns)?)
    }
}

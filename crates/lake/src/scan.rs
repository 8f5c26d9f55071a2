//! Reads the table's Parquet files: only those, and only the parts of them, that a query needs.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{
    Column, ColumnStatistics, DataFusionError, Result as QueryResult, ScalarValue, Statistics,
    ToDFSchema,
};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use object_store::ObjectMeta;

use crate::snapshot::{DataFile, Snapshot};
use crate::spec::date_field;
use crate::table::Table;

/// Bytes from the end of a file that hold its footer, as a rule.
const FOOTER_BYTES: usize = 64 << 10;

/// Plans to read `groups` of files of `snapshot`, each as one partition. The snapshot is held
/// until the last file is read, so that vacuum leaves them.
pub(crate) fn plan(
    session: &dyn Session,
    table: &Table,
    snapshot: &Arc<Snapshot>,
    groups: Vec<Vec<Arc<DataFile>>>,
    projection: Option<Vec<usize>>,
    limit: Option<usize>,
    ordering: Option<LexOrdering>,
) -> QueryResult<Arc<DataSourceExec>> {
    let schema = TableSchema::builder(table.spec.file_schema())
        .with_table_partition_cols(vec![Arc::new(date_field())])
        .build();
    let url = ObjectStoreUrl::local_filesystem();
    let runtime = session.runtime_env();
    let cache = runtime.cache_manager.get_file_metadata_cache();
    let factory = CachedParquetFileReaderFactory::new(runtime.object_store(&url)?, cache);
    let mut options = TableParquetOptions::new();
    options.global = session.config_options().execution.parquet.clone();
    let source = ParquetSource::new(schema.clone())
        .with_table_parquet_options(options)
        .with_metadata_size_hint(FOOTER_BYTES)
        .with_parquet_file_reader_factory(Arc::new(factory));
    let groups = groups.iter().map(|files| {
        let files = files
            .iter()
            .map(|file| Ok(partitioned(&table.root, file)?.with_extension(Arc::clone(snapshot))));
        files.collect::<QueryResult<FileGroup>>()
    });
    let groups = groups.collect::<QueryResult<Vec<_>>>()?;
    let files = groups.iter().flat_map(FileGroup::iter);
    let statistics = files.filter_map(|file| file.statistics.as_deref());
    let statistics = Statistics::try_merge_iter(statistics, schema.table_schema())?;
    let config: FileScanConfig = FileScanConfigBuilder::new(url, Arc::new(source))
        .with_file_groups(groups)
        .with_statistics(statistics)
        .with_projection_indices(projection)?
        .with_limit(limit)
        .with_output_ordering(ordering.into_iter().collect())
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

fn partitioned(root: &Path, file: &DataFile) -> QueryResult<PartitionedFile> {
    let location = object_store::path::Path::from_absolute_path(root.join(&file.path))
        .map_err(|error| DataFusionError::External(error.into()))?;
    let last_modified = chrono::DateTime::from_timestamp_millis(file.written_unix_millis);
    let meta = ObjectMeta {
        location,
        last_modified: last_modified.unwrap_or_default(),
        size: file.size_bytes,
        e_tag: None,
        version: None,
    };
    Ok(PartitionedFile::new_from_meta(meta)
        .with_partition_values(vec![ScalarValue::Date32(Some(file.date))])
        .with_statistics(Arc::clone(&file.statistics)))
}

/// The files that may hold rows for which `predicate` is true; without one, all.
pub(crate) fn prune(
    predicate: Option<&PruningPredicate>,
    schema: &SchemaRef,
    files: &[Arc<DataFile>],
) -> QueryResult<Vec<Arc<DataFile>>> {
    let Some(predicate) = predicate else { return Ok(files.to_vec()) };
    let kept = predicate.prune(&FileStatistics { files, schema })?;
    let kept = files.iter().zip(kept).filter(|(_, kept)| *kept);
    Ok(kept.map(|(file, _)| Arc::clone(file)).collect())
}

/// Tells which parts of the table may hold rows for which all of `filters` are true; `None` when
/// all may.
pub(crate) fn predicate(
    session: &dyn Session,
    schema: &SchemaRef,
    filters: &[Expr],
) -> QueryResult<Option<Arc<PruningPredicate>>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(None) };
    let df_schema = Arc::clone(schema).to_dfschema()?;
    let filter = session.create_physical_expr(filter, &df_schema)?;
    let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema));
    Ok(Some(Arc::new(predicate.try_build(filter)?)))
}

/// What the Delta log knows of files. Bounds need not be values of the file to prune by them.
struct FileStatistics<'a> {
    files: &'a [Arc<DataFile>],
    schema: &'a SchemaRef,
}

impl FileStatistics<'_> {
    fn bounds(
        &self,
        column: &Column,
        bound: impl Fn(&ColumnStatistics) -> &Precision<ScalarValue>,
    ) -> Option<ArrayRef> {
        let index = self.schema.index_of(column.name()).ok()?;
        let null = ScalarValue::try_new_null(self.schema.field(index).data_type()).ok()?;
        let value = |file: &Arc<DataFile>| match file.statistics.column_statistics.get(index) {
            Some(column) => bound(column).get_value().cloned().unwrap_or_else(|| null.clone()),
            None => ScalarValue::Date32(Some(file.date)),
        };
        ScalarValue::iter_to_array(self.files.iter().map(value)).ok()
    }
}

impl PruningStatistics for FileStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |column| &column.min_value)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |column| &column.max_value)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let index = self.schema.index_of(column.name()).ok()?;
        let nulls = |file: &Arc<DataFile>| match file.statistics.column_statistics.get(index) {
            Some(column) => column.null_count.get_value().map(|&nulls| nulls as u64),
            None => Some(0),
        };
        Some(Arc::new(self.files.iter().map(nulls).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = |file: &Arc<DataFile>| file.statistics.num_rows.get_value().map(|&r| r as u64);
        Some(Arc::new(self.files.iter().map(rows).collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

//! Alert rules: queries whose rows are alerts.

use std::collections::{BTreeMap, btree_map::Entry};

use arrow::array::RecordBatch;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    book::Timing,
    instance::{Sample, Signal},
    labels::{ALERT_NAME, Labels, SEVERITY},
    name::Name,
    period::Period,
    rows,
    severity::Severity,
    template::Template,
    threshold::Threshold,
};

/// The column whose number is an alert's value.
const VALUE: &str = "value";
/// A rule: each row of a query is an alert.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name, which its alerts have as the label `alertname`.
    pub name: Name,
    /// One SQL statement that reads. Each row is one alert: columns of text are its labels, the
    /// column `value`, a number, is its value. No row means that nothing is wrong.
    pub query: Query,
    /// How often the query is asked.
    #[serde(default = "default_every")]
    pub every: Period<1>,
    /// How long a row must be there before its alert fires.
    #[serde(default, rename = "for")]
    pub hold: Period,
    /// How long it must be gone before its alert is resolved.
    #[serde(default)]
    pub keep_firing_for: Period,
    /// Values at which alerts fire and are resolved, for queries that answer rows in good times
    /// too.
    pub threshold: Option<Threshold>,
    /// How bad its alerts are: their label `severity`.
    #[serde(default)]
    pub severity: Severity,
    /// Labels of its alerts besides those that the query gives; they win over them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Texts for people, with `{{ column }}` and `{{ value }}` in them, fractions with four digits
    /// that count; `summary` is what short messages show.
    #[serde(default)]
    pub annotations: BTreeMap<String, Template>,
}

fn default_every() -> Period<1> {
    Period::secs(10)
}

/// A query that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Query(String);

impl Query {
    /// The SQL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Query {
    type Error = String;

    fn try_from(sql: String) -> Result<Self, String> {
        if sql.trim().is_empty() {
            return Err("expected a SQL query, found nothing".to_owned());
        }
        Ok(Self(sql))
    }
}

impl RuleConfig {
    pub(crate) fn timing(&self) -> Timing {
        Timing { hold: self.hold.get(), keep_firing: self.keep_firing_for.get() }
    }

    /// What the rows that the query found say, and whether they are all there are: one more than
    /// `limit` tells that there are others.
    ///
    /// # Errors
    /// The rows are not what the rule needs.
    pub(crate) fn samples(
        &self,
        batches: &[RecordBatch],
        limit: usize,
    ) -> Result<(Vec<Sample>, bool), String> {
        let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let is_complete = count <= limit;
        if self.threshold.is_some() && !is_complete {
            return Err(format!(
                "the query gives more than {limit} rows, and those beyond are not judged: let it \
                 give only rows near the threshold, or raise alerting.max_alerts_per_rule"
            ));
        }
        let mut samples: BTreeMap<Labels, Sample> = BTreeMap::new();
        for batch in batches {
            if self.threshold.is_some() && batch.column_by_name(VALUE).is_none() {
                let schema = batch.schema();
                let found: Vec<&str> =
                    schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(format!(
                    "a rule with a threshold needs a column `{VALUE}`; the query gives {}: name \
                     one so with `AS {VALUE}`",
                    found.join(", ")
                ));
            }
            for row in rows::read(batch, VALUE).map_err(|error| error.to_string())? {
                let sample = self.sample(row);
                match samples.entry(sample.labels.clone()) {
                    Entry::Vacant(place) => {
                        place.insert(sample);
                    }
                    // Rows that no text tells apart are one alert: the worst counts.
                    Entry::Occupied(mut place) if place.get().signal < sample.signal => {
                        place.insert(sample);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
        Ok((samples.into_values().collect(), is_complete))
    }

    fn sample(&self, row: rows::Row) -> Sample {
        let labels = Labels::new(row.texts).with(&self.labels);
        let labels =
            labels.with([(ALERT_NAME, self.name.as_str()), (SEVERITY, self.severity.name())]);
        let mut columns = row.columns;
        columns.extend(labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        columns.entry(VALUE.to_owned()).or_insert_with(|| "none".to_owned());
        let annotations = self
            .annotations
            .iter()
            .map(|(name, template)| (name.clone(), template.fill(&columns)))
            .collect();
        let signal = self.threshold.map_or(Signal::Fire, |threshold| threshold.judge(row.value));
        Sample { labels, signal, value: row.value, annotations, evidence: None }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray};

    use super::*;

    fn rule(more: &str) -> RuleConfig {
        serde_saphyr::from_str(&format!("name: Errors\nquery: SELECT 1\n{more}")).unwrap()
    }

    fn rows(services: &[&str], values: &[f64]) -> RecordBatch {
        RecordBatch::try_from_iter([
            ("service", Arc::new(StringArray::from(services.to_vec())) as ArrayRef),
            ("value", Arc::new(Float64Array::from(values.to_vec())) as _),
        ])
        .unwrap()
    }

    #[test]
    fn each_row_is_an_alert_that_its_text_names() {
        let rule = rule(
            "severity: critical\nlabels: {team: shop}\nannotations: {summary: '{{ service }} of {{ team }}: {{ value }}'}",
        );
        let (samples, _) = rule.samples(&[rows(&["payment", "cart"], &[0.5, 0.25])], 2).unwrap();
        assert_eq!(
            samples[1].labels.to_string(),
            r#"{alertname="Errors", service="payment", severity="critical", team="shop"}"#
        );
        assert_eq!((samples[1].signal, samples[1].value), (Signal::Fire, Some(0.5)));
        assert_eq!(samples[1].annotations["summary"], "payment of shop: 0.5");
    }

    #[test]
    fn rows_that_no_text_tells_apart_are_one_alert_and_the_worst_counts() {
        let rule = rule("threshold: {fire: '> 0.4', resolve: '< 0.1'}");
        let (samples, _) = rule.samples(&[rows(&["a", "a", "a"], &[0.0, 0.5, 0.2])], 3).unwrap();
        assert_eq!(samples.len(), 1);
        assert_eq!((samples[0].signal, samples[0].value), (Signal::Fire, Some(0.5)));
    }

    #[test]
    fn a_threshold_without_a_value_is_an_error_that_says_what_to_do() {
        let rule = rule("threshold: {fire: '> 0.4'}");
        let services: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let batch = RecordBatch::try_from_iter([("service", services)]).unwrap();
        let error = rule.samples(&[batch], 1).unwrap_err();
        assert!(error.contains("gives service") && error.contains("AS value"), "{error}");
    }

    #[test]
    fn rows_that_nobody_judges_are_an_error_unless_each_row_is_an_alert() {
        let found = [rows(&["a", "b", "c"], &[0.0, 0.0, 0.0])];
        let (samples, is_complete) = rule("").samples(&found, 2).unwrap();
        assert_eq!((samples.len(), is_complete), (3, false));
        let threshold = rule("threshold: {fire: '> 0.4'}");
        let error = threshold.samples(&found, 2).unwrap_err();
        assert!(error.contains("more than 2 rows") && error.contains("max_alerts_per_rule"));
        assert!(threshold.samples(&found, 3).unwrap().1);
    }

    #[test]
    fn rules_that_cannot_work_do_not_parse() {
        for (yaml, why) in [
            ("name: x\nquery: ''", "SQL"),
            ("name: ''\nquery: SELECT 1", "name"),
            ("name: x\nquery: SELECT 1\nevery: 0s", "1s or more"),
            ("name: x\nquery: SELECT 1\nseverity: bad", "critical"),
            ("name: x\nquery: SELECT 1\nfore: 5m", "fore"),
        ] {
            let error = serde_saphyr::from_str::<RuleConfig>(yaml).unwrap_err().to_string();
            assert!(error.contains(why), "{yaml}: {error}");
        }
    }
}

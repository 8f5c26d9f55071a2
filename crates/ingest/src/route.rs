//! Which topic and partition an event goes to.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use arrow::{
    array::{AsArray, BooleanArray, DictionaryArray, RecordBatch},
    buffer::BooleanBuffer,
    compute::filter_record_batch,
    datatypes::Int32Type,
};
use thalweg_event::schema::{column, topic};
use thalweg_log::{Log, LogError, TopicPartition};
use xxhash_rust::xxh3::xxh3_64;

use crate::log_route::{LogRoute, LogRoutes};

/// A rule or else the priority decides on the topic, and the service on the partition: all rows of a
/// service are in one partition of a topic, so that their order is kept. Spans have a topic of their
/// own.
#[derive(Debug)]
pub(crate) struct Routes {
    rules: LogRoutes,
    /// By rule.
    ruled: Vec<Run>,
    critical: Run,
    routine: Run,
    spans: Run,
    /// Partitions of `logs.critical`, then those that rules name, of `logs.routine` and of `spans`.
    places: Vec<TopicPartition>,
    pub(crate) rejected: TopicPartition,
}

/// The places of a topic's partitions.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: u32,
    partitions: u32,
}

impl Run {
    /// The place of rows whose service has this hash.
    fn place(self, hash: u64) -> Place {
        // Fewer places than `NOWHERE`, as `Routes::new` has seen to.
        (self.first + jump_hash(hash, self.partitions)) as Place
    }
}

/// What the rows of a batch are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Events, so many of them critical.
    Logs { critical_rows: usize },
    /// Spans.
    Spans,
}

/// Index of a row's place; rows that go nowhere have [`NOWHERE`].
type Place = u16;
const NOWHERE: Place = Place::MAX;

/// Where the rows of a batch go.
enum Placed {
    Together(Place),
    Apart(Vec<Place>),
}

/// The rows of a batch that go to one place.
pub(crate) struct Part {
    pub(crate) at: TopicPartition,
    pub(crate) batch: RecordBatch,
}

/// The parts of a batch, critical ones first, and for rows that were kept the index of theirs.
pub(crate) struct Parts {
    pub(crate) parts: Vec<Part>,
    placed: Placed,
    part_of_place: Vec<usize>,
}

impl Parts {
    /// Index of the part that `row` of the batch went to.
    pub(crate) fn part_of(&self, row: usize) -> usize {
        match &self.placed {
            Placed::Together(_) => 0,
            Placed::Apart(places) => self.part_of_place[usize::from(places[row])],
        }
    }
}

impl Routes {
    /// Reads the partition counts of the topics from `log`.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`] when the log lacks one.
    pub(crate) fn new(log: &dyn Log, rules: LogRoutes) -> Result<Self, LogError> {
        log.partitions(topic::REJECTED)?;
        let mut topics = vec![topic::LOGS_CRITICAL];
        let built_in = [topic::LOGS_CRITICAL, topic::LOGS_ROUTINE];
        topics.extend(rules.topics().into_iter().filter(|topic| !built_in.contains(topic)));
        topics.extend([topic::LOGS_ROUTINE, topic::SPANS]);
        let (mut places, mut runs) = (vec![], HashMap::new());
        for name in topics {
            let (first, partitions) = (places.len() as u32, log.partitions(name)?);
            runs.insert(name, Run { first, partitions });
            let name: Arc<str> = name.into();
            let numbers = 0..partitions;
            places.extend(numbers.map(|number| TopicPartition::new(Arc::clone(&name), number)));
        }
        if places.len() >= usize::from(NOWHERE) {
            let reason = format!("has more than {NOWHERE} partitions");
            return Err(LogError::Unavailable { at: TopicPartition::new("logs", 0), reason });
        }
        Ok(Self {
            ruled: rules.iter().map(|rule| runs[rule.topic.as_str()]).collect(),
            critical: runs[topic::LOGS_CRITICAL],
            routine: runs[topic::LOGS_ROUTINE],
            spans: runs[topic::SPANS],
            rules,
            places,
            rejected: TopicPartition::new(topic::REJECTED, 0),
        })
    }

    /// Splits `batch`, leaving out the rows that `dropped` names. A batch whose rows all go to one
    /// place is not copied.
    pub(crate) fn split(&self, batch: RecordBatch, kind: Kind, dropped: &[u32]) -> Parts {
        let placed = self.place(&batch, kind, dropped);
        let mut part_of_place = Vec::new();
        let parts = match &placed {
            Placed::Together(_) if batch.num_rows() == 0 => Vec::new(),
            Placed::Together(place) => {
                vec![Part { at: self.places[usize::from(*place)].clone(), batch }]
            }
            Placed::Apart(places) => {
                let mut parts = Vec::new();
                for (index, at) in self.places.iter().enumerate() {
                    part_of_place.push(parts.len());
                    let here = |row: usize| usize::from(places[row]) == index;
                    let here = BooleanArray::from(BooleanBuffer::collect_bool(places.len(), here));
                    if here.true_count() > 0 {
                        let batch = filter_record_batch(&batch, &here)
                            .expect("the filter has one value per row");
                        parts.push(Part { at: at.clone(), batch });
                    }
                }
                parts
            }
        };
        Parts { parts, placed, part_of_place }
    }

    fn place(&self, batch: &RecordBatch, kind: Kind, dropped: &[u32]) -> Placed {
        let rows = batch.num_rows();
        let ruled = match kind {
            Kind::Logs { .. } => Ruled::of(batch, &self.rules),
            Kind::Spans => None,
        };
        let only = match kind {
            _ if ruled.is_some() => None,
            Kind::Logs { critical_rows } if critical_rows == rows => Some(self.critical),
            Kind::Logs { critical_rows: 0 } => Some(self.routine),
            Kind::Logs { .. } => None,
            Kind::Spans => Some(self.spans),
        };
        if let Some(only) = only
            && only.partitions == 1
            && dropped.is_empty()
        {
            return Placed::Together(only.place(0));
        }
        let is_critical = match only {
            Some(_) => None,
            None => Some(PerValue::new(batch, column::PRIORITY, |name| name == "critical")),
        };
        let hash = PerValue::new(batch, column::SERVICE, |name| xxh3_64(name.as_bytes()));
        let run_of = |row: usize| {
            let by_rule = ruled.as_ref().and_then(|ruled| ruled.rule_of(row));
            let by_priority = || match &is_critical {
                Some(is_critical) if is_critical.of(row) => self.critical,
                _ => only.unwrap_or(self.routine),
            };
            by_rule.map_or_else(by_priority, |rule| self.ruled[rule])
        };
        let mut places: Vec<Place> = (0..rows).map(|row| run_of(row).place(hash.of(row))).collect();
        for row in dropped {
            places[*row as usize] = NOWHERE;
        }
        match places.first() {
            Some(first) if *first != NOWHERE && places.iter().all(|place| place == first) => {
                Placed::Together(*first)
            }
            _ => Placed::Apart(places),
        }
    }
}

/// The rules that the rows of a batch meet, as bits: rule `n` is bit `n`.
struct Ruled {
    by_service: PerValue<u64>,
    by_environment: PerValue<u64>,
}

impl Ruled {
    /// `None` if no row can meet a rule.
    fn of(batch: &RecordBatch, rules: &LogRoutes) -> Option<Self> {
        let met = |name, names: fn(&LogRoute) -> &BTreeSet<String>| {
            let met = PerValue::new(batch, name, |value| rules.met_by(value, names));
            (met.any(), met)
        };
        if rules.is_empty() {
            return None;
        }
        let (any_service, by_service) = met(column::SERVICE, |rule| &rule.services);
        let (any_environment, by_environment) = met(column::ENVIRONMENT, |rule| &rule.environments);
        (any_service & any_environment != 0).then_some(Self { by_service, by_environment })
    }

    /// The first rule that a row meets.
    fn rule_of(&self, row: usize) -> Option<usize> {
        let met = self.by_service.of(row) & self.by_environment.of(row);
        (met != 0).then(|| met.trailing_zeros() as usize)
    }
}

/// Something computed once for each distinct value of a dictionary column.
pub(crate) struct PerValue<T> {
    of_null: T,
    of_value: Vec<T>,
    column: DictionaryArray<Int32Type>,
}

impl<T: Copy> PerValue<T> {
    pub(crate) fn new(batch: &RecordBatch, name: &str, compute: impl Fn(&str) -> T) -> Self {
        let column = batch.column_by_name(name).expect("the schema has this column");
        let column = column.as_dictionary::<Int32Type>().clone();
        let values = column.values().as_string::<i32>();
        let of_value = values.iter().map(|value| compute(value.unwrap_or_default())).collect();
        Self { of_null: compute(""), of_value, column }
    }

    pub(crate) fn of(&self, row: usize) -> T {
        self.column.key(row).map_or(self.of_null, |key| self.of_value[key])
    }
}

impl PerValue<u64> {
    /// The bits that any value has.
    fn any(&self) -> u64 {
        self.of_value.iter().fold(self.of_null, |any, bits| any | bits)
    }
}

/// Bucket of `key` among `buckets`, such that one more bucket moves only the keys it gets.
///
/// J. Lamping, E. Veach: "A Fast, Minimal Memory, Consistent Hash Algorithm" (2014), figure 1.
/// O(log `buckets`).
fn jump_hash(mut key: u64, buckets: u32) -> u32 {
    let (mut bucket, mut next) = (0_i64, 0_i64);
    while next < i64::from(buckets) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let jump = (1_u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * jump) as i64;
    }
    bucket as u32
}

#[cfg(test)]
mod tests {
    use arrow::array::ArrayRef;
    use thalweg_log::{EmbeddedLog, LogConfig, TopicConfig};

    use super::*;

    #[test]
    fn a_batch_that_goes_to_one_place_is_not_copied() {
        let log = EmbeddedLog::open(LogConfig {
            directory: tempfile::tempdir().unwrap().keep(),
            topics: ["logs.critical", "logs.routine", "logs.a", "spans", "rejected"]
                .map(|name| TopicConfig::new(name, 2))
                .into(),
            ..LogConfig::default()
        })
        .unwrap()
        .0;
        let rules = serde_json::json!([{"services": ["a"], "topic": "logs.a"}]);
        let routes = Routes::new(&log, serde_json::from_value(rules).unwrap()).unwrap();
        for (service, topic) in [("a", "logs.a"), ("b", "logs.routine")] {
            let services: DictionaryArray<Int32Type> = [service; 3].into_iter().collect();
            let nothing: DictionaryArray<Int32Type> = [None::<&str>; 3].into_iter().collect();
            let nothing = Arc::new(nothing) as ArrayRef;
            let batch = RecordBatch::try_from_iter_with_nullable([
                (column::SERVICE, Arc::new(services) as ArrayRef, true),
                (column::ENVIRONMENT, Arc::clone(&nothing), true),
                (column::PRIORITY, nothing, true),
            ]);
            let batch = batch.unwrap();
            let column = Arc::clone(batch.column(0));
            let split = routes.split(batch, Kind::Logs { critical_rows: 0 }, &[]);
            let [part] = &split.parts[..] else { panic!("one part") };
            assert_eq!(&*part.at.topic, topic);
            assert!(Arc::ptr_eq(part.batch.column(0), &column));
        }
    }

    #[test]
    fn a_new_bucket_takes_its_share_and_moves_nothing_else() {
        let keys: Vec<u64> = (0..10_000_u64).map(|key| xxh3_64(&key.to_le_bytes())).collect();
        for buckets in 1..20 {
            let moved: Vec<_> = keys
                .iter()
                .map(|key| (jump_hash(*key, buckets), jump_hash(*key, buckets + 1)))
                .filter(|(before, after)| before != after)
                .collect();
            assert!(moved.iter().all(|(_, after)| *after == buckets));
            let share = moved.len() as f64 / keys.len() as f64 * f64::from(buckets + 1);
            assert!((0.85..1.15).contains(&share), "{buckets}: {share}");
        }
    }

    #[test]
    fn the_hash_is_the_one_of_the_paper() {
        // Golden values of the reference implementation in Guava's and Go's test suites.
        for (key, buckets, bucket) in [
            (1, 1, 0),
            (42, 57, 43),
            (0xDEAD_10CC, 1, 0),
            (0xDEAD_10CC, 666, 361),
            (256, 1024, 520),
        ] {
            assert_eq!(jump_hash(key, buckets), bucket, "{key} {buckets}");
        }
    }
}

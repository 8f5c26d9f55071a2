//! Which topic and partition an event goes to.

use std::sync::Arc;

use arrow::{
    array::{AsArray, BooleanArray, DictionaryArray, RecordBatch},
    buffer::BooleanBuffer,
    compute::filter_record_batch,
    datatypes::Int32Type,
};
use thalweg_event::schema::{column, topic};
use thalweg_log::{Log, LogError, TopicPartition};
use xxhash_rust::xxh3::xxh3_64;

/// Priority and service decide: critical events have a topic of their own, as spans have, and all
/// rows of a service are in one partition of a topic, so that their order is kept.
#[derive(Debug)]
pub(crate) struct Routes {
    /// Partitions of `logs.critical`, then those of `logs.routine`, then those of `spans`.
    places: Vec<TopicPartition>,
    critical: u32,
    routine: u32,
    spans: u32,
    pub(crate) rejected: TopicPartition,
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
    pub(crate) fn new(log: &dyn Log) -> Result<Self, LogError> {
        let critical = log.partitions(topic::LOGS_CRITICAL)?;
        let routine = log.partitions(topic::LOGS_ROUTINE)?;
        let spans = log.partitions(topic::SPANS)?;
        log.partitions(topic::REJECTED)?;
        let places = |name: &str, partitions: u32| {
            let name: Arc<str> = name.into();
            (0..partitions).map(move |number| TopicPartition::new(Arc::clone(&name), number))
        };
        let places: Vec<_> = places(topic::LOGS_CRITICAL, critical)
            .chain(places(topic::LOGS_ROUTINE, routine))
            .chain(places(topic::SPANS, spans))
            .collect();
        if places.len() >= usize::from(NOWHERE) {
            let reason = format!("has more than {NOWHERE} partitions");
            return Err(LogError::Unavailable { at: TopicPartition::new("logs", 0), reason });
        }
        let rejected = TopicPartition::new(topic::REJECTED, 0);
        Ok(Self { places, critical, routine, spans, rejected })
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
        let (first_routine, first_span) = (self.critical, self.critical + self.routine);
        if dropped.is_empty() {
            match kind {
                Kind::Logs { critical_rows } if critical_rows == rows && self.critical == 1 => {
                    return Placed::Together(0);
                }
                Kind::Logs { critical_rows: 0 } if self.routine == 1 => {
                    return Placed::Together(first_routine as Place);
                }
                Kind::Spans if self.spans == 1 => return Placed::Together(first_span as Place),
                _ => {}
            }
        }
        let is_critical = match kind {
            Kind::Logs { .. } => {
                Some(PerValue::new(batch, column::PRIORITY, |name| name == "critical"))
            }
            Kind::Spans => None,
        };
        let hash = PerValue::new(batch, column::SERVICE, |name| xxh3_64(name.as_bytes()));
        let mut places: Vec<Place> = (0..rows)
            .map(|row| {
                let hash = hash.of(row);
                let place = match is_critical.as_ref().map(|is_critical| is_critical.of(row)) {
                    Some(true) => jump_hash(hash, self.critical),
                    Some(false) => first_routine + jump_hash(hash, self.routine),
                    None => first_span + jump_hash(hash, self.spans),
                };
                place as Place
            })
            .collect();
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
    use super::*;

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

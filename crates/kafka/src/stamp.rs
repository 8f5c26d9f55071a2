//! Which row of which process a message begins with.

use std::fmt;

use uuid::Uuid;

/// Identity of the rows of a message: those of one process are numbered, by partition.
///
/// A message that is found in Kafka again, after a crash left it unknown whether it had arrived,
/// is recognised by its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// New with each start of a process.
    pub(crate) origin: Uuid,
    /// Number of the first row.
    pub(crate) sequence: u64,
    /// How many rows.
    pub(crate) rows: u32,
}

impl Stamp {
    /// Number after that of the last row.
    pub(crate) fn next_sequence(self) -> u64 {
        self.sequence.saturating_add(self.rows.into())
    }

    /// Reads what [`Stamp`]'s `Display` writes; `None` of anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (origin, sequence, rows) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let origin = Uuid::try_parse(origin).ok()?;
        Some(Self { origin, sequence: sequence.parse().ok()?, rows: rows.parse().ok()? })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.origin.simple(), self.sequence, self.rows)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stamp_is_read_as_it_was_written(origin: u128, sequence: u64, rows: u32) {
            let stamp = Stamp { origin: Uuid::from_u128(origin), sequence, rows };
            prop_assert_eq!(Stamp::parse(&stamp.to_string()), Some(stamp));
        }

        #[test]
        fn any_other_text_is_no_stamp(text in "[0-9a-f ]{0,40}") {
            if let Some(stamp) = Stamp::parse(&text) {
                prop_assert_eq!(Stamp::parse(&stamp.to_string()), Some(stamp));
            }
        }
    }
}

//! From a level to a verdict, with hysteresis.

use crate::config::ConfigError;

/// Suspects when a level rises to one threshold, and trusts again when it falls to a lower one.
///
/// The level is φ or urgency; between the thresholds the verdict stays what it was, so that a
/// level that hovers does not flap (Hayashibara et al. 2004, §3.3, for two thresholds).
///
/// ```
/// use thalweg_phi::{Change, Threshold};
///
/// let mut threshold = Threshold::new(8.0, 1.0)?;
/// assert_eq!(threshold.look(7.9), None);
/// assert_eq!(threshold.look(8.0), Some(Change::Suspect));
/// assert_eq!(threshold.look(2.0), None);
/// assert!(threshold.is_suspected());
/// assert_eq!(threshold.look(0.5), Some(Change::Trust));
/// # Ok::<(), thalweg_phi::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Threshold {
    suspect: f64,
    trust: f64,
    suspected: bool,
}

/// A verdict that just changed: an S-transition or a T-transition of Chen et al. (2002, §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The peer was trusted and is now suspected.
    Suspect,
    /// The peer was suspected and is now trusted.
    Trust,
}

impl Threshold {
    /// Suspects from `suspect` upwards, trusts again from `trust` downwards; trusts at first.
    ///
    /// # Errors
    /// [`ConfigError::Thresholds`] unless `suspect` is above `trust`.
    pub fn new(suspect: f64, trust: f64) -> Result<Self, ConfigError> {
        if suspect > trust {
            Ok(Self { suspect, trust, suspected: false })
        } else {
            Err(ConfigError::Thresholds { suspect, trust })
        }
    }

    /// Moves the threshold of suspicion, for instance to what an
    /// [`AdaptiveThreshold`](crate::AdaptiveThreshold) says. The verdict stays until the next look.
    ///
    /// # Errors
    /// [`ConfigError::Thresholds`] unless `suspect` is above the threshold of trust; then nothing
    /// changes.
    pub fn set_suspect(&mut self, suspect: f64) -> Result<(), ConfigError> {
        let moved = Self::new(suspect, self.trust)?;
        self.suspect = moved.suspect;
        Ok(())
    }

    /// Takes in the level as it is now; says whether the verdict changed. O(1).
    pub fn look(&mut self, level: f64) -> Option<Change> {
        if !self.suspected && level >= self.suspect {
            self.suspected = true;
            Some(Change::Suspect)
        } else if self.suspected && level <= self.trust {
            self.suspected = false;
            Some(Change::Trust)
        } else {
            None
        }
    }

    /// The verdict of the latest look.
    pub fn is_suspected(&self) -> bool {
        self.suspected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_that_cross_are_refused() {
        for (suspect, trust) in [(1.0, 1.0), (1.0, 2.0), (f64::NAN, 0.0)] {
            assert!(Threshold::new(suspect, trust).is_err());
        }
        let mut threshold = Threshold::new(3.0, 1.0).unwrap();
        assert!(threshold.set_suspect(0.5).is_err());
        assert_eq!(threshold.look(3.0), Some(Change::Suspect));
    }

    #[test]
    fn a_hovering_level_changes_the_verdict_once() {
        let mut threshold = Threshold::new(5.0, 1.0).unwrap();
        let changes = [4.9, 5.1, 4.9, 5.1, 1.1, 5.1].map(|level| threshold.look(level));
        assert_eq!(changes.iter().flatten().count(), 1);
    }
}

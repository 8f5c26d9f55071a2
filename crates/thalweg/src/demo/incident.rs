//! When the demonstration's incident begins and ends.

use std::time::Duration;

/// Length of the quiet and the troubled stretch when the demonstration runs without end.
const ENDLESS_CYCLE: Duration = Duration::from_secs(180);

/// The middle of a run, in which the payment service runs out of database connections.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Incident {
    cycle: Duration,
}

impl Incident {
    /// The incident of a run of `run_for`; of an endless one, the middle of every three minutes.
    pub(crate) fn during(run_for: Option<Duration>) -> Self {
        Self { cycle: run_for.unwrap_or(ENDLESS_CYCLE) }
    }

    /// Time over which the demonstration's alert looks back: a tenth of the cycle, and long enough
    /// for some requests.
    pub(crate) fn window(self) -> Duration {
        (self.cycle / 10).clamp(Duration::from_secs(10), Duration::from_secs(60))
    }

    /// Whether the incident is on, `elapsed` after the start: from 40% to 65% of the run.
    pub(crate) fn is_on(self, elapsed: Duration) -> bool {
        let phase = elapsed.as_secs_f64() % self.cycle.as_secs_f64() / self.cycle.as_secs_f64();
        (0.40..0.65).contains(&phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_incident_is_in_the_middle_of_the_run() {
        let incident = Incident::during(Some(Duration::from_secs(20)));
        let on: Vec<u64> = (0..20).filter(|s| incident.is_on(Duration::from_secs(*s))).collect();
        assert_eq!(on, [8, 9, 10, 11, 12]);
    }
}

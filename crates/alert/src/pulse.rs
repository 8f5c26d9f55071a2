//! Whether alerts are still looked after.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use crate::error::{AlertError, Result};

/// Longest that nobody may look: a disk may be slow to keep the state.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The sign of life of the task that owns all alerts; it ends with the task, however that ends.
pub(crate) struct Pulse(watch::Sender<Instant>);

/// Hears a [`Pulse`].
pub(crate) struct Listener(watch::Receiver<Instant>);

impl Pulse {
    /// A pulse that beats for the first time, and who hears it.
    pub(crate) fn start(now: Instant) -> (Self, Listener) {
        let (sender, receiver) = watch::channel(now);
        (Self(sender), Listener(receiver))
    }

    pub(crate) fn beat(&self, now: Instant) {
        self.0.send_replace(now);
    }
}

impl Listener {
    /// Whether it was heard lately.
    ///
    /// # Errors
    /// [`AlertError::Unattended`].
    pub(crate) fn check(&self, now: Instant) -> Result<()> {
        let silent = now.saturating_duration_since(*self.0.borrow());
        let is_ended = self.0.has_changed().is_err();
        if is_ended || silent > LONGEST_PAUSE {
            return Err(AlertError::Unattended { silent });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_ended_or_hangs_is_noticed() {
        let start = Instant::now();
        let (pulse, listener) = Pulse::start(start);
        pulse.beat(start + LONGEST_PAUSE);
        assert!(listener.check(start + LONGEST_PAUSE * 2).is_ok());
        let late = start + LONGEST_PAUSE * 2 + Duration::from_secs(1);
        let error = listener.check(late).unwrap_err().to_string();
        assert!(error.starts_with("nobody has looked after the alerts for 31s"), "{error}");
        drop(pulse);
        assert!(listener.check(start + LONGEST_PAUSE).is_err());
    }
}

//! How often each client may be wrong.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use thalweg_edge::client_of;

/// Unproven tokens that a client may show at once, …
pub(crate) const BURST: u32 = 10;
/// … and after how long it may show one more.
const REFILL_INTERVAL: Duration = Duration::from_secs(3);
/// Clients share this many accounts, by a hash nobody outside knows; the memory is fixed.
const ACCOUNTS: usize = 4096;

/// What each client may still spend on tokens whose verification costs much.
///
/// A token bucket (in the other sense of the word) for each client.
pub(crate) struct Failures {
    hasher: RandomState,
    accounts: Mutex<Vec<Account>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    spent: u32,
    /// When the last unit was refilled, or spending began.
    since: Option<Instant>,
}

impl Default for Failures {
    fn default() -> Self {
        let accounts = Mutex::new(vec![Account::default(); ACCOUNTS]);
        Self { hasher: RandomState::new(), accounts }
    }
}

impl Failures {
    /// Spends one of what the client at `address` has left; says how long it has to wait when
    /// nothing is.
    pub(crate) fn spend(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut accounts = self.accounts.lock();
        let account = &mut accounts[self.index(address)];
        account.refill(now);
        if account.spent >= BURST {
            let waited = account.since.map_or(Duration::ZERO, |since| now.duration_since(since));
            return Err(REFILL_INTERVAL.saturating_sub(waited));
        }
        account.spent += 1;
        account.since.get_or_insert(now);
        Ok(())
    }

    /// Gives back what was spent on a token that turned out to be right.
    pub(crate) fn refund(&self, address: IpAddr) {
        let account = &mut self.accounts.lock()[self.index(address)];
        account.spent = account.spent.saturating_sub(1);
    }

    fn index(&self, address: IpAddr) -> usize {
        self.hasher.hash_one(client_of(address)) as usize % ACCOUNTS
    }
}

impl Account {
    fn refill(&mut self, now: Instant) {
        let Some(since) = self.since else { return };
        let intervals =
            now.saturating_duration_since(since).as_nanos() / REFILL_INTERVAL.as_nanos();
        let refilled = u32::try_from(intervals).unwrap_or(u32::MAX);
        if refilled >= self.spent {
            *self = Self::default();
        } else {
            self.spent -= refilled;
            self.since = Some(since + REFILL_INTERVAL * refilled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn after_a_burst_a_client_has_to_wait_and_others_do_not() {
        let (failures, start) = (Failures::default(), Instant::now());
        for _ in 0..BURST {
            failures.spend(CLIENT, start).unwrap();
        }
        let second = Duration::from_secs(1);
        assert_eq!(failures.spend(CLIENT, start + second), Err(REFILL_INTERVAL - second));
        failures.spend(IpAddr::from([10, 9, 9, 9]), start).unwrap();
        failures.spend(CLIENT, start + REFILL_INTERVAL).unwrap();
        assert!(failures.spend(CLIENT, start + REFILL_INTERVAL).is_err());
    }

    #[test]
    fn what_was_refunded_or_has_refilled_can_be_spent_again() {
        let (failures, start) = (Failures::default(), Instant::now());
        for _ in 0..10 * BURST {
            failures.spend(CLIENT, start).unwrap();
            failures.refund(CLIENT);
        }
        for round in 1..4 {
            let now = start + REFILL_INTERVAL * BURST * round;
            for _ in 0..BURST {
                failures.spend(CLIENT, now).unwrap();
            }
        }
    }
}

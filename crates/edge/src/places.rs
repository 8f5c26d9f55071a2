//! How many connections and requests there may be at once, in all and of one client.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use metrics::gauge;
use parking_lot::Mutex;

use crate::peer::client_of;

/// Counts what clients hold, up to a limit in all and a limit for each.
///
/// Clients that hold nothing are forgotten: the memory is that of what is held.
#[derive(Debug)]
pub(crate) struct Places {
    limit: usize,
    limit_per_client: usize,
    /// Metrics to show: what is held in all, and by the client that holds most.
    gauges: (Option<&'static str>, &'static str),
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
    /// How many clients hold so many: its last key is what the busiest one holds.
    clients_by_count: BTreeMap<usize, usize>,
}

/// A place held; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// All clients together hold as much as they may.
    #[error("all {0} places are taken")]
    InAll(usize),
    /// The client holds as much as one may.
    #[error("this client holds all {0} places that one may")]
    ForClient(usize),
}

impl Places {
    pub(crate) fn new(
        limit: usize,
        limit_per_client: usize,
        gauges: (Option<&'static str>, &'static str),
    ) -> Arc<Self> {
        Arc::new(Self { limit, limit_per_client, gauges, held: Mutex::default() })
    }

    /// Takes a place for the client at `address`.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let client = client_of(address);
        let mut held = self.held.lock();
        if held.total >= self.limit {
            return Err(Full::InAll(self.limit));
        }
        let count = held.by_client.get(&client).copied().unwrap_or(0);
        if count >= self.limit_per_client {
            return Err(Full::ForClient(self.limit_per_client));
        }
        self.change(&mut held, client, count, count + 1);
        Ok(Place { places: Arc::clone(self), client })
    }

    fn change(&self, held: &mut Held, client: IpAddr, from: usize, to: usize) {
        held.total = held.total + to - from;
        match to {
            0 => held.by_client.remove(&client),
            _ => held.by_client.insert(client, to),
        };
        if let Some(clients) = held.clients_by_count.get_mut(&from) {
            *clients -= 1;
            if *clients == 0 {
                held.clients_by_count.remove(&from);
            }
        }
        if to > 0 {
            *held.clients_by_count.entry(to).or_default() += 1;
        }
        let (total, busiest) = self.gauges;
        if let Some(total) = total {
            gauge!(total).set(held.total as f64);
        }
        let most = held.clients_by_count.last_key_value().map_or(0, |(count, _)| *count);
        gauge!(busiest).set(most as f64);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held.lock();
        if let Some(count) = held.by_client.get(&self.client).copied() {
            self.places.change(&mut held, self.client, count, count - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(limit: usize, limit_per_client: usize) -> Arc<Places> {
        Places::new(limit, limit_per_client, (None, "busiest"))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn one_client_cannot_take_the_places_of_others() {
        let places = places(3, 2);
        let first: Vec<_> = (0..2).map(|_| places.take(address(1)).unwrap()).collect();
        assert_eq!(places.take(address(1)).unwrap_err(), Full::ForClient(2));
        let _second = places.take(address(2)).unwrap();
        assert_eq!(places.take(address(3)).unwrap_err(), Full::InAll(3));
        drop(first);
        places.take(address(1)).unwrap();
    }

    #[test]
    fn clients_that_hold_nothing_are_forgotten() {
        let places = places(10, 10);
        let held: Vec<_> = (0..10).map(|last| places.take(address(last % 3)).unwrap()).collect();
        assert_eq!(places.held.lock().clients_by_count, BTreeMap::from([(3, 2), (4, 1)]));
        drop(held);
        let held = places.held.lock();
        assert_eq!((held.total, held.by_client.len(), held.clients_by_count.len()), (0, 0, 0));
    }
}

//! Admission by bytes in memory and by requests.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::available_parallelism,
};

use metrics::gauge;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use thalweg_access::Services;
use tokio::sync::Semaphore;

use crate::{
    error::IngestError,
    meters,
    sender::{Client, Sender},
};

/// Up to this size a body counts as small: it may use the reserved share, and is decoded without
/// waiting for large ones.
pub(crate) const SMALL_BODY_BYTES: usize = 64 << 10;

/// One part in so many of each limit is reserved for small bodies.
const RESERVED_SHARE: u64 = 10;

/// How much may be in the works at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionConfig {
    /// Bytes of bodies, as received and decompressed, that are not yet stored.
    pub in_flight_limit_bytes: u64,
    /// Those of one client: a token wherever it is used, or else an IPv4 address or IPv6 /64
    /// network. What is left is for the others.
    pub client_limit_bytes: u64,
    /// Requests that are not yet answered.
    pub max_requests: u64,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self { in_flight_limit_bytes: 256 << 20, client_limit_bytes: 128 << 20, max_requests: 4096 }
    }
}

impl AdmissionConfig {
    /// What bodies over [`SMALL_BODY_BYTES`] may use of the bytes.
    pub(crate) fn large_share_bytes(&self) -> u64 {
        large_share(self.in_flight_limit_bytes)
    }
}

fn large_share(limit: u64) -> u64 {
    limit - limit / RESERVED_SHARE
}

/// Bounds what is in the works at once, in all and of each client.
///
/// A request holds a [`Permit`] until its events are durable; when a limit is reached, new bytes
/// are refused at once, so that queues form at the senders, where they cost no memory here. A
/// tenth of each limit is kept for small bodies: events that matter come alone or few at a time
/// and find a way in while bulk loads fill the rest. (Whether events are critical is known only
/// once they have been decoded.)
#[derive(Debug)]
pub(crate) struct Admission {
    limits: AdmissionConfig,
    bytes: AtomicU64,
    requests: AtomicU64,
    /// What each client uses that has a request in the works.
    clients: Mutex<HashMap<Client, Arc<Used>>>,
}

/// What a client uses.
#[derive(Debug)]
struct Used {
    bytes: AtomicU64,
    /// One for each processor: more large bodies of one client do not stand in the line for them,
    /// so that the line is short for the others.
    turns: Arc<Semaphore>,
}

/// The right to be processed, and the bytes taken so far; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    bytes: u64,
    client: Client,
    used: Arc<Used>,
    services: Option<Services>,
}

impl Admission {
    pub(crate) fn new(limits: AdmissionConfig) -> Self {
        gauge!(meters::IN_FLIGHT_LIMIT_BYTES).set(limits.in_flight_limit_bytes as f64);
        gauge!(meters::CLIENT_LIMIT_BYTES).set(limits.client_limit_bytes as f64);
        gauge!(meters::REQUESTS_LIMIT).set(limits.max_requests as f64);
        Self {
            limits,
            bytes: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            clients: Mutex::default(),
        }
    }

    /// Admits a request of `sender` whose body has `declared_bytes`, if it says so; the bytes
    /// themselves are to be [taken](Permit::take) as they arrive.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`] when there are too many requests.
    pub(crate) fn enter(
        self: &Arc<Self>,
        sender: &Sender,
        declared_bytes: Option<u64>,
    ) -> Result<Permit, IngestError> {
        let small = declared_bytes.is_some_and(|bytes| bytes <= SMALL_BODY_BYTES as u64);
        let limit = self.limits.max_requests;
        let limit = if small { limit } else { large_share(limit) };
        add_within(&self.requests, 1, limit).ok_or(IngestError::Overloaded("requests"))?;
        let client = sender.client();
        let used = Arc::clone(self.clients.lock().entry(client).or_default());
        let services = sender.principal.services().cloned();
        Ok(Permit { admission: Arc::clone(self), bytes: 0, client, used, services })
    }

    /// Shows what is in the works, for metrics that are about to be read.
    pub(crate) fn show(&self) {
        gauge!(meters::REQUESTS).set(self.requests.load(Relaxed) as f64);
        let clients = self.clients.lock();
        let most = clients.values().map(|used| used.bytes.load(Relaxed)).max().unwrap_or(0);
        gauge!(meters::CLIENT_BYTES).set(most as f64);
    }
}

impl Permit {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`] when there is no room for them now.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), IngestError> {
        let (bytes, limits) = (bytes as u64, &self.admission.limits);
        let small = self.bytes + bytes <= SMALL_BODY_BYTES as u64;
        let limit = if small { limits.in_flight_limit_bytes } else { limits.large_share_bytes() };
        add_within(&self.used.bytes, bytes, limits.client_limit_bytes)
            .ok_or(IngestError::Overloaded("bytes of this client"))?;
        if add_within(&self.admission.bytes, bytes, limit).is_none() {
            self.used.bytes.fetch_sub(bytes, Relaxed);
            return Err(IngestError::Overloaded("bytes"));
        }
        self.bytes += bytes;
        gauge!(meters::IN_FLIGHT_BYTES).increment(bytes as f64);
        Ok(())
    }

    /// The client's turns to have a large body decoded.
    pub(crate) fn turns(&self) -> Arc<Semaphore> {
        Arc::clone(&self.used.turns)
    }

    /// The only services whose events the sender may send; `None` for all.
    pub(crate) fn services(&self) -> Option<&Services> {
        self.services.as_ref()
    }
}

impl Default for Used {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, Into::into);
        Self { bytes: AtomicU64::new(0), turns: Arc::new(Semaphore::new(processors)) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.requests.fetch_sub(1, Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Relaxed);
        gauge!(meters::IN_FLIGHT_BYTES).decrement(self.bytes as f64);
        let mut clients = self.admission.clients.lock();
        self.used.bytes.fetch_sub(self.bytes, Relaxed);
        // Only this permit and the map know it: the client has nothing else in the works.
        if Arc::strong_count(&self.used) == 2 {
            clients.remove(&self.client);
        }
    }
}

fn add_within(sum: &AtomicU64, amount: u64, limit: u64) -> Option<u64> {
    let added = |now: u64| now.checked_add(amount).filter(|sum| *sum <= limit);
    sum.fetch_update(Relaxed, Relaxed, added).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn admission(in_flight_limit_bytes: u64, max_requests: u64) -> Arc<Admission> {
        let client_limit_bytes = in_flight_limit_bytes;
        let limits = AdmissionConfig { in_flight_limit_bytes, client_limit_bytes, max_requests };
        Arc::new(Admission::new(limits))
    }

    fn sender(last: u8) -> Sender {
        Sender::anyone([10, 0, 0, last].into())
    }

    #[test]
    fn a_dropped_permit_returns_its_bytes() {
        let admission = admission(10 * MIB as u64, 10);
        let mut first = admission.enter(&sender(1), None).unwrap();
        first.take(9 * MIB).unwrap();
        let mut second = admission.enter(&sender(2), None).unwrap();
        assert!(matches!(second.take(MIB), Err(IngestError::Overloaded("bytes"))));
        drop(first);
        second.take(9 * MIB).unwrap();
    }

    #[test]
    fn one_client_cannot_take_the_bytes_of_others() {
        let admission = Arc::new(Admission::new(AdmissionConfig {
            in_flight_limit_bytes: 10 * MIB as u64,
            client_limit_bytes: 5 * MIB as u64,
            max_requests: 10,
        }));
        let mut greedy: Vec<_> =
            (0..3).map(|_| admission.enter(&sender(1), None).unwrap()).collect();
        greedy[0].take(2 * MIB).unwrap();
        greedy[1].take(3 * MIB).unwrap();
        let refused = greedy[2].take(1);
        assert!(matches!(refused, Err(IngestError::Overloaded("bytes of this client"))));
        let mut other = admission.enter(&sender(2), None).unwrap();
        other.take(4 * MIB).unwrap();
        assert!(matches!(other.take(MIB), Err(IngestError::Overloaded("bytes"))));
        drop(greedy.remove(0));
        greedy[1].take(MIB).unwrap();
        drop((greedy, other));
        assert!(admission.clients.lock().is_empty(), "clients with nothing in the works stay");
        assert_eq!(admission.bytes.load(Relaxed), 0);
    }

    #[test]
    fn small_bodies_find_room_when_large_ones_fill_their_share() {
        let admission = admission(10 * MIB as u64, 10);
        let mut large = admission.enter(&sender(1), None).unwrap();
        large.take(9 * MIB).unwrap();
        let mut small = admission.enter(&sender(1), Some(100)).unwrap();
        small.take(SMALL_BODY_BYTES).unwrap();
        assert!(small.take(1).is_err(), "it is no longer small");
    }

    #[test]
    fn the_last_request_slots_are_for_declared_small_bodies() {
        let admission = admission(1, 10);
        let enter = |bytes| admission.enter(&sender(1), bytes);
        let large: Vec<_> = (0..9).map(|_| enter(None).unwrap()).collect();
        assert!(matches!(enter(None), Err(IngestError::Overloaded("requests"))));
        let small = enter(Some(0)).unwrap();
        assert!(enter(Some(0)).is_err());
        drop((large, small));
        assert!(enter(None).is_ok());
    }
}

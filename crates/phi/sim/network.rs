//! Networks that carry a live process's heartbeats, from a seed.
//!
//! The parameters were written down before any detector was run on them (see README.md for what
//! was known then), and have not been changed.
//! What makes them more than independent draws is the [`Load`]: delays, stalls and bursts of a
//! real network come in episodes. Its deviation is the one knob of realism; at
//! [`LOAD_SIGMA`] the busiest 1% of the time has 1,000 times the queueing of the idlest 1%, the
//! span between an idle link and a bloated buffer. `cargo bench` also prints what remains when
//! the load is steady (0).

use crate::population::Peer;
use crate::random::{Load, Random};

/// Deviation of the logarithm of the load on the networks that have episodes.
pub(crate) const LOAD_SIGMA: f64 = 1.5;

const MS: f64 = 1e3;
const SEC: f64 = 1e6;

/// One heartbeat that arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Beat {
    pub(crate) sequence: u64,
    pub(crate) arrived_us: u64,
}

/// What a monitor sees of a process that never fails, and when that process sent it.
pub(crate) struct Trace {
    /// Send times by sequence number.
    pub(crate) sent_us: Vec<u64>,
    /// What no detector can see: the load on the network (heap pressure, hour) at each send.
    pub(crate) hidden: Vec<f32>,
    /// What arrived, in order of arrival.
    pub(crate) beats: Vec<Beat>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Network {
    /// Uniform jitter of half a millisecond and 1 loss in 10,000; nothing ever changes.
    Constant,
    /// A switch, 20 ms heartbeats; hosts get busy, and then stall for tens of milliseconds.
    Lan,
    /// Hayashibara's setting (§5.1: 100 ms heartbeats across an ocean, loss in bursts of seconds).
    LossyWan,
    /// A generational heap whose allocation rate and live set wander (simulated, not scheduled).
    GcPauses,
    /// Delay, jitter (1 → 20 ms) and loss (0.01 → 1%) follow the day.
    Diurnal,
    /// In-order delivery over a path whose queueing delay has a Pareto tail of index 1.5.
    FatTail,
}

impl Network {
    pub(crate) const ALL: [Self; 6] =
        [Self::Constant, Self::Lan, Self::LossyWan, Self::GcPauses, Self::Diurnal, Self::FatTail];

    #[allow(dead_code, reason = "tests print the variant, benches the name")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Lan => "LAN",
            Self::LossyWan => "WAN, bursts of loss",
            Self::GcPauses => "GC pauses",
            Self::Diurnal => "diurnal drift",
            Self::FatTail => "long fat tail",
        }
    }

    /// The period at which processes mean to send.
    pub(crate) fn interval_us(self) -> u64 {
        if self == Self::Lan { 20_000 } else { 100_000 }
    }

    /// `count` heartbeats of a process that never fails.
    pub(crate) fn trace(self, peer: &Peer, seed: u64, count: u64, load_sigma: f64) -> Trace {
        let mut random = Random::new(seed ^ ((self as u64 + 1) << 56));
        let interval_us = self.interval_us() as f64 * peer.period;
        let mut path = Path::new(self, *peer, &mut random, interval_us, load_sigma);
        let mut sent_us = Vec::with_capacity(count as usize);
        let mut hidden = Vec::with_capacity(count as usize);
        let mut beats = Vec::with_capacity(count as usize);
        for sequence in 0..count {
            let due_us = (sequence + 1) as f64 * interval_us;
            let (sent, arrived) = path.carry(&mut random, due_us);
            sent_us.push(sent as u64);
            hidden.push(path.hidden as f32);
            if let Some(arrived) = arrived {
                beats.push(Beat { sequence, arrived_us: arrived as u64 });
            }
        }
        beats.sort_by_key(|beat| beat.arrived_us);
        Trace { sent_us, hidden, beats }
    }
}

/// The state of a network between two heartbeats.
struct Path {
    network: Network,
    peer: Peer,
    load: Load,
    step_secs: f64,
    /// Until when the path or host is stalled, losing or collecting garbage.
    trouble_until_us: f64,
    last_arrival_us: f64,
    hidden: f64,
    heap: Heap,
}

impl Path {
    fn new(
        network: Network,
        peer: Peer,
        random: &mut Random,
        interval_us: f64,
        sigma: f64,
    ) -> Self {
        let step_secs = interval_us / SEC;
        let (sigma, memory_secs) = match network {
            Network::Constant => (0.0, 1.0),
            Network::Lan | Network::LossyWan => (sigma, 300.0),
            Network::GcPauses => (sigma.min(1.0), 600.0),
            Network::Diurnal => (sigma.min(0.3), 600.0),
            Network::FatTail => (sigma, 600.0),
        };
        Self {
            network,
            peer,
            load: Load::new(random, sigma, memory_secs, step_secs),
            step_secs,
            trouble_until_us: 0.0,
            last_arrival_us: 0.0,
            hidden: 0.0,
            heap: Heap::new(random, peer, sigma, step_secs),
        }
    }

    /// When the heartbeat due at `due_us` is sent, and when it arrives, if it does.
    fn carry(&mut self, random: &mut Random, due_us: f64) -> (f64, Option<f64>) {
        let load = self.load.step(random);
        self.hidden = load;
        let (mut sent, mut lost) = (due_us, false);
        let Peer { delay, jitter, loss, trouble_rate, trouble_length, .. } = self.peer;
        let delay = match self.network {
            Network::Constant => {
                lost = random.chance(1e-4);
                10.0 * MS + MS * (random.uniform() - 0.5)
            }
            Network::Lan => {
                if random.chance(self.step_secs / 60.0 * trouble_rate * load.exp()) {
                    let stall_us = random.log_normal(10.0 * MS * trouble_length, 1.0);
                    self.trouble_until_us = self.trouble_until_us.max(due_us + stall_us);
                }
                lost = random.chance(1e-5 * loss);
                let delay = 150.0 * delay + random.exponential(50.0 * jitter * load.exp());
                delay.max(self.trouble_until_us - due_us)
            }
            Network::LossyWan => {
                if random.chance(self.step_secs / 600.0 * trouble_rate * load.exp()) {
                    self.trouble_until_us = due_us + random.exponential(SEC * trouble_length);
                }
                lost =
                    random.chance(if due_us < self.trouble_until_us { 0.8 } else { 1e-3 * loss });
                120.0 * MS * delay + random.log_normal(5.0 * MS * jitter * (load / 2.0).exp(), 0.5)
            }
            Network::GcPauses => {
                if let Some(pause_us) = self.heap.allocate(random, load) {
                    self.trouble_until_us = self.trouble_until_us.max(due_us) + pause_us;
                }
                self.hidden = load - (1.0 - self.heap.live).ln();
                sent = due_us.max(self.trouble_until_us);
                200.0 * delay + random.exponential(50.0 * jitter)
            }
            Network::Diurnal => {
                let hours = self.peer.hour + due_us / (3_600.0 * SEC);
                let day = 0.5 - 0.5 * (hours / 24.0 * std::f64::consts::TAU).cos();
                self.hidden = day;
                lost = random.chance(1e-4 * loss * 100f64.powf(day));
                let jitter_us = MS * jitter * 20f64.powf(day) * load.exp();
                (20.0 + 40.0 * day) * MS * delay + random.exponential(jitter_us)
            }
            Network::FatTail => {
                let queue_us = random.lomax(2.0 * MS * jitter * load.exp(), 1.5).min(60.0 * SEC);
                (30.0 * MS * delay + queue_us).max(self.last_arrival_us - due_us)
            }
        };
        let arrived = sent + delay;
        self.last_arrival_us = self.last_arrival_us.max(arrived);
        (sent, (!lost).then_some(arrived))
    }
}

/// A two-generation heap: eden fills at the load's rate, each minor collection promotes a little,
/// and a full old generation stops the world for as long as its live set takes to mark.
struct Heap {
    peer: Peer,
    live_load: Load,
    eden: f64,
    old: f64,
    live: f64,
    step_secs: f64,
}

impl Heap {
    fn new(random: &mut Random, peer: Peer, sigma: f64, step_secs: f64) -> Self {
        let live_load = Load::new(random, sigma, 1_800.0, step_secs);
        Self { peer, live_load, eden: 0.0, old: 0.6, live: 0.6, step_secs }
    }

    /// The pause that this step's allocation causes, in microseconds.
    fn allocate(&mut self, random: &mut Random, load: f64) -> Option<f64> {
        self.live = 0.4 + 0.45 / (1.0 + (-1.5 * self.live_load.step(random)).exp());
        self.eden += self.step_secs / 2.0 * self.peer.trouble_rate * load.exp();
        if self.eden < 1.0 {
            return None;
        }
        self.eden = 0.0;
        self.old += 0.0033;
        if self.old < 1.0 {
            return Some(random.log_normal(15.0 * MS * self.peer.trouble_length.sqrt(), 0.4));
        }
        self.old = self.live;
        Some(random.log_normal(1.2 * SEC * self.peer.trouble_length * self.live, 0.3))
    }
}

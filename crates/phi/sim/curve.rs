//! A detector's trade-off on a fleet: mistakes against detection time, over all thresholds.

use crate::detectors::Rival;
use crate::network::{Network, Trace};
use crate::population::fleet;
use crate::random::Random;

/// The first tenth of a trace is for learning: quality of service is a property of the steady
/// state (Chen et al. 2002, §2.1).
const WARM_UP_SHARE: f64 = 0.1;
/// Thresholds are of interest that one silence in so many reaches, or fewer.
const BEATS_PER_PEAK: u64 = 100;
const DAY_US: f64 = 86_400e6;

/// Peers that send so many heartbeats each, and crash so often, all told, to be detected.
#[derive(Clone, Copy)]
pub(crate) struct Fleet {
    pub(crate) network: Network,
    pub(crate) seed: u64,
    pub(crate) peers: usize,
    pub(crate) heterogeneity: f64,
    pub(crate) beats: u64,
    pub(crate) load_sigma: f64,
    pub(crate) crashes: usize,
}

impl Fleet {
    fn traces(self) -> impl Iterator<Item = Trace> {
        let peers = fleet(self.network, self.seed, self.peers, self.heterogeneity);
        let Self { network, seed, beats, load_sigma, .. } = self;
        peers.into_iter().enumerate().map(move |(index, peer)| {
            network.trace(&peer, seed + ((index as u64) << 32), beats, load_sigma)
        })
    }
}

/// What one threshold for the whole fleet does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// Per day of one peer, on average.
    pub(crate) mistakes_per_day: f64,
    /// From crash to suspicion, mean over crashes.
    pub(crate) detection_ms: f64,
}

/// Points by falling number of mistakes.
pub(crate) type Curve = Vec<Point>;

/// What [`curves`] calls hindsight's.
pub(crate) const ORACLE: &str = "(oracle)";

/// The curves of the detectors, all on the same heartbeats, each a fresh one for every peer; and of
/// hindsight, if [`ORACLE`] is asked for and the first is a fixed timeout.
pub(crate) fn curves(of: Fleet, rivals: &[&str]) -> Vec<(&'static str, Curve)> {
    let hindsight = rivals.contains(&ORACLE);
    let rivals: Vec<(&str, Rival)> = Rival::all(of.network.interval_us())
        .into_iter()
        .filter(|(name, _)| rivals.contains(name))
        .collect();
    let mut records: Vec<Record> = rivals.iter().map(|_| Record::new(of)).collect();
    let mut oracle = Oracle::default();
    for (peer, trace) in of.traces().enumerate() {
        for ((_, rival), record) in rivals.iter().zip(&mut records) {
            record.run(&trace, rival.clone(), of.seed + peer as u64, of.crashes / of.peers);
        }
        if hindsight {
            oracle.take_in(&trace);
        }
    }
    let mut curves: Vec<(&str, Curve)> =
        rivals.iter().zip(records).map(|(&(name, _), record)| (name, record.curve())).collect();
    if hindsight {
        let curve = oracle.curve(&curves[0].1);
        curves.push((ORACLE, curve));
    }
    curves
}

/// What a detector did, from which any threshold's results follow.
struct Record {
    days: f64,
    /// How high silences drove the level, and how high it was as they began: the highest peaks.
    peaks: Vec<(f64, f64)>,
    keep: usize,
    lowest_kept: f64,
    crashed: Vec<Crashed>,
}

/// A detector whose peer crashed at a time, after the last heartbeat that it heard.
struct Crashed {
    rival: Rival,
    at_us: u64,
    heard_us: u64,
}

impl Record {
    fn new(of: Fleet) -> Self {
        Self {
            days: 0.0,
            peaks: Vec::new(),
            keep: (of.beats * of.peers as u64 / BEATS_PER_PEAK) as usize,
            lowest_kept: f64::NEG_INFINITY,
            crashed: Vec::new(),
        }
    }

    /// Runs a detector over a trace, and lets copies of it live through crashes.
    fn run(&mut self, trace: &Trace, mut live: Rival, seed: u64, crashes: usize) {
        let end_us = *trace.sent_us.last().expect("a trace has heartbeats");
        let begin_us = (end_us as f64 * WARM_UP_SHARE) as u64;
        self.days += (end_us - begin_us) as f64 / DAY_US;
        let mut random = Random::new(seed ^ 0xc4a5);
        let spacing = (end_us - begin_us) as f64 / crashes as f64;
        let mut crash_at = (0..crashes)
            .map(|i| begin_us + ((i as f64 + random.uniform()) * spacing) as u64)
            .peekable();
        let by_sequence = arrivals_by_sequence(trace);
        let (mut next, mut last_us) = (0, 0);
        for beat in &trace.beats {
            while let Some(at_us) = crash_at.next_if(|&at_us| at_us < beat.arrived_us) {
                let heard = Heard { rival: live.clone(), next, last_us };
                self.crashed.push(heard.crash(trace, &by_sequence, at_us));
            }
            if beat.sequence < next {
                continue;
            }
            if last_us > begin_us {
                let peak = live.level(beat.arrived_us);
                if peak > self.lowest_kept {
                    self.peaks.push((peak, live.level(last_us)));
                    self.forget_low_peaks();
                }
            }
            live.heartbeat(beat.sequence, beat.arrived_us);
            (next, last_us) = (beat.sequence + 1, beat.arrived_us);
        }
    }

    fn forget_low_peaks(&mut self) {
        if self.peaks.len() >= 2 * self.keep + 16 {
            self.peaks.select_nth_unstable_by(self.keep, |a, b| b.0.total_cmp(&a.0));
            self.lowest_kept = self.peaks[self.keep].0;
            self.peaks.truncate(self.keep);
        }
    }

    /// Thresholds eight per decade of mistakes, the last with three on the whole fleet.
    fn curve(&self) -> Curve {
        let (mut peaks, mut starts): (Vec<f64>, Vec<f64>) = self.peaks.iter().copied().unzip();
        peaks.sort_unstable_by(|a, b| b.total_cmp(a));
        starts.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut thresholds: Vec<f64> = (0..)
            .map(|eighth| (3.0 * 10f64.powf(f64::from(eighth) / 8.0)) as usize)
            .take_while(|&count| count < peaks.len().min(self.keep))
            .map(|count| peaks[count - 1])
            .collect();
        thresholds.reverse();
        thresholds.dedup();
        let at_least = |levels: &[f64], threshold| levels.partition_point(|&l| l >= threshold);
        let mut reached_us: Vec<u64> =
            self.crashed.iter().map(|crashed| crashed.heard_us).collect();
        thresholds
            .into_iter()
            .filter_map(|threshold| {
                // Where the level was there from the start, suspicion went on, and did not begin.
                let suspected = at_least(&starts, threshold);
                let mistakes = at_least(&peaks, threshold) - suspected;
                let mut total_us = 0.0;
                for (crashed, from_us) in self.crashed.iter().zip(&mut reached_us) {
                    *from_us = crashed.rival.reaches(threshold, *from_us);
                    total_us += from_us.saturating_sub(crashed.at_us) as f64;
                }
                // A threshold that suspects always is none.
                (mistakes > 0).then(|| Point {
                    mistakes_per_day: mistakes as f64 / self.days,
                    detection_ms: total_us / 1e3 / self.crashed.len() as f64,
                })
            })
            .collect()
    }
}

/// A detector, the number of the heartbeat it hears next, and when it heard the latest.
struct Heard {
    rival: Rival,
    next: u64,
    last_us: u64,
}

impl Heard {
    /// The peer crashes; what it sent before still arrives.
    fn crash(self, trace: &Trace, by_sequence: &[Option<u64>], at_us: u64) -> Crashed {
        let Self { mut rival, next, last_us: mut heard_us } = self;
        let sent = trace.sent_us.partition_point(|&sent| sent <= at_us);
        let in_flight = &by_sequence[(next as usize).min(sent)..sent];
        let mut arrivals: Vec<(u64, u64)> =
            (next..).zip(in_flight).filter_map(|(seq, at)| at.map(|at| (at, seq))).collect();
        arrivals.sort_unstable();
        let mut newest = next;
        for (arrived_us, sequence) in arrivals {
            if sequence >= newest {
                rival.heartbeat(sequence, arrived_us);
                (newest, heard_us) = (sequence + 1, arrived_us);
            }
        }
        Crashed { rival, at_us, heard_us }
    }
}

fn arrivals_by_sequence(trace: &Trace) -> Vec<Option<u64>> {
    let mut arrivals = vec![None; trace.sent_us.len()];
    for beat in &trace.beats {
        arrivals[beat.sequence as usize] = Some(beat.arrived_us);
    }
    arrivals
}

/// The value of `y` where the curve passes `x`, on a straight line between its points.
fn interpolate(points: impl Iterator<Item = (f64, f64)>, x: f64) -> Option<f64> {
    let mut before: Option<(f64, f64)> = None;
    for (x1, y1) in points {
        if let Some((x0, y0)) = before
            && (x0 - x) * (x1 - x) <= 0.0
            && x0 != x1
        {
            return Some(y0 + (y1 - y0) * (x - x0) / (x1 - x0));
        }
        before = Some((x1, y1));
    }
    None
}

/// Mistakes a day of the curve's detector with the threshold that takes so long to detect.
pub(crate) fn mistakes_at(curve: &[Point], detection_ms: f64) -> Option<f64> {
    let points = curve.iter().map(|p| (p.detection_ms, p.mistakes_per_day.max(1e-9).ln()));
    interpolate(points, detection_ms).map(f64::exp)
}

/// Detection time of the curve at this many mistakes a day.
pub(crate) fn detection_ms_at(curve: &[Point], mistakes_per_day: f64) -> Option<f64> {
    let points = curve.iter().map(|p| (p.mistakes_per_day.max(1e-9).ln(), p.detection_ms));
    interpolate(points, mistakes_per_day.ln())
}

/// The trade-off of the best timeouts in hindsight, one for each peer and tenth of its hidden load.
///
/// No detector can have it: it knows the load, and every gap of the whole trace, beforehand. Nor is
/// it a strict bound: it times from the latest arrival, and knows nothing else than the load.
#[derive(Default)]
struct Oracle {
    days: f64,
    /// Gaps in microseconds, the longest first, of each peer and tenth: as many as may matter, and
    /// how many there were.
    classes: Vec<(Vec<f32>, usize)>,
}

impl Oracle {
    const TENTHS: usize = 10;

    fn take_in(&mut self, trace: &Trace) {
        let end_us = *trace.sent_us.last().expect("a trace has heartbeats");
        let begin_us = (end_us as f64 * WARM_UP_SHARE) as u64;
        self.days += (end_us - begin_us) as f64 / DAY_US;
        let mut sorted = trace.hidden.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let bounds: Vec<f32> =
            (1..Self::TENTHS).map(|tenth| sorted[sorted.len() * tenth / Self::TENTHS]).collect();
        let mut gaps: Vec<Vec<f32>> = vec![Vec::new(); Self::TENTHS];
        let (mut next, mut last_us) = (0, 0);
        for beat in &trace.beats {
            if beat.sequence < next {
                continue;
            }
            if last_us > begin_us {
                let load = trace.hidden[next.saturating_sub(1) as usize];
                let tenth = bounds.partition_point(|&bound| bound <= load);
                gaps[tenth].push((beat.arrived_us - last_us) as f32);
            }
            (next, last_us) = (beat.sequence + 1, beat.arrived_us);
        }
        for mut gaps in gaps.into_iter().filter(|gaps| !gaps.is_empty()) {
            let count = gaps.len();
            gaps.sort_unstable_by(|a, b| b.total_cmp(a));
            gaps.truncate(count / 8 + 1);
            self.classes.push((gaps, count));
        }
    }

    /// A fixed timeout's detection time is the timeout and a constant: the one that `fixed` shows.
    fn curve(&self, fixed: &[Point]) -> Curve {
        let total = self.classes.iter().map(|(_, count)| count).sum::<usize>() as f64;
        let mut all: Vec<f32> = self.classes.iter().flat_map(|(gaps, _)| gaps).copied().collect();
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        let reference = fixed[fixed.len() / 2];
        let timeout_us = all[(reference.mistakes_per_day * self.days) as usize];
        let constant_ms = reference.detection_ms - f64::from(timeout_us) / 1e3;
        let best = |price: f64| {
            let (mut mistakes, mut timeout_us) = (0.0, 0.0);
            for (gaps, count) in &self.classes {
                let share = *count as f64 / total;
                let cost = |&(shorter, &gap): &(usize, &f32)| {
                    shorter as f64 + price * share * f64::from(gap)
                };
                let (shorter, &gap) = gaps
                    .iter()
                    .enumerate()
                    .min_by(|a, b| cost(a).total_cmp(&cost(b)))
                    .expect("a class has gaps");
                mistakes += shorter as f64;
                timeout_us += share * f64::from(gap);
            }
            (mistakes, timeout_us)
        };
        (0..80)
            .map(|step| best(self.classes.len() as f64 * 0.1 * 0.8f64.powi(step)))
            .map(|(mistakes, timeout_us)| Point {
                mistakes_per_day: mistakes / self.days,
                detection_ms: timeout_us / 1e3 + constant_ms,
            })
            .collect()
    }
}

//! A detector's trade-off on a trace: mistakes against detection time, over all thresholds.

use crate::detectors::Rival;
use crate::network::Trace;
use crate::random::Random;

/// The first tenth of a trace is for learning: quality of service is a property of the steady
/// state (Chen et al. 2002, §2.1).
const WARM_UP_SHARE: f64 = 0.1;

fn warm_up(trace: &Trace) -> usize {
    (trace.beats.len() as f64 * WARM_UP_SHARE) as usize
}

fn counted_days(trace: &Trace) -> f64 {
    trace.days() * (1.0 - WARM_UP_SHARE)
}

/// What one threshold does on a trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) mistakes_per_day: f64,
    pub(crate) mistake_secs: f64,
    pub(crate) query_accuracy: f64,
    pub(crate) detection_ms: f64,
}

/// Runs a detector over the trace twice: once for the levels it reaches while the process lives,
/// from which thresholds are chosen to make about so many mistakes each; once for what they do.
pub(crate) fn curve(trace: &Trace, rival: &Rival, crashes: usize) -> Vec<Point> {
    let thresholds = thresholds(trace, rival.clone());
    let mut detection_us = vec![0.0; thresholds.len()];
    let mut mistakes = vec![0u64; thresholds.len()];
    let mut mistake_us = vec![0.0; thresholds.len()];

    let end_us = *trace.sent_us.last().expect("a trace has heartbeats");
    let warm_up = warm_up(trace);
    let begin_us = trace.beats[warm_up].arrived_us;
    let mut random = Random::new(0xc4a5);
    let spacing = (end_us - begin_us) as f64 / crashes as f64;
    let mut crash_at: Vec<u64> =
        (0..crashes).map(|i| begin_us + ((i as f64 + random.uniform()) * spacing) as u64).collect();
    crash_at.reverse();

    let by_sequence = arrivals_by_sequence(trace);
    let mut live = rival.clone();
    let (mut next, mut last_us) = (0, 0);
    for (index, beat) in trace.beats.iter().enumerate() {
        while crash_at.last().is_some_and(|&crash| crash < beat.arrived_us) {
            let crash_us = crash_at.pop().expect("just seen");
            let (dead, heard_us) =
                crash(trace, &by_sequence, live.clone(), next, crash_us, last_us);
            let mut from_us = heard_us;
            for (total, &threshold) in detection_us.iter_mut().zip(&thresholds) {
                from_us = dead.reaches(threshold, from_us);
                *total += from_us.saturating_sub(crash_us) as f64;
            }
        }
        if beat.sequence < next {
            continue;
        }
        if index > warm_up {
            let (start, peak) = (live.level(last_us), live.level(beat.arrived_us));
            for (i, &threshold) in thresholds.iter().enumerate() {
                if threshold > peak {
                    break;
                }
                mistakes[i] += u64::from(start < threshold);
                mistake_us[i] += (beat.arrived_us - live.reaches(threshold, last_us)) as f64;
            }
        }
        live.heartbeat(beat.sequence, beat.arrived_us);
        (next, last_us) = (beat.sequence + 1, beat.arrived_us);
    }
    (0..thresholds.len())
        .map(|i| Point {
            mistakes_per_day: mistakes[i] as f64 / counted_days(trace),
            mistake_secs: mistake_us[i] / 1e6 / mistakes[i].max(1) as f64,
            query_accuracy: 1.0 - mistake_us[i] / (end_us - begin_us) as f64,
            detection_ms: detection_us[i] / 1e3 / crashes as f64,
        })
        .collect()
}

/// The detector after the last heartbeat of a process that crashes at `crash_us`, and when that
/// was; `live` has heard all that arrived before.
fn crash(
    trace: &Trace,
    by_sequence: &[Option<u64>],
    mut live: Rival,
    next: u64,
    crash_us: u64,
    mut last_us: u64,
) -> (Rival, u64) {
    let sent = trace.sent_us.partition_point(|&sent| sent <= crash_us);
    let in_flight = &by_sequence[(next as usize).min(sent)..sent];
    let mut arrivals: Vec<(u64, u64)> =
        (next..).zip(in_flight).filter_map(|(seq, at)| at.map(|at| (at, seq))).collect();
    arrivals.sort_unstable();
    let mut newest = next;
    for (at_us, sequence) in arrivals {
        if sequence >= newest {
            live.heartbeat(sequence, at_us);
            (newest, last_us) = (sequence + 1, at_us);
        }
    }
    (live, last_us)
}

fn arrivals_by_sequence(trace: &Trace) -> Vec<Option<u64>> {
    let mut arrivals = vec![None; trace.sent_us.len()];
    for beat in &trace.beats {
        arrivals[beat.sequence as usize] = Some(beat.arrived_us);
    }
    arrivals
}

/// Rising thresholds, eight per decade of mistakes, the last with three on the whole trace.
fn thresholds(trace: &Trace, mut rival: Rival) -> Vec<f64> {
    let mut peaks = Vec::with_capacity(trace.beats.len());
    let mut next = 0;
    for (index, beat) in trace.beats.iter().enumerate() {
        if beat.sequence < next {
            continue;
        }
        if index > warm_up(trace) {
            peaks.push(rival.level(beat.arrived_us));
        }
        rival.heartbeat(beat.sequence, beat.arrived_us);
        next = beat.sequence + 1;
    }
    peaks.sort_unstable_by(|a, b| b.total_cmp(a));
    let mut thresholds: Vec<f64> = (0..)
        .map(|eighth| (3.0 * 10f64.powf(f64::from(eighth) / 8.0)) as usize)
        .take_while(|&count| count < peaks.len() / 100)
        .map(|count| peaks[count - 1])
        .collect();
    thresholds.reverse();
    thresholds.dedup();
    thresholds
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

/// What the curve's detector does with the threshold that takes so long to detect.
pub(crate) fn at_detection_time(curve: &[Point], detection_ms: f64) -> Option<Point> {
    let over = |value: fn(&Point) -> f64| {
        interpolate(curve.iter().map(|p| (p.detection_ms, value(p))), detection_ms)
    };
    Some(Point {
        mistakes_per_day: over(|p| p.mistakes_per_day.max(1e-9).ln())?.exp(),
        mistake_secs: over(|p| p.mistake_secs)?,
        query_accuracy: over(|p| p.query_accuracy)?,
        detection_ms,
    })
}

/// Detection time of the curve at this many mistakes per day.
pub(crate) fn detection_ms_at(curve: &[Point], mistakes_per_day: f64) -> Option<f64> {
    let points = curve.iter().map(|p| (p.mistakes_per_day.max(1e-9).ln(), p.detection_ms));
    interpolate(points, mistakes_per_day.ln())
}

/// The trade-off of the best timeouts in hindsight, one for each tenth of the hidden load.
///
/// No detector can have it: it knows the load, and every gap of the whole trace, beforehand.
pub(crate) fn oracle(trace: &Trace, fixed: &[Point]) -> Vec<Point> {
    const CLASSES: usize = 10;
    let mut sorted = trace.hidden.clone();
    sorted.sort_unstable_by(f32::total_cmp);
    let bounds: Vec<f32> =
        (1..CLASSES).map(|class| sorted[sorted.len() * class / CLASSES]).collect();
    let mut gaps: Vec<Vec<f64>> = vec![Vec::new(); CLASSES];
    let (mut next, mut last_us) = (0, 0);
    for (index, beat) in trace.beats.iter().enumerate() {
        if beat.sequence < next {
            continue;
        }
        if index > warm_up(trace) {
            let load = trace.hidden[next.saturating_sub(1) as usize];
            let class = bounds.partition_point(|&bound| bound <= load);
            gaps[class].push((beat.arrived_us - last_us) as f64);
        }
        (next, last_us) = (beat.sequence + 1, beat.arrived_us);
    }
    gaps.iter_mut().for_each(|gaps| gaps.sort_unstable_by(|a, b| b.total_cmp(a)));
    let total = gaps.iter().map(Vec::len).sum::<usize>() as f64;
    // A fixed timeout's detection time is the timeout and a constant.
    let best = |price: f64| {
        let (mut mistakes, mut timeout_us) = (0.0, 0.0);
        for gaps in gaps.iter().filter(|gaps| !gaps.is_empty()) {
            let share = gaps.len() as f64 / total;
            let cost = |&(count, gap): &(usize, &f64)| count as f64 + price * share * gap;
            let candidates = gaps.iter().enumerate().take(gaps.len() / 2 + 1);
            let (count, gap) =
                candidates.min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("not empty");
            mistakes += count as f64;
            timeout_us += share * gap;
        }
        (mistakes, timeout_us)
    };
    let pooled_timeout_ms = |mistakes_per_day: f64| {
        let mut all: Vec<f64> = gaps.iter().flatten().copied().collect();
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        all[(mistakes_per_day * counted_days(trace)) as usize] / 1e3
    };
    let reference = fixed[fixed.len() / 2];
    let constant_ms = reference.detection_ms - pooled_timeout_ms(reference.mistakes_per_day);
    (0..160)
        .map(|step| best(1e-1 * 0.9f64.powi(step)))
        .map(|(mistakes, timeout_us)| Point {
            mistakes_per_day: mistakes / counted_days(trace),
            mistake_secs: 0.0,
            query_accuracy: 0.0,
            detection_ms: timeout_us / 1e3 + constant_ms,
        })
        .collect()
}

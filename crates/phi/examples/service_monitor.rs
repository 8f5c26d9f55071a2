//! A monitor holds one false alarm a day on a service that answers irregularly, and measures itself.
//!
//! `cargo run -p thalweg-phi --example service_monitor`

use std::time::Duration;

use thalweg_phi::{AdaptiveThreshold, Change, Config, ConfigError, Detector, QosMeter, Threshold};

const DAYS: u64 = 10;
const DAY_SECS: u64 = 86_400;
/// The service goes down at noon, for ten minutes.
const DOWN_SECS: std::ops::Range<u64> = 43_200..43_800;

fn main() -> Result<(), ConfigError> {
    let mut detector = Detector::new(&Config::default())?;
    let mut adaptive = AdaptiveThreshold::new(1.0, 8.0)?;
    let mut threshold = Threshold::new(8.0, 1.0)?;
    let mut meter = QosMeter::new(Duration::ZERO);
    let mut last = Duration::ZERO;
    for second in 0..DAYS * DAY_SECS {
        let now = Duration::from_secs(second);
        let of_day = second % DAY_SECS;
        if of_day == DOWN_SECS.start {
            meter.crash(now);
        } else if of_day == DOWN_SECS.end {
            meter.recover(now);
        }
        let level = detector.phi(now);
        if threshold.look(level) == Some(Change::Suspect) {
            meter.suspect(now);
        }
        // Every answer but one in 50 comes, and by day one in ten.
        let scattered = second.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let one_in = if (28_800..72_000).contains(&of_day) { 10 } else { 50 };
        if !DOWN_SECS.contains(&of_day) && !scattered.is_multiple_of(one_in) {
            // The silence of an outage is no false alarm nearly made, and no lateness.
            let last_of_day = last.as_secs() % DAY_SECS;
            if last_of_day < DOWN_SECS.start && of_day >= DOWN_SECS.end {
                detector.resume(second, now);
            } else {
                adaptive.observe(level, now - last);
                detector.heartbeat_numbered(second, now);
            }
            last = now;
            threshold.set_suspect(adaptive.level().max(1.5))?;
            if threshold.look(detector.phi(now)) == Some(Change::Trust) {
                meter.trust(now);
            }
        }
    }
    let qos = meter.report(Duration::from_secs(DAYS * DAY_SECS));
    println!("threshold now     φ = {:.2}", adaptive.level());
    println!("mistakes          {:.1} a day", qos.mistakes_per_day);
    println!("query accuracy    {:.6}", qos.query_accuracy);
    println!("detection, mean   {:?}", qos.detection_time.unwrap_or_default());
    println!("detection, worst  {:?}", qos.slowest_detection.unwrap_or_default());
    Ok(())
}

//! A member of a cluster watches its peers; one of them crashes, another stalls and comes back.
//!
//! `cargo run -p thalweg-phi --example cluster`

use std::collections::BTreeMap;
use std::time::Duration;

use thalweg_phi::{Change, Config, ConfigError, Detector, Threshold};

const PERIOD_MS: u64 = 200;

struct Peer {
    detector: Detector,
    threshold: Threshold,
}

fn main() -> Result<(), ConfigError> {
    let first_interval = Duration::from_millis(PERIOD_MS);
    let config = Config { first_interval, ..Config::default() };
    let mut peers = BTreeMap::new();
    for name in ["ada", "bob", "eve"] {
        let detector = Detector::new(&config)?;
        peers.insert(name, Peer { detector, threshold: Threshold::new(4.0, 1.0)? });
    }
    // The loop of a real member would receive datagrams, and look at all peers on a timer.
    for tick_ms in (0..120_000).step_by(10) {
        let now = Duration::from_millis(tick_ms);
        for (name, peer) in &mut peers {
            let crashed = *name == "bob" && tick_ms >= 60_000;
            let stalled = *name == "eve" && (80_000..83_000).contains(&tick_ms);
            if tick_ms % PERIOD_MS == 0 && !crashed && !stalled {
                peer.detector.heartbeat_numbered(tick_ms / PERIOD_MS, now);
            }
            let phi = peer.detector.phi(now);
            match peer.threshold.look(phi) {
                Some(Change::Suspect) => println!("{now:>8.2?} {name} is suspected, φ = {phi:.1}"),
                Some(Change::Trust) => println!("{now:>8.2?} {name} is trusted again"),
                None => {}
            }
        }
    }
    Ok(())
}

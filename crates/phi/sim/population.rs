//! Fleets: what tells the peers of one network apart.
//!
//! The spreads were written down, and committed, before any detector was run on a fleet, and have
//! not been changed since. Each factor is log-normal with the deviation below and, unless a reason
//! is given, independent of the others; its median, 1, is the single link of `network.rs`.
//!
//! | spread | value | why |
//! |---|--:|---|
//! | clock | 5e-5 | crystal oscillators are specified to ±50 ppm |
//! | LAN delay | 0.7 | same rack 0.1 ms, other zone 1 ms and more |
//! | LAN stalls: rate, length | 1, 0.5 | EC2 nodes of one type have tails "that differ by as much as an order of magnitude", lastingly (Xu et al., Bobtail, NSDI 2013): ±1 deviation here is a factor of 7 in rate, 2.7 in length |
//! | LAN jitter, loss | 0.5, 1 | drop rates between 1e-5 and 1e-4 by data centre (Guo et al., Pingmesh, SIGCOMM 2015) |
//! | WAN delay | 0.4 | one way 55 to 270 ms for 95%: next country to other side of the globe |
//! | WAN jitter | 0.7 | paths differ in hops and in the load of the last mile |
//! | WAN loss, bursts of it | 1.2, 1.2 | half of all paths lose nothing while the mean is 3 to 5% (Paxson, ToN 1999, §6): more than 1.2 would say |
//! | WAN length of bursts | 0.5 | Paxson's outages last from 50 ms to 50 s; a single factor for a path is less |
//! | GC rate of allocation | 0.8 | 4% to 96% of programs span a factor of 17; those of DaCapo (Blackburn et al. 2006) span more |
//! | GC pauses | 0.8 | a collection takes as long as its live set is large: heaps of 1 to 20 GiB for 95%; minor ones, by survivors, half as much |
//! | diurnal hour | uniform | peers around the globe |
//! | diurnal delay, jitter, loss | 0.5, 0.7, 1 | fibre, cable and DSL: last miles of 2 to 40 ms (Sundaresan et al., SIGCOMM 2011) |
//! | fat tail delay, queue | 0.5, 1 | modems' buffers: 50 ms to some seconds under load (the same, §6) |

use crate::network::Network;
use crate::random::Random;

/// What one peer's link and host are like, as factors on the typical ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Peer {
    pub(crate) period: f64,
    pub(crate) delay: f64,
    pub(crate) jitter: f64,
    pub(crate) loss: f64,
    /// How often its stalls, bursts of loss or collections come.
    pub(crate) trouble_rate: f64,
    /// How long they last.
    pub(crate) trouble_length: f64,
    /// The hour of its day at time 0.
    pub(crate) hour: f64,
}

const CLOCK_SPREAD: f64 = 5e-5;

/// Deviations of the logarithms of delay, jitter, loss, rate and length of trouble.
fn spreads(network: Network) -> [f64; 5] {
    match network {
        Network::Constant => [0.0; 5],
        Network::Lan => [0.7, 0.5, 1.0, 1.0, 0.5],
        Network::LossyWan => [0.4, 0.7, 1.2, 1.2, 0.5],
        Network::GcPauses => [0.7, 0.5, 0.0, 0.8, 0.8],
        Network::Diurnal => [0.5, 0.7, 1.0, 0.0, 0.0],
        Network::FatTail => [0.5, 1.0, 0.0, 0.0, 0.0],
    }
}

/// Draws the peers of a fleet. `heterogeneity` scales all spreads: at 0 every peer is
/// the typical one.
pub(crate) fn fleet(network: Network, seed: u64, peers: usize, heterogeneity: f64) -> Vec<Peer> {
    let mut random = Random::new(seed ^ 0xf1ee_7000 ^ ((network as u64 + 1) << 56));
    let heterogeneity = if network == Network::Constant { 0.0 } else { heterogeneity };
    let clock = scores(&mut random, peers);
    let factors = spreads(network).map(|spread| {
        scores(&mut random, peers)
            .into_iter()
            .map(|score| (heterogeneity * spread * score).exp())
            .collect::<Vec<_>>()
    });
    let zones = network == Network::Diurnal;
    (0..peers)
        .map(|i| Peer {
            period: 1.0 + heterogeneity * CLOCK_SPREAD * clock[i],
            delay: factors[0][i],
            jitter: factors[1][i],
            loss: factors[2][i],
            trouble_rate: factors[3][i],
            trouble_length: factors[4][i],
            hour: if zones { heterogeneity * 24.0 * i as f64 / peers as f64 } else { 0.0 },
        })
        .collect()
}

/// Standard normal scores, one from each of `count` strata of equal probability, in random order: a
/// small fleet that has the spread of a large one (Latin hypercube, McKay et al. 1979).
fn scores(random: &mut Random, count: usize) -> Vec<f64> {
    const DRAWS: usize = 64;
    let mut draws: Vec<f64> = (0..count * DRAWS).map(|_| random.normal()).collect();
    draws.sort_unstable_by(f64::total_cmp);
    let mut scores: Vec<f64> = draws
        .chunks_exact(DRAWS)
        .map(|stratum| stratum[(random.uniform() * DRAWS as f64) as usize])
        .collect();
    for last in (1..count).rev() {
        scores.swap(last, (random.uniform() * (last + 1) as f64) as usize);
    }
    scores
}

//! Accrual failure detection: how suspicious is a peer's silence?
//!
//! A process sends heartbeats. A [`Detector`] listens, learns how regular they are, and turns
//! silence into a number: φ(t) = −log₁₀ P(the next heartbeat comes later than t). What to do at
//! which number is up to the user, who may warn at 1, route around at 3 and fail over at 8, all
//! from one detector (Hayashibara, Défago, Yared and Katayama, "The φ accrual failure detector",
//! SRDS 2004).
//!
//! ```text
//! heartbeats ─▶ Detector ─┬▶ phi     ─┬▶ Threshold ─▶ suspect, trust ─▶ QosMeter ─▶ Qos
//!                         └▶ urgency ─┴▶ AdaptiveThreshold
//! ```
//!
//! | to choose | take |
//! |---|---|
//! | how silences are distributed | [`Model`], in the [`Config`]; the default measures it |
//! | when to suspect, when to trust again | [`Threshold`] |
//! | so many mistakes a day, whatever the network | [`AdaptiveThreshold`] |
//! | one threshold for a fleet of unlike peers, with the fewest mistakes | [`Detector::urgency`] in place of [`Detector::phi`] |
//! | a peer that was down and is back | [`Detector::resume`] |
//! | to know how well it went | [`QosMeter`] |
//!
//! There is no I/O here, no clock and no randomness: times are arguments, and the same calls give
//! the same answers on every machine. `no_std` with `alloc`.
//!
//! ```
//! use std::time::Duration;
//! use thalweg_phi::{Change, Config, Detector, Threshold};
//!
//! let mut peer = Detector::new(&Config::default())?;
//! let mut threshold = Threshold::new(8.0, 1.0)?;
//! for sequence in 0..600 {
//!     let now = Duration::from_millis(sequence * 1_000 + sequence * 37 % 20);
//!     peer.heartbeat_numbered(sequence, now);
//!     assert_eq!(threshold.look(peer.phi(now)), None);
//! }
//! // Heartbeats have stopped.
//! let verdict = threshold.look(peer.phi(Duration::from_secs(603)));
//! assert_eq!(verdict, Some(Change::Suspect));
//! # Ok::<(), thalweg_phi::ConfigError>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod adaptive;
mod config;
mod detector;
mod empirical;
mod histogram;
mod log;
mod normal;
mod qos;
mod schedule;
mod survival;
mod threshold;
mod window;

pub use adaptive::AdaptiveThreshold;
pub use config::{Config, ConfigError, Model};
pub use detector::Detector;
pub use qos::{Qos, QosMeter};
pub use threshold::{Change, Threshold};

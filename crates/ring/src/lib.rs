//! Consistent hashing: which of several nodes has a key, such that few keys move
//! when the nodes change.
//!
//! ```text
//!  Node, Membership      who takes part: ids, weights, zones, racks
//!         │
//!     Placement          key ─▶ node        HashRing   Maglev   Dx   Jump
//!         │
//!      HashRing          replicas over failure domains, bounded loads
//!         │
//!    MovementPlan        old ring, new ring ─▶ which ranges move, whence, whither
//!         │
//!     Migration          steps of bounded size within capacities, and who holds
//!                        each key in between
//! ```
//!
//! Everything is a pure function of ids, weights and domains: no I/O, no clock,
//! no randomness, and a named hash that is frozen ([`HASH_NAME`]), so that any
//! two processes agree without speaking. `no_std`, with `alloc`.
//!
//! ```
//! use thalweg_ring::{HashRing, Membership, MovementPlan, Node, Placement, Share};
//!
//! let servers = ["eu-1", "eu-2", "us-1", "us-2"]
//!     .map(|id| Node::new(id).in_zone(&id[..2]));
//! let ring = HashRing::new(Membership::new(servers)?, 1024)?;
//! let owner = ring.node("song-42");
//! let copies = ring.replicas("song-42", 2);
//! assert_eq!(copies[0], owner);
//! assert_ne!(copies[0].zone(), copies[1].zone());
//!
//! let grown = ring.rebuild(ring.membership().with(Node::new("ap-1").in_zone("ap"))?)?;
//! let plan = MovementPlan::between(&ring, &grown, 1)?;
//! println!("{} of the songs move", plan.moved());
//! let migration = plan.in_steps(Share::of(1, 100))?;
//! assert!(migration.steps().len() >= 20);
//! # Ok::<(), thalweg_ring::RingError>(())
//! ```
#![no_std]

extern crate alloc;

mod bounded;
mod domains;
mod dx;
mod error;
mod hash;
mod jump;
mod maglev;
mod membership;
mod migration;
mod placement;
mod plan;
mod ring;
mod share;
mod slots;

pub use bounded::BoundedLoads;
pub use dx::{Dx, MAX_SLOTS};
pub use error::RingError;
pub use hash::{HASH_NAME, KeyHash};
pub use jump::{Jump, MAX_BUCKETS, jump_hash};
pub use maglev::{MAGLEV_LARGE, MAGLEV_SMALL, MAX_TABLE, Maglev};
pub use membership::{MAX_NODES, Membership, Node};
pub use migration::{MAX_STEPS, Migration};
pub use placement::Placement;
pub use plan::{Change, Movement, MovementPlan};
pub use ring::{DEFAULT_VNODES, HashRing, MAX_POINTS};
pub use share::{HashRange, Share};

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

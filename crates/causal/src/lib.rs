//! Clocks and convergent objects.
//!
//! Replicas that take writes without asking one another need two things: to tell
//! what happened before what, and data that come out the same wherever and in
//! whatever order the writes arrive. This crate has both, as plain values: no
//! I/O, no async, no clock reads, no randomness, no `unsafe`, no `std`.
//!
//! ```
//! use thalweg_causal::{Crdt, GCounter, ReplicaId};
//!
//! let (east, west) = (ReplicaId(1), ReplicaId(2));
//! let (mut likes_east, mut likes_west) = (GCounter::default(), GCounter::default());
//!
//! likes_east.increment(east, 1);
//! let delta = likes_west.increment(west, 1); // at the same time
//!
//! assert!(likes_east.merge(&delta));
//! assert_eq!(likes_east.value(), 2);
//! assert!(!likes_east.merge(&delta), "a duplicate changes nothing");
//! ```
//!
//! | to | use |
//! |---|---|
//! | compare histories | [`VectorClock`], [`CausalContext`] (with gaps) |
//! | stamp events in an order users recognise | [`HybridClock`] |
//! | keep a key's value, written by clients that read first | [`Siblings`] |
//! | count | [`GCounter`], [`PnCounter`] |
//! | keep one value and lose concurrent ones | [`LwwRegister`] |
//! | keep concurrent values, a switch, a set, a map | [`MvRegister`], [`Flag`], [`OrSet`], [`OrMap`] |
//! | let a client say what it saw | [`token`] |
//!
//! All objects are a [`Crdt`]: they merge states and deltas, have a canonical and
//! compact encoding, and can let go of replicas that left. A store keeps one
//! object per key and gives each node a [`ReplicaId`]; on a write it sends the
//! delta to peers, and compares and exchanges encodings to heal what was lost:
//!
//! ```text
//! client ──token──▶ open ─▶ observed / write ─▶ delta ──▶ peers: from_bytes, merge
//!    ▲                          │                             │
//!    └────── seal ◀── context ◀─┘          to_bytes, hash ◀───┘ (anti-entropy)
//! ```

#![no_std]

extern crate alloc;

mod causal;
mod context;
mod counter;
mod crdt;
mod dot_store;
mod hlc;
mod lww_register;
mod replica;
mod replica_map;
mod siblings;
pub mod token;
mod vector_clock;
mod wire;

pub use causal::{Causal, ContextAhead, Flag, MvRegister, OrMap, OrSet};
pub use context::CausalContext;
pub use counter::{GCounter, PnCounter};
pub use crdt::Crdt;
pub use dot_store::{DotFun, DotMap, DotSet, DotStore, Present};
pub use hlc::{ClockDrift, HybridClock, Timestamp};
pub use lww_register::LwwRegister;
pub use replica::{Causality, Dot, ReplicaId};
pub use siblings::Siblings;
pub use token::TokenError;
pub use vector_clock::{PruneBounds, VectorClock};
pub use wire::{DecodeError, FORMAT_VERSION, MAX_COUNTER, Reader, Wire, put_varint};

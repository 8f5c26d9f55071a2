//! The textbook's social feed: two servers take a like each at the same moment.
//!
//! `cargo run -p thalweg-causal --example social_feed`

use thalweg_causal::{Causality, Crdt, GCounter, ReplicaId, VectorClock};

const EAST: ReplicaId = ReplicaId(1);
const WEST: ReplicaId = ReplicaId(2);

/// A post as one server holds it.
#[derive(Clone, Default)]
struct Post {
    likes: GCounter,
    clock: VectorClock,
}

impl Post {
    fn like(&mut self, server: ReplicaId) {
        self.likes.increment(server, 1);
        self.clock.increment(server);
    }

    /// Says whether `other` brought anything new.
    fn merge(&mut self, other: &Self) -> bool {
        self.likes.merge(&other.likes) | self.clock.merge(&other.clock)
    }

    fn versions(&self) -> [u64; 2] {
        [self.clock.get(EAST), self.clock.get(WEST)]
    }
}

fn main() {
    let (mut east, mut west) = (Post::default(), Post::default());
    east.like(EAST);
    west.like(WEST);

    let relation = east.clock.compare(&west.clock);
    println!("east {:?} and west {:?} are {relation:?}", east.versions(), west.versions());
    assert_eq!((east.versions(), west.versions()), ([1, 0], [0, 1]));
    assert_eq!(relation, Causality::Concurrent);

    assert!(east.merge(&west));
    println!("merged: {} likes, clock {:?}", east.likes.value(), east.versions());
    assert_eq!((east.likes.value(), east.versions()), (2, [1, 1]));

    assert!(!east.merge(&west));
    println!("merged again: {} likes, clock {:?}", east.likes.value(), east.versions());
    assert_eq!((east.likes.value(), east.versions()), (2, [1, 1]));

    assert!(west.merge(&east));
    assert_eq!((west.likes.value(), west.clock.compare(&east.clock)), (2, Causality::Equal));
    println!("west after the exchange: the same");
}

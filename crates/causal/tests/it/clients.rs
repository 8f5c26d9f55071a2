//! Clients that read, modify and write back through any server.

use std::collections::BTreeSet;

use proptest::prelude::*;
use thalweg_causal::{
    CausalContext, Crdt, HybridClock, MvRegister, OrSet, ReplicaId, Siblings, Timestamp,
    VectorClock,
};

const SERVERS: usize = 3;
const CLIENTS: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Action {
    /// The client reads from the server and remembers the context.
    Read {
        client: usize,
        server: usize,
    },
    /// The client writes with the context of its last read.
    Write {
        client: usize,
        server: usize,
    },
    Replicate {
        from: usize,
        to: usize,
    },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        (0..CLIENTS, 0..SERVERS).prop_map(|(client, server)| Action::Read { client, server }),
        (0..CLIENTS, 0..SERVERS).prop_map(|(client, server)| Action::Write { client, server }),
        (0..SERVERS, 0..SERVERS).prop_map(|(from, to)| Action::Replicate { from, to }),
    ];
    prop::collection::vec(action, 1..120)
}

/// A write, and the writes its author had seen: their dots are not needed to say
/// which values must remain.
struct History {
    saw: Vec<BTreeSet<u64>>,
}

impl History {
    fn live(&self, known: &BTreeSet<u64>) -> BTreeSet<u64> {
        let overwritten: BTreeSet<u64> =
            known.iter().flat_map(|write| &self.saw[*write as usize]).copied().collect();
        known - &overwritten
    }
}

proptest! {
    #[test]
    fn exactly_the_writes_nobody_saw_remain(actions in actions()) {
        let mut history = History { saw: Vec::new() };
        let mut servers: [Siblings<u64>; SERVERS] = Default::default();
        let mut known: [BTreeSet<u64>; SERVERS] = Default::default();
        let mut clients: [(VectorClock, BTreeSet<u64>); CLIENTS] = Default::default();
        for action in actions {
            match action {
                Action::Read { client, server } => {
                    clients[client] = (servers[server].context(), known[server].clone());
                }
                Action::Write { client, server } => {
                    let (context, saw) = &clients[client];
                    let write = history.saw.len() as u64;
                    servers[server].write(ReplicaId(server as u64), context, write);
                    history.saw.push(saw.clone());
                    known[server].extend(saw);
                    known[server].insert(write);
                }
                Action::Replicate { from, to } => {
                    let (object, events) = (servers[from].clone(), known[from].clone());
                    servers[to].merge(&object);
                    known[to].extend(events);
                }
            }
            for (server, known) in servers.iter().zip(&known) {
                let values: BTreeSet<u64> = server.values().copied().collect();
                prop_assert_eq!(values, history.live(known));
                let copy = Siblings::from_bytes(&server.to_bytes());
                prop_assert_eq!(copy.as_ref(), Ok(server));
            }
        }
    }

    /// Two designs of one type: dotted version vector sets and dot functions.
    #[test]
    fn siblings_and_multi_value_register_agree(
        actions in prop::collection::vec((0..SERVERS, 0..SERVERS, any::<bool>()), 1..60),
    ) {
        let mut siblings: [Siblings<u64>; SERVERS] = Default::default();
        let mut registers: [MvRegister<u64>; SERVERS] = Default::default();
        for (value, (server, other, write)) in actions.into_iter().enumerate() {
            if write {
                let replica = ReplicaId(server as u64);
                let context = siblings[server].context();
                siblings[server].write(replica, &context, value as u64);
                registers[server].write(replica, value as u64);
            } else {
                let (other_siblings, other_register) =
                    (siblings[other].clone(), registers[other].clone());
                siblings[server].merge(&other_siblings);
                registers[server].merge(&other_register);
            }
            let left: BTreeSet<_> = siblings[server].values().collect();
            let right: BTreeSet<_> = registers[server].values().collect();
            prop_assert_eq!(left, right);
            prop_assert_eq!(
                &CausalContext::from(&siblings[server].context()),
                registers[server].context()
            );
        }
    }

    #[test]
    fn timestamps_follow_causality_and_stay_near_the_fastest_clock(
        steps in prop::collection::vec((0..SERVERS, 0..SERVERS, 0u64..30, any::<bool>()), 1..80),
    ) {
        const LIMIT_MICROS: u64 = 100;
        let mut clocks =
            [0, 1, 2].map(|replica| HybridClock::new(ReplicaId(replica), LIMIT_MICROS));
        let mut latest: [Option<Timestamp>; SERVERS] = [None; SERVERS];
        let mut now = [1_000u64; SERVERS];
        let mut fastest = 1_000;
        for (here, there, elapsed, receive) in steps {
            now[here] += elapsed;
            fastest = fastest.max(now[here]);
            let sent = latest[there];
            let stamp = match sent.filter(|_| receive) {
                None => clocks[here].tick(now[here]),
                Some(sent) => match clocks[here].observe(sent, now[here]) {
                    Ok(stamp) => {
                        prop_assert!(stamp > sent);
                        stamp
                    }
                    Err(drift) => {
                        prop_assert!(drift.ahead_micros > LIMIT_MICROS);
                        continue;
                    }
                },
            };
            prop_assert!(Some(stamp) > latest[here]);
            prop_assert!(stamp.wall_micros >= now[here] && stamp.wall_micros <= fastest);
            latest[here] = Some(stamp);
        }
    }
}

/// The scenario of the DAIS 2014 paper, §3: with one version vector per value and
/// server, each of these writes would keep one more sibling.
#[test]
fn two_interleaved_writers_never_make_more_than_two_siblings() {
    let server = ReplicaId(1);
    let mut object = Siblings::default();
    let mut contexts = [VectorClock::new(), VectorClock::new()];
    for round in 0..1_000 {
        let writer = round % 2;
        object.write(server, &contexts[writer], round);
        contexts[writer] = object.context();
        assert!(object.len() <= 2, "{} siblings after round {round}", object.len());
    }
    object.write(server, &object.context(), 1_000);
    assert_eq!(object.values().collect::<Vec<_>>(), [&1_000]);
}

#[test]
fn a_write_that_saw_another_server_wins_over_what_arrives_later() {
    let (mut east, mut west) = (Siblings::default(), Siblings::default());
    east.write(ReplicaId(1), &VectorClock::new(), "old".to_string());
    west.write(ReplicaId(2), &east.context(), "new".to_string());
    assert!(!west.merge(&east), "the write's context covers what east has");
    assert_eq!(west.values().collect::<Vec<_>>(), ["new"]);
}

#[test]
fn a_client_that_is_ahead_is_told_what_is_missing() {
    let mut here = OrSet::default();
    here.add(ReplicaId(1), 1u64);
    let mut there = here.clone();
    there.add(ReplicaId(2), 2);
    let error = here.observed(there.context()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected a causal context this replica covers, found event 2:1 \
        it has not seen: merge the object from a peer, then try again"
    );
    here.merge(&there);
    assert_eq!(here.observed(there.context()), Ok(here));
}

//! What ids promise, over merges, forgetting and restarts.

use proptest::prelude::*;
use thalweg_template::{Config, Miner, SnapshotError, TemplateId};

use crate::corpus::labelled;
use crate::corpus::systems::SYSTEMS;

fn miner(max_patterns: usize) -> Miner {
    Miner::new(Config::default().with_max_patterns(max_patterns)).expect("tests keep to the limits")
}

/// Messages that share words, so that they merge.
fn messages() -> impl Strategy<Value = Vec<String>> {
    let word = prop_oneof![
        4 => prop::sample::select(vec!["session", "opened", "closed", "for", "user", "at", "x"]),
        2 => prop::sample::select(vec!["alice", "bob", "carol", "dave", "eve", "fred", "a.b", "n7"]),
        1 => prop::sample::select(vec!["5", "10.0.0.1:80", "(3)", "[]", "\"q r\"", "=", "é", "7 ms"]),
    ];
    prop::collection::vec(
        prop::collection::vec(word, 0..6).prop_map(|words| words.join(" ")),
        0..200,
    )
}

/// All templates, with their counts and what they look like.
fn all(miner: &Miner) -> Vec<(TemplateId, u64, String)> {
    let mut all: Vec<_> = miner
        .templates()
        .map(|template| (template.id(), template.count(), template.to_string()))
        .collect();
    all.sort();
    all
}

proptest! {
    #[test]
    fn any_text_is_read(text in ".{0,300}", more in prop::collection::vec(".{0,40}", 0..40)) {
        let mut miner = miner(16);
        for text in more.iter().chain([&text]) {
            let id = miner.observe(text).template;
            prop_assert_eq!(miner.find(text), Some(id));
            prop_assert!(miner.parameters(id, text).is_some());
            prop_assert!(!miner.template(id).unwrap().to_string().contains(char::is_control));
        }
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        let mut miner = miner(16);
        let id = miner.observe(&text).template;
        prop_assert_eq!(miner.find(&text), Some(id));
    }

    #[test]
    fn a_message_is_found_where_it_was_put(messages in messages()) {
        let mut miner = miner(10_000);
        let mut given = Vec::new();
        for message in &messages {
            let id = miner.observe(message).template;
            prop_assert_eq!(miner.find(message), Some(id));
            given.push(id);
        }
        // Templates only merge: whatever became of an id, its messages are there.
        for (message, id) in messages.iter().zip(given) {
            let found = miner.find(message);
            prop_assert!(found.is_some());
            let template = miner.template(id);
            prop_assert!(template.is_some());
            prop_assert_eq!(template.map(|template| template.id()), Some(miner.resolve(id)));
        }
        let counts: u64 = miner.templates().map(|template| template.count()).sum();
        prop_assert_eq!(counts, messages.len() as u64);
    }

    #[test]
    fn templates_are_never_more_than_allowed(messages in messages()) {
        let mut miner = miner(16);
        for message in &messages {
            let id = miner.observe(message).template;
            prop_assert_eq!(miner.find(message), Some(id));
            prop_assert!(miner.pattern_count() <= 16 && miner.len() <= miner.pattern_count());
        }
    }

    #[test]
    fn a_restored_miner_goes_on_as_if_nothing_happened(
        before in messages(),
        after in messages(),
        max_patterns in 16_usize..60,
    ) {
        let mut miner = miner(max_patterns);
        for message in &before {
            let _ = miner.observe(message);
        }
        let snapshot = miner.snapshot();
        let mut restored = Miner::restore(&snapshot).unwrap();
        prop_assert_eq!(&restored.snapshot(), &snapshot);
        for message in &after {
            prop_assert_eq!(restored.observe(message), miner.observe(message));
        }
        prop_assert_eq!(all(&restored), all(&miner));
        prop_assert_eq!(restored.snapshot(), miner.snapshot());
        prop_assert!(restored.merged().eq(miner.merged()));
    }

    #[test]
    fn a_damaged_snapshot_is_refused(messages in messages(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut miner = miner(100);
        for message in &messages {
            let _ = miner.observe(message);
        }
        let mut snapshot = miner.snapshot();
        let at = at.index(snapshot.len());
        prop_assert!(Miner::restore(&snapshot[..at]).is_err());
        snapshot[at] ^= 1_u8 << bit;
        prop_assert!(Miner::restore(&snapshot).is_err());
    }

    #[test]
    fn a_forged_snapshot_does_no_harm(
        messages in messages(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut miner = miner(100);
        for message in &messages {
            let _ = miner.observe(message);
        }
        let mut snapshot = miner.snapshot();
        let content = snapshot.len() - 8;
        for (at, byte) in changes {
            snapshot[at.index(content)] = byte;
        }
        let checksum = xxhash_rust::xxh3::xxh3_64(&snapshot[..content]).to_le_bytes();
        snapshot[content..].copy_from_slice(&checksum);
        if let Ok(mut forged) = Miner::restore(&snapshot) {
            for message in &messages {
                let id = forged.observe(message).template;
                prop_assert_eq!(forged.resolve(id), id);
            }
            prop_assert!(Miner::restore(&forged.snapshot()).is_ok());
        }
    }
}

#[test]
fn errors_say_what_is_wrong_with_a_snapshot() {
    let snapshot = miner(16).snapshot();
    assert_eq!(Miner::restore(b"PAR1....").err(), Some(SnapshotError::Foreign));
    assert_eq!(Miner::restore(&snapshot[..10]).err(), Some(SnapshotError::Checksum));
    let mut other = snapshot;
    other[4] = 9;
    assert_eq!(Miner::restore(&other).err(), Some(SnapshotError::Version(9)));
}

#[test]
fn the_same_messages_give_the_same_ids_everywhere() {
    let ids = |seed| {
        let log = labelled(SYSTEMS[0].1, 500, seed);
        let mut miner = miner(1_000);
        log.messages.iter().map(|message| miner.observe(message).template).collect::<Vec<_>>()
    };
    assert_eq!(ids(1), ids(1));
}

/// Ids are stored in tables and compared between nodes: they must not change.
#[test]
fn ids_are_frozen() {
    let mut miner = miner(16);
    let mut id = |message| miner.observe(message).template.to_string();
    assert_eq!(id("Connection from 10.0.0.1 closed"), "26efa9ab1a0b6d64");
    assert_eq!(id("eth0: link \"very up\" at sshd[5]"), "49da3561ee2b00bf");
}

#[test]
fn a_stream_of_messages_that_are_all_different_stays_within_bounds() {
    let mut miner = miner(256);
    let mut random = fastrand::Rng::with_seed(1);
    let known = "Accepted socket connection from /10.0.0.1:2181";
    for line in 0..5_000 {
        let word =
            |random: &mut fastrand::Rng| -> String { (0..8).map(|_| random.lowercase()).collect() };
        let unlike = format!("{} {} {}", word(&mut random), word(&mut random), word(&mut random));
        let _ = miner.observe(&unlike);
        if line % 20 == 0 {
            let _ = miner.observe(known);
        }
    }
    assert!(miner.pattern_count() <= 256);
    assert!(miner.forgotten_count() > 0);
    // What is seen again and again outlives what is seen once.
    let id = miner.find(known).expect("it was not forgotten");
    assert_eq!(miner.template(id).map(|template| template.count()), Some(250));
}

#[test]
fn messages_of_a_mebibyte_are_read_in_part() {
    let mut miner = miner(16);
    for text in [
        "x".repeat(1 << 20),
        "7 ".repeat(1 << 19),
        "\"'".repeat(1 << 19),
        "a:".repeat(1 << 19),
        ".:".repeat(1 << 19),
    ] {
        let id = miner.observe(&text).template;
        assert_eq!(miner.find(&text), Some(id));
        assert!(miner.template(id).unwrap().to_string().len() < 10_000);
    }
    assert!(miner.snapshot().len() < 100_000);
}

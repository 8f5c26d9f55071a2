//! Encodings against inputs that nobody should send.

use std::fmt::Debug;

use proptest::prelude::*;
use thalweg_causal::{
    CausalContext, Crdt, DecodeError, Dot, DotFun, DotMap, DotSet, Flag, GCounter, LwwRegister,
    MAX_COUNTER, MvRegister, OrMap, OrSet, PnCounter, ReplicaId, Siblings, TokenError, VectorClock,
    token,
};

/// Whatever is accepted is the one encoding of what it decodes to.
fn check<C: Crdt + Debug>(body: &[u8]) {
    let with_header = [&[1 << 4 | C::KIND], body].concat();
    for bytes in [body, &with_header] {
        if let Ok(object) = C::from_bytes(bytes) {
            assert_eq!(object.to_bytes(), bytes, "{object:?}");
        }
    }
}

fn check_all(body: &[u8]) {
    check::<VectorClock>(body);
    check::<CausalContext>(body);
    check::<GCounter>(body);
    check::<PnCounter>(body);
    check::<LwwRegister<String>>(body);
    check::<Siblings<String>>(body);
    check::<Flag>(body);
    check::<MvRegister<u64>>(body);
    check::<OrSet<String>>(body);
    check::<OrMap<u64, DotFun<Vec<u8>>>>(body);
    check::<OrMap<u64, DotMap<i64, DotSet>>>(body);
}

/// Counters near every border.
fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..6, 100u64..140, MAX_COUNTER - 3..=MAX_COUNTER]
}

fn dots() -> impl Strategy<Value = Vec<Dot>> {
    let replica = prop_oneof![0u64..4, Just(u64::MAX), any::<u64>()].prop_map(ReplicaId);
    prop::collection::vec(
        (replica, counter()).prop_map(|(replica, counter)| Dot { replica, counter }),
        0..20,
    )
}

/// A set by three replicas with some elements removed again.
fn set(actions: &[(u8, String, bool)]) -> OrSet<String> {
    let mut set = OrSet::default();
    for (replica, element, add) in actions {
        if *add {
            set.add(ReplicaId(u64::from(*replica)), element.clone());
        } else {
            set.remove(element);
        }
    }
    set
}

fn mac(message: &[u8]) -> [u8; token::MAC_BYTES] {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"cluster key").expect("any length");
    mac.update(message);
    *mac.finalize().into_bytes().first_chunk().expect("SHA-256 has 32 bytes")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_are_refused_or_canonical(body in prop::collection::vec(any::<u8>(), 0..40)) {
        check_all(&body);
    }

    #[test]
    fn small_numbers_get_past_the_first_checks(body in prop::collection::vec(0u8..6, 0..40)) {
        check_all(&body);
    }

    #[test]
    fn a_context_is_the_set_of_its_dots(dots in dots(), others in dots()) {
        let context: CausalContext = dots.iter().copied().collect();
        let mut one_by_one = CausalContext::new();
        for dot in dots.iter().rev() {
            one_by_one.insert(*dot);
        }
        prop_assert_eq!(&one_by_one, &context);
        prop_assert!(dots.iter().all(|dot| context.contains(*dot)));
        prop_assert_eq!(CausalContext::from_bytes(&context.to_bytes()), Ok(context.clone()));

        let missing = others.iter().filter(|dot| !context.contains(**dot)).min().copied();
        let other: CausalContext = others.iter().copied().collect();
        prop_assert_eq!(context.first_missing(&other), missing);
        let mut union = context.clone();
        prop_assert_eq!(union.merge(&other), missing.is_some());
        prop_assert_eq!(union, dots.iter().chain(&others).copied().collect::<CausalContext>());
    }

    #[test]
    fn damage_to_a_set_is_refused_or_canonical(
        actions in prop::collection::vec((0u8..3, "[a-c]{1,2}", any::<bool>()), 0..20),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let set = set(&actions);
        let mut bytes = set.to_bytes();
        prop_assert_eq!(OrSet::from_bytes(&bytes), Ok(set));
        for len in 0..bytes.len() {
            prop_assert!(OrSet::<String>::from_bytes(&bytes[..len]).is_err());
        }
        let at = at.index(bytes.len());
        bytes[at] = byte;
        check::<OrSet<String>>(&bytes[1..]);
    }

    #[test]
    fn a_token_opens_only_unchanged_and_for_its_object(
        dots in dots(),
        at in any::<prop::sample::Index>(),
        with in "[A-Za-z0-9_-]",
    ) {
        let context: CausalContext = dots.into_iter().collect();
        let sealed = token::seal(&context, b"key", mac).unwrap();
        prop_assert_eq!(token::open(&sealed, b"key", mac), Ok(context));
        prop_assert_eq!(token::open(&sealed, b"kex", mac), Err(TokenError::Forged));
        let at = at.index(sealed.len());
        let mut damaged = sealed.clone();
        damaged.replace_range(at..=at, &with);
        if damaged != sealed {
            prop_assert!(token::open(&damaged, b"key", mac).is_err());
        }
        prop_assert!(token::open(&sealed[..at], b"key", mac).is_err());
    }

    #[test]
    fn any_string_is_no_token(token in ".{0,60}") {
        prop_assert!(token::open(&token, b"key", mac).is_err());
    }
}

#[test]
fn a_few_bytes_cannot_ask_for_much_memory() {
    // A header, then 2^62 announced entries.
    let huge = [0x11, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f];
    assert_eq!(
        VectorClock::from_bytes(&huge),
        Err(DecodeError::Truncated { expected: "replicas", at: 10 })
    );
}

#[test]
fn another_kind_and_another_version_are_named() {
    let counter = GCounter::default().to_bytes();
    assert_eq!(
        Flag::from_bytes(&counter),
        Err(DecodeError::Kind { expected: Flag::KIND, found: GCounter::KIND })
    );
    assert_eq!(
        GCounter::from_bytes(&[2 << 4 | GCounter::KIND, 0, 0]),
        Err(DecodeError::Version { found: 2 })
    );
    assert_eq!(
        GCounter::from_bytes(&[1 << 4 | GCounter::KIND, 0, 0, 9]),
        Err(DecodeError::Trailing { at: 3, extra: 1 })
    );
}

#[test]
fn the_format_is_frozen() {
    let mut clock: VectorClock = [(ReplicaId(3), 300), (ReplicaId(5), 1)].into_iter().collect();
    assert_eq!(clock.to_bytes(), [0x11, 2, 3, 0xac, 0x02, 1, 1]);
    clock.forget(ReplicaId(5));

    let event = |counter| Dot { replica: ReplicaId(3), counter };
    let mut context = CausalContext::from(&clock);
    context.insert(event(303));
    context.insert(event(302));
    assert_eq!(context.to_bytes(), [0x12, 1, 3, 0xd9, 0x04, 1, 0, 1]);

    let mut set = OrSet::default();
    set.add(ReplicaId(3), "a".to_string());
    set.add(ReplicaId(3), "b".to_string());
    let (context, a, b) = ([1, 3, 4], [1, b'a', 1, 0, 1], [1, b'b', 1, 0, 0]);
    assert_eq!(set.to_bytes(), [&[0x18][..], &context, &[2], &a, &b].concat());

    let mut siblings = Siblings::default();
    siblings.write(ReplicaId(3), &clock, 7u64);
    assert_eq!(siblings.to_bytes(), [0x16, 1, 3, 0xad, 0x02, 1, 7]);

    let mut counter = PnCounter::default();
    counter.increment(ReplicaId(0), 5);
    counter.decrement(ReplicaId(9), 2);
    assert_eq!(counter.to_bytes(), [0x13, 1, 0, 5, 1, 9, 2]);
}

#[test]
fn tokens_of_a_hundred_random_replicas_fit_and_of_a_thousand_do_not() {
    let context = |replicas: u64| {
        let spread = |id: u64| ReplicaId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let clock: VectorClock = (0..replicas).map(|id| (spread(id), 1_000_000)).collect();
        CausalContext::from(&clock)
    };
    let sealed = token::seal(&context(100), b"key", mac).unwrap();
    assert!(sealed.len() < 1_800, "{} characters", sealed.len());
    assert!(matches!(token::seal(&context(1_000), b"key", mac), Err(TokenError::TooLong { .. })));
    assert!(matches!(
        token::open(&"A".repeat(token::MAX_TOKEN_CHARS + 1), b"key", mac),
        Err(TokenError::TooLong { .. })
    ));
}

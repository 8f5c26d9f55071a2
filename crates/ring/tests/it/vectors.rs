//! Frozen answers. If one of these fails, the change would move users' data:
//! it needs a new [`HASH_NAME`], not new vectors.

use thalweg_ring::{Dx, HASH_NAME, HashRing, Jump, KeyHash, Maglev, Membership, Node, Placement};

/// The owners of `song-0` … `song-23`, as one letter each.
fn owners(placement: &impl Placement) -> String {
    (0..24).map(|i| placement.node(format!("song-{i}").as_str()).id().to_owned()).collect()
}

fn nodes() -> Membership {
    Membership::new([
        Node::new("a").in_zone("x"),
        Node::new("b").in_zone("x").with_weight(2),
        Node::new("c").in_zone("y"),
        Node::new("d").in_zone("z"),
        Node::new("e").in_zone("z").with_weight(3),
    ])
    .unwrap()
}

#[test]
fn keys_hash_as_xxh3_in_other_languages() {
    assert_eq!(HASH_NAME, "xxh3-64+splitmix64/v1");
    // `xxhsum -H3` of the same bytes.
    let vectors = [
        ("", 0x2d06_8005_38d3_94c2),
        ("a", 0xe6c6_32b6_1e96_4e1f),
        ("abc", 0x78af_5f94_892f_3950),
        ("song-1", 0xd6d0_60f3_fdf5_fb6d),
        ("0123456789abcdef0", 0xc92e_2385_daf3_6034),
        (&"x".repeat(300), 0xa5d1_b460_7dc8_3554),
    ];
    for (key, hash) in vectors {
        assert_eq!(KeyHash::from(key), KeyHash(hash), "{key}");
    }
}

#[test]
fn a_ring_places_keys_as_it_always_has() {
    let ring = HashRing::new(nodes(), 64).unwrap();
    assert_eq!(owners(&ring), "eddeeeacbeeceedceebeadbe");
    let shares: Vec<u128> = ring.shares().iter().map(|share| share.hashes()).collect();
    assert_eq!(
        shares,
        [
            2_188_089_696_129_646_592,
            4_919_478_281_567_207_424,
            2_101_809_683_603_914_752,
            2_712_862_628_358_651_904,
            6_524_503_784_050_130_944
        ]
    );
}

#[test]
fn copies_are_where_they_always_were() {
    let ring = HashRing::new(nodes(), 64).unwrap();
    let copies = |i: u32| {
        let nodes = ring.replicas(format!("song-{i}").as_str(), 3);
        nodes.iter().map(|node| node.id()).collect::<String>()
    };
    let expected = "ebc dbc dac ebc eac eca adc cea bec ebc ebc cda";
    assert_eq!((0..12).map(copies).collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn tables_slots_and_buckets_place_keys_as_they_always_have() {
    assert_eq!(owners(&Maglev::new(nodes(), 1_009).unwrap()), "bbbecbdebbdceebacdbebceb");
    assert_eq!(owners(&Dx::new(nodes(), 16).unwrap()), "deeabeceedbeebbcbadbcebb");
    assert_eq!(owners(&Jump::new(nodes()).unwrap()), "eedabceacbbeabdeededeeed");
}

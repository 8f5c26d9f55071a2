//! How many messages of logs in the shapes of real systems end up in the right group.

use thalweg_template::{Config, Miner, TemplateId};

use crate::corpus::systems::SYSTEMS;
use crate::corpus::{grouping_accuracy, labelled};

const LINES: usize = 2_000;
const SEEDS: [u64; 3] = [1, 2, 3];

fn accuracy(catalogue: &[&str], seed: u64) -> f64 {
    let log = labelled(catalogue, LINES, seed);
    let mut miner = Miner::new(Config::default()).unwrap();
    let ids: Vec<TemplateId> =
        log.messages.iter().map(|message| miner.observe(message).template).collect();
    let ids: Vec<TemplateId> = ids.into_iter().map(|id| miner.resolve(id)).collect();
    if std::env::var("SHOW").is_ok() {
        use std::collections::{BTreeMap, BTreeSet};
        let mut of: BTreeMap<usize, BTreeMap<TemplateId, usize>> = BTreeMap::new();
        let mut back: BTreeMap<TemplateId, BTreeSet<usize>> = BTreeMap::new();
        for (id, &label) in ids.iter().zip(&log.labels) {
            *of.entry(label).or_default().entry(*id).or_default() += 1;
            back.entry(*id).or_default().insert(label);
        }
        for (label, ids) in of {
            let mixed = ids.keys().any(|id| back[id].len() > 1);
            if ids.len() > 1 || mixed {
                println!(
                    "   {} {} lines, {} groups {}",
                    catalogue[label],
                    ids.values().sum::<usize>(),
                    ids.len(),
                    if mixed { "MIXED" } else { "" }
                );
                for (id, n) in ids.iter().take(5) {
                    println!("        {n} {}", miner.template(*id).unwrap());
                }
            }
        }
    }
    grouping_accuracy(&ids, &log.labels)
}

#[test]
fn groups_are_right_in_logs_of_many_shapes() {
    let mut sum = 0.0;
    for (name, catalogue) in SYSTEMS {
        let mean =
            SEEDS.iter().map(|&seed| accuracy(catalogue, seed)).sum::<f64>() / SEEDS.len() as f64;
        println!("{name:12} {mean:.4}");
        sum += mean;
    }
    println!("average {:.4}", sum / SYSTEMS.len() as f64);
}

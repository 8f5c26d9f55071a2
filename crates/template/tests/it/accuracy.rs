//! How many messages of logs in the shapes of real systems end up in the right group.

use std::collections::HashMap;

use thalweg_template::{Config, Miner, TemplateId};

use crate::corpus::labelled;
use crate::corpus::systems::SYSTEMS;

const LINES: usize = 2_000;
const SEEDS: [u64; 3] = [1, 2, 3];

/// The share of messages whose group is exactly the messages of their template.
///
/// Zhu et al., "Tools and benchmarks for automated log parsing", ICSE-SEIP 2019.
fn grouping_accuracy<T: Eq + std::hash::Hash>(found: &[T], truth: &[usize]) -> f64 {
    let mut by_found: HashMap<&T, Vec<usize>> = HashMap::new();
    let mut by_truth: HashMap<usize, Vec<usize>> = HashMap::new();
    for (line, (found, &truth)) in found.iter().zip(truth).enumerate() {
        by_found.entry(found).or_default().push(line);
        by_truth.entry(truth).or_default().push(line);
    }
    let right: usize =
        by_truth.values().filter(|lines| by_found[&found[lines[0]]] == **lines).map(Vec::len).sum();
    right as f64 / truth.len() as f64
}

fn accuracy(catalogue: &[&str], seed: u64) -> f64 {
    let log = labelled(catalogue, LINES, seed);
    let mut miner = Miner::new(Config::default()).unwrap();
    let ids: Vec<TemplateId> =
        log.messages.iter().map(|message| miner.observe(message).template).collect();
    let ids: Vec<TemplateId> = ids.into_iter().map(|id| miner.resolve(id)).collect();
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

//! Labelled logs in the shapes of real systems.
//!
//! [`systems::SYSTEMS`] holds what each system says, as templates with `{kind}` for a value of a
//! kind; [`values`] makes up values. How often a template comes falls with its rank (Zipf), the
//! ranks being drawn by the seed; values repeat as unevenly, so that a rare template's parameter
//! may show two values only. Nothing here knows how templates are mined: kinds are not what the
//! miner tells apart by look, and many values are plain words.

pub(crate) mod systems;
pub(crate) mod values;

use fastrand::Rng;
use values::Values;

/// A log whose templates are known.
pub(crate) struct LabelledLog {
    /// Messages in order.
    pub(crate) messages: Vec<String>,
    /// Which template each was made of.
    pub(crate) labels: Vec<usize>,
}

/// A log of so many messages of a system; the same for the same seed.
pub(crate) fn labelled(catalogue: &[&str], lines: usize, seed: u64) -> LabelledLog {
    let mut random = Rng::with_seed(seed);
    let mut values = Values::new(&mut random);
    let mut ranks: Vec<usize> = (0..catalogue.len()).collect();
    random.shuffle(&mut ranks);
    let mut log = LabelledLog { messages: Vec::new(), labels: Vec::new() };
    for _ in 0..lines {
        let label = ranks[zipf(&mut random, catalogue.len())];
        log.messages.push(filled_in(catalogue[label], &mut values, &mut random));
        log.labels.push(label);
    }
    log
}

/// A rank below `count`, the first twice as often as the second, and so on.
fn zipf(random: &mut Rng, count: usize) -> usize {
    let total: f64 = (1..=count).map(|rank| 1.0 / rank as f64).sum();
    let mut left = random.f64() * total;
    for rank in 0..count {
        left -= 1.0 / (rank + 1) as f64;
        if left <= 0.0 {
            return rank;
        }
    }
    count - 1
}

fn filled_in(template: &str, values: &mut Values, random: &mut Rng) -> String {
    let mut message = String::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        message.push_str(literal);
        // A brace of the message's own is followed by a space or nothing.
        match after.split_once('}') {
            Some((kind, after)) if values::is_kind(kind) => {
                values.append(kind, random, &mut message);
                rest = after;
            }
            _ => {
                message.push('{');
                rest = after;
            }
        }
    }
    message.push_str(rest);
    message
}

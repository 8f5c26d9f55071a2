//! Drain, to compare with: He, Zhu, Zheng and Lyu, ICWS 2017, with one setting for all logs.
//!
//! A tree by number of words, then by the first two words, leads to groups; a message joins the
//! most similar one if half of its words are the same. Numbers are masked before, as Drain's
//! users do with expressions written for each log; here one rule, every word with a digit,
//! serves all.

use std::collections::HashMap;

const SIMILARITY: f64 = 0.5;
const MAX_CHILDREN: usize = 100;
const WILDCARD: &str = "<*>";

#[derive(Default)]
pub(crate) struct Drain {
    /// Groups of a leaf, by number of words and the first two of them.
    leaves: HashMap<(usize, [String; 2]), Vec<usize>>,
    children: HashMap<(usize, Option<String>), Vec<String>>,
    groups: Vec<Vec<String>>,
}

impl Drain {
    /// The group of a message.
    pub(crate) fn observe(&mut self, message: &str) -> usize {
        let words: Vec<String> = message
            .split_whitespace()
            .map(|word| if word.contains(|c: char| c.is_ascii_digit()) { WILDCARD } else { word })
            .map(str::to_owned)
            .collect();
        let first = self.child((words.len(), None), words.first());
        let second = self.child((words.len(), Some(first.clone())), words.get(1));
        let leaf = self.leaves.entry((words.len(), [first, second])).or_default();
        let similarity = |group: &[String]| {
            let same = group.iter().zip(&words).filter(|(one, other)| one == other).count();
            same as f64 / words.len().max(1) as f64
        };
        let best = leaf
            .iter()
            .map(|&group| (similarity(&self.groups[group]), group))
            .max_by(|one, other| one.0.total_cmp(&other.0));
        match best {
            Some((similarity, group)) if similarity >= SIMILARITY => {
                for (known, word) in self.groups[group].iter_mut().zip(words) {
                    if *known != word {
                        WILDCARD.clone_into(known);
                    }
                }
                group
            }
            _ => {
                leaf.push(self.groups.len());
                self.groups.push(words);
                self.groups.len() - 1
            }
        }
    }

    /// The branch that a word takes; all words beyond the first hundred take one.
    fn child(&mut self, node: (usize, Option<String>), word: Option<&String>) -> String {
        let children = self.children.entry(node).or_default();
        let Some(word) = word else { return String::new() };
        if !children.contains(word) {
            if children.len() >= MAX_CHILDREN {
                return WILDCARD.to_owned();
            }
            children.push(word.clone());
        }
        word.clone()
    }
}

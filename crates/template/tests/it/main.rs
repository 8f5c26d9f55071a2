//! The miner as users meet it: over whole logs.

#[path = "../../corpus/corpus.rs"]
mod corpus;

mod accuracy;
mod identity;
mod templates;

//! The demonstration: an online shop of eight services, with an incident in the middle.

pub(crate) mod alarm;
mod incident;
pub(crate) mod otlp;
pub mod shop;
mod tally;

pub(crate) use incident::Incident;
pub(crate) use tally::Tally;

//! Laws, small worlds explored to the last state, hostile bytes, clients.

mod bytes;
mod clients;
mod explore;
mod laws;
mod models;
mod retirement;
mod world;

//! Real clients against real ports: HTTP, psql and psycopg over tables of events.

mod logs;
mod serving;
mod sql;
mod tail;
mod wire;

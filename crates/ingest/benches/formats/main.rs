//! How fast events of each format come in: decoded alone, and stored durably by a server.
//!
//! `cargo bench -p thalweg-ingest --bench formats`; a filter such as `ndjson` as first argument
//! takes the formats whose name contains it. `BENCH_SERVER` names the server; without it, and
//! beside general JSON parsers, decoding is measured alone.

mod bodies;
mod decode;
mod durable;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = || std::env::args().skip(1);
    // `cargo bench` passes `--bench`; `cargo test --benches` does not, and measures nothing.
    if !arguments().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let filter = arguments().find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let mut cases = bodies::cases();
    cases.retain(|case| case.name.contains(&filter));
    match std::env::var_os("BENCH_SERVER") {
        Some(binary) => durable::measure(&cases, binary.as_ref()),
        None => {
            decode::measure(&cases);
            Ok(())
        }
    }
}

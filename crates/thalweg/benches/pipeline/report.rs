//! The lines that `make bench` prints.

use std::{path::Path, time::Duration};

use crate::load::Workload;

pub(crate) fn machine(workload: &Workload) {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{} × {}", cores, model.map_or("unknown CPU", |(_, name)| name.trim()));
    let (events, bytes) = (workload.events(), workload.bytes());
    println!(
        "{events} events, {:.2} GB of NDJSON, {:.0} bytes each\n",
        bytes as f64 / 1e9,
        bytes as f64 / events as f64
    );
}

pub(crate) fn rate(name: &str, workload: &Workload, elapsed: Duration) {
    let secs = elapsed.as_secs_f64();
    let (events, megabytes) =
        (workload.events() as f64 / secs, workload.bytes() as f64 / 1e6 / secs);
    println!("{name:<44} {:>8.1} s  {:>10.0} events/s  {megabytes:>7.0} MB/s", secs, events);
}

/// How fast the measured time was beside the reference's.
pub(crate) fn ratio(name: &str, reference: Duration, measured: Duration) {
    println!("{name:<44} {:>8.0} %", 100.0 * reference.as_secs_f64() / measured.as_secs_f64());
}

/// How `times`, of so many `of`, are distributed.
pub(crate) fn latencies(name: &str, times: &[Duration], of: &str) {
    let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times.get(((times.len() - 1) as f64 * share) as usize).copied().unwrap_or(f64::NAN)
    };
    println!(
        "{name:<44} {:>8.0} ms p50  {:.0} ms p99  {:.0} ms max  ({} {of})",
        at(0.5),
        at(0.99),
        at(1.0),
        times.len()
    );
}

/// Bytes of the Delta table and of the log per byte sent.
pub(crate) fn stored(workload: &Workload, data: &Path) -> anyhow::Result<()> {
    let per_byte = |bytes: u64| bytes as f64 / workload.bytes() as f64;
    let lake = live_bytes(&data.join("lake/logs"))?;
    println!(
        "{:<44} {:>8.3}  ({:.1} bytes per event)",
        "bytes in the Delta table per byte sent",
        per_byte(lake),
        lake as f64 / workload.events() as f64
    );
    println!(
        "{:<44} {:>8.3}  (until retention removes it)",
        "bytes in the log per byte sent",
        per_byte(disk_bytes(&data.join("log"))?)
    );
    Ok(())
}

pub(crate) fn memory(bytes: u64) {
    println!(
        "{:<44} {:>8.0} MiB",
        "peak resident memory of the server so far",
        bytes as f64 / f64::from(1 << 20)
    );
}

/// Bytes of the files that the newest version of the Delta table names.
fn live_bytes(table: &Path) -> anyhow::Result<u64> {
    let files = crate::questions::live_files(table)?;
    files.iter().map(|file| Ok(std::fs::metadata(file)?.len())).sum()
}

pub(crate) fn disk_bytes(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

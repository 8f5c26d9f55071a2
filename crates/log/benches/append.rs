//! Append throughput of one partition beside the raw disk, and of many small senders.
//!
//! `cargo bench -p thalweg-log`; `THALWEG_BENCH_DIR` chooses the disk (default: the system's
//! temporary directory).

use std::{
    env,
    fs::{self, File},
    io::Write,
    path::Path,
    sync::Arc,
    time::Instant,
};

use arrow::{
    array::{
        ArrayRef, Float64Array, Int8Array, Int64Array, RecordBatch, StringArray,
        StringDictionaryBuilder, TimestampMicrosecondArray,
    },
    datatypes::Int32Type,
    ipc::{CompressionType, writer::IpcWriteOptions, writer::StreamEncoder},
};
use futures::{StreamExt, stream};
use thalweg_log::{EmbeddedLog, Log, LogConfig, TopicConfig, TopicPartition};

const ROWS: usize = 4_096;
const BATCHES: usize = 250;
const WORDS: [&str; 12] = [
    "payment",
    "declined",
    "order",
    "user",
    "retrying",
    "connection",
    "timeout",
    "upstream",
    "completed",
    "request",
    "served",
    "cache",
];

fn main() {
    let parent = env::var_os("THALWEG_BENCH_DIR").map_or_else(env::temp_dir, Into::into);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let batch = events(ROWS);
    encodings(&batch);
    for senders in [1, 4] {
        runtime.block_on(large_batches(&parent, &batch, senders));
    }
    for senders in [1, 16, 256] {
        runtime.block_on(small_appends(&parent, senders));
    }
}

/// Log-like events of about 250 bytes of text: random ids, few services, messages from a
/// vocabulary.
fn events(rows: usize) -> RecordBatch {
    let mut random = fastrand::Rng::with_seed(7);
    let micros = |i: usize| 1_790_000_000_000_000 + 37 * i as i64;
    let texts = |text: &mut dyn FnMut() -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values((0..rows).map(|_| text())))
    };
    let few = |random: &mut fastrand::Rng, prefix: &str, count: usize| -> ArrayRef {
        let mut values = StringDictionaryBuilder::<Int32Type>::new();
        (0..rows).for_each(|_| values.append_value(format!("{prefix}-{}", random.usize(..count))));
        Arc::new(values.finish())
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "timestamp",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values((0..rows).map(micros))
                    .with_timezone("UTC"),
            ),
        ),
        (
            "time_unix_nano",
            Arc::new(Int64Array::from_iter_values((0..rows).map(|i| micros(i) * 1000))),
        ),
        (
            "event_id",
            texts(&mut || {
                format!("018f0a1b-1234-7{:03x}-{:016x}", random.u16(..4096), random.u64(..))
            }),
        ),
        (
            "message",
            texts(&mut || {
                let words: Vec<_> = (0..8).map(|_| WORDS[random.usize(..WORDS.len())]).collect();
                format!("{} {}", words.join(" "), random.u32(..))
            }),
        ),
        ("trace_id", texts(&mut || format!("{:032x}", random.u128(..)))),
        ("span_id", texts(&mut || format!("{:016x}", random.u64(..)))),
        ("http_path", texts(&mut || format!("/api/v1/orders/{}", random.u32(..100_000)))),
        (
            "attributes",
            texts(&mut || {
                format!(r#"{{"user_id":"u-{}","region":"eu-west-1"}}"#, random.u32(..100_000))
            }),
        ),
        ("service", few(&mut random, "service", 20)),
        ("level", few(&mut random, "level", 5)),
        ("host", few(&mut random, "host", 50)),
        (
            "severity_number",
            Arc::new(Int8Array::from_iter_values((0..rows).map(|_| random.i8(1..24)))),
        ),
        (
            "duration_ms",
            Arc::new(Float64Array::from_iter_values((0..rows).map(|_| random.f64() * 100.0))),
        ),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of equal length")
}

/// What the choice of LZ4 over the whole stream rests on.
fn encodings(batch: &RecordBatch) {
    let stream = |compression| {
        let options =
            IpcWriteOptions::default().try_with_compression(compression).expect("a codec");
        let mut encoder =
            StreamEncoder::try_new_with_options(batch.schema_ref(), options).expect("a schema");
        let buffers = encoder.encode(batch).expect("a batch");
        let mut stream = Vec::with_capacity(buffers.iter().map(|buffer| buffer.len()).sum());
        buffers.iter().for_each(|buffer| stream.extend_from_slice(buffer));
        stream
    };
    let measure = |name: &str, encode: &dyn Fn() -> Vec<u8>| {
        let started = Instant::now();
        let times = 50;
        let bytes = (0..times).map(|_| encode().len()).max().unwrap_or(0);
        let rows_per_second = (ROWS * times) as f64 / started.elapsed().as_secs_f64();
        println!(
            "encode {name:<22} {:>5} bytes/row {:>7.2} M rows/s on one core",
            bytes / ROWS,
            rows_per_second / 1e6
        );
    };
    measure("uncompressed", &|| stream(None));
    measure("LZ4 of the stream", &|| lz4_flex::block::compress(&stream(None)));
    measure("zstd 1 of the stream", &|| {
        zstd::bulk::compress(&stream(None), 1).expect("compresses")
    });
    for (name, codec) in [
        ("LZ4 per buffer (IPC)", CompressionType::LZ4_FRAME),
        ("zstd per buffer (IPC)", CompressionType::ZSTD),
    ] {
        measure(name, &|| stream(Some(codec)));
    }
}

fn open(directory: &Path) -> EmbeddedLog {
    let topics = vec![TopicConfig::new("logs", 1)];
    EmbeddedLog::open(LogConfig { directory: directory.into(), topics, ..Default::default() })
        .expect("opens")
        .0
}

async fn large_batches(parent: &Path, batch: &RecordBatch, senders: usize) {
    let directory = tempfile::tempdir_in(parent).expect("a directory");
    let log = open(directory.path());
    let cpu = cpu_seconds();
    let started = Instant::now();
    stream::iter(0..BATCHES)
        .for_each_concurrent(senders, async |_| {
            log.append(TopicPartition::new("logs", 0), batch.clone()).await.expect("appends");
        })
        .await;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    let rows = (ROWS * BATCHES) as f64;
    let bytes = segment_bytes(directory.path());
    let raw = raw_write(parent, bytes, bytes.div_ceil(BATCHES as u64) * senders as u64);
    println!(
        "append {ROWS} rows, {senders} sender(s): {:.2} M rows/s, {:.2} M rows per CPU second, {:.0} MB/s on disk; \
         raw write + fdatasync of the same bytes takes {:.2} of the time",
        rows / seconds / 1e6,
        rows / cpu / 1e6,
        bytes as f64 / seconds / 1e6,
        raw / seconds
    );
}

async fn small_appends(parent: &Path, senders: usize) {
    let directory = tempfile::tempdir_in(parent).expect("a directory");
    let log = open(directory.path());
    let batch = events(1);
    let appends = 40 * senders;
    let started = Instant::now();
    stream::iter(0..appends)
        .for_each_concurrent(senders, async |_| {
            log.append(TopicPartition::new("logs", 0), batch.clone()).await.expect("appends");
        })
        .await;
    let seconds = started.elapsed().as_secs_f64();
    let raw = raw_write(parent, 4_096 * appends as u64, 4_096);
    println!(
        "append 1 row, {senders} sender(s): {:.0} appends/s, {:.2} times what one fdatasync each allows",
        appends as f64 / seconds,
        raw / seconds
    );
}

/// Seconds to write `bytes` with a `fdatasync` for each `group` bytes.
fn raw_write(parent: &Path, bytes: u64, group: u64) -> f64 {
    let mut file: File = tempfile::tempfile_in(parent).expect("a file");
    let block = vec![0x5a; group as usize];
    let started = Instant::now();
    for _ in 0..bytes.div_ceil(group) {
        file.write_all(&block).and_then(|()| file.sync_data()).expect("writes");
    }
    started.elapsed().as_secs_f64()
}

fn segment_bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory.join("logs/0")).expect("a partition");
    files
        .map(|file| file.and_then(|file| file.metadata()).map_or(0, |metadata| metadata.len()))
        .sum()
}

/// CPU time of this process so far (user and system), from `/proc/self/stat`; 100 ticks a second.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

//! `thalweg doctor`: is this machine, and the server on it, in order?

use std::{
    io::Write as _,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{cli::ConfigArgs, client::Client, config::Config};

/// Free space under which the log may soon refuse appends.
const LOW_SPACE_BYTES: u64 = 5 << 30;
/// An fsync slower than this bounds acknowledgements noticeably.
const SLOW_FSYNC: Duration = Duration::from_millis(20);
/// Open files a busy server may need.
const ENOUGH_FILES: u64 = 4096;
/// Number of fsyncs measured.
const FSYNCS: usize = 20;

/// What an examination found.
enum Finding {
    Good(String),
    /// Works, but someone should know.
    Warning(String),
}

pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args);
    let data_dir = config.as_ref().map(|config| config.data_dir.clone()).unwrap_or_default();
    let http = config.as_ref().ok().map(|config| (config.listen.http.0, config.tls.is_some()));
    let examinations: [(&str, anyhow::Result<Finding>); 6] = [
        ("configuration", config.map(|_| Finding::Good("ok".into()))),
        ("data directory", writable(&data_dir)),
        ("free space", free_space(&data_dir)),
        ("fsync", fsync_time(&data_dir)),
        ("open files", open_files()),
        ("server", super::block_on(server(http))?),
    ];
    let mut is_well = true;
    for (name, finding) in examinations {
        let (mark, text) = match finding {
            Ok(Finding::Good(text)) => ("ok  ", text),
            Ok(Finding::Warning(text)) => ("warn", text),
            Err(error) => {
                is_well = false;
                ("FAIL", format!("{error:#}"))
            }
        };
        println!("{mark}  {name:<15} {text}");
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn writable(directory: &Path) -> anyhow::Result<Finding> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("{} cannot be created", directory.display()))?;
    tempfile::tempfile_in(directory)
        .with_context(|| format!("{} is not writable", directory.display()))?;
    Ok(Finding::Good(format!("{} is writable", directory.display())))
}

fn free_space(directory: &Path) -> anyhow::Result<Finding> {
    let stat = rustix::fs::statvfs(directory)
        .with_context(|| format!("{} cannot be examined", directory.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let text = format!("{:.1} GiB", free as f64 / f64::from(1 << 30));
    Ok(if free < LOW_SPACE_BYTES {
        Finding::Warning(format!("{text}; when none is left, events are refused with 503"))
    } else {
        Finding::Good(text)
    })
}

/// Median time of small durable writes: the floor of every acknowledgement.
fn fsync_time(directory: &Path) -> anyhow::Result<Finding> {
    let mut file = tempfile::tempfile_in(directory)?;
    let mut times = Vec::with_capacity(FSYNCS);
    for _ in 0..FSYNCS {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort();
    let median = times[FSYNCS / 2];
    let text = format!("{:.2} ms for 4 KiB (median of {FSYNCS})", median.as_secs_f64() * 1e3);
    Ok(if median > SLOW_FSYNC {
        Finding::Warning(text + "; acknowledgements wait for it")
    } else {
        Finding::Good(text)
    })
}

fn open_files() -> anyhow::Result<Finding> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Ok(match limit {
        Some(limit) if limit < ENOUGH_FILES => Finding::Warning(format!(
            "limit {limit}; raise it to {ENOUGH_FILES} (ulimit -n) for many clients"
        )),
        Some(limit) => Finding::Good(format!("limit {limit}")),
        None => Finding::Good("no limit".into()),
    })
}

async fn server(http: Option<(SocketAddr, bool)>) -> anyhow::Result<Finding> {
    let Some((address, is_encrypted)) = http else {
        return Ok(Finding::Warning("the configuration does not say where".into()));
    };
    if is_encrypted {
        // Whether its certificate is right is for those to say who reach it by its name.
        let connected = tokio::net::TcpStream::connect(address).await;
        return Ok(match connected {
            Ok(_) => Finding::Good(format!("listens on {address}, with TLS")),
            Err(_) => Finding::Warning(format!("none listens on {address}")),
        });
    }
    let client = Client::local(address)?;
    if client.get("/healthz", &[]).await.is_err() {
        return Ok(Finding::Warning(format!("none answers at {address}")));
    }
    client.get("/readyz", &[]).await.with_context(|| format!("{address} is not ready"))?;
    Ok(Finding::Good(format!("{address} is ready")))
}

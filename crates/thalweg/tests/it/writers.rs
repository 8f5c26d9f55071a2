//! Clients that write through faults, and what must be true of the table afterwards.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Runtime, task::JoinHandle};

use crate::server::Server;

/// A view that counts what writers write; its windows close, and are delivered, while they do.
pub(crate) const VIEW: &str = "views=[{name: by_second, lateness_secs: 3, idle_secs: 1, query: \
    \"SELECT service, count(*) AS events FROM logs GROUP BY tumble('1 second'), service\"}]";
/// Longest that the view may take to catch up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers its events, sends them in batches, and repeats a batch until it is acknowledged.
pub(crate) struct Writer {
    number: usize,
    next_event: usize,
    unanswered: Option<(String, Vec<String>)>,
    pub(crate) acknowledged: Vec<String>,
}

impl Writer {
    /// The first of `count` writers and those after it.
    pub(crate) fn some(count: usize) -> Vec<Self> {
        let writer =
            |number| Self { number, next_event: 0, unanswered: None, acknowledged: Vec::new() };
        (0..count).map(writer).collect()
    }

    /// Writes until told to stop or until the server is gone.
    pub(crate) async fn write(&mut self, url: &str, stop: &AtomicBool) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        while !stop.load(Ordering::Relaxed) {
            let (body, ids) = self.unanswered.take().unwrap_or_else(|| self.batch());
            let request = http.post(format!("{url}/api/v1/logs?format=ndjson")).body(body.clone());
            let answer = request.timeout(Duration::from_secs(10)).send().await;
            match answer {
                Ok(answer) if answer.status() == 200 => self.acknowledged.extend(ids),
                answer => {
                    self.unanswered = Some((body, ids));
                    if answer.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn batch(&mut self) -> (String, Vec<String>) {
        let size = fastrand::usize(1..60);
        let ids: Vec<String> = (self.next_event..self.next_event + size)
            .map(|n| format!("w{}-{n}", self.number))
            .collect();
        self.next_event += size;
        let line = |id: &String| {
            let level = if fastrand::u8(..) < 50 { "ERROR" } else { "INFO" };
            format!(
                r#"{{"service":"writer-{}","level":"{level}","message":"event {id}","event_id":"{id}"}}"#,
                self.number
            )
        };
        (ids.iter().map(|id| line(id) + "\n").collect(), ids)
    }
}

/// Lets writers write to `server` while `fault` is worked, which ends with the server.
pub(crate) fn write_while(
    runtime: &Runtime,
    writers: &mut Vec<Writer>,
    server: Server,
    fault: impl FnOnce(Server),
) {
    let writing = Writing::begin(runtime, std::mem::take(writers), &server);
    fault(server);
    *writers = writing.end(runtime);
}

/// Writers at work.
pub(crate) struct Writing {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Writer>>,
}

impl Writing {
    pub(crate) fn begin(runtime: &Runtime, writers: Vec<Writer>, server: &Server) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = writers.into_iter().map(|mut writer| {
            let (url, stop) = (server.http.clone(), Arc::clone(&stop));
            runtime.spawn(async move {
                writer.write(&url, &stop).await;
                writer
            })
        });
        Self { tasks: tasks.collect(), stop }
    }

    pub(crate) fn end(self, runtime: &Runtime) -> Vec<Writer> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.into_iter().map(|task| runtime.block_on(task).unwrap()).collect()
    }
}

/// Events that were acknowledged so far.
pub(crate) fn acknowledged(writers: &[Writer]) -> usize {
    writers.iter().map(|writer| writer.acknowledged.len()).sum()
}

/// Every acknowledged event, which are more than `at_least`, is in the table exactly once, and
/// nothing else that was not sent.
pub(crate) fn each_event_is_there_once(server: &Server, writers: &[Writer], at_least: usize) {
    let count = server.sql("SELECT count(*) FROM logs")[0].parse::<usize>().unwrap();
    let mut found: HashMap<String, usize> = HashMap::new();
    for writer in 0..writers.len() {
        for part in 0..16 {
            // An answer has a row limit; the ids are asked for in parts.
            let sql = format!(
                "SELECT event_id FROM logs WHERE service = 'writer-{writer}' \
                 AND CAST(split_part(event_id, '-', 2) AS BIGINT) % 16 = {part}"
            );
            for id in server.sql(&sql) {
                *found.entry(id).or_default() += 1;
            }
        }
    }
    assert_eq!(found.values().sum::<usize>(), count);
    let acknowledged: HashSet<&String> =
        writers.iter().flat_map(|writer| &writer.acknowledged).collect();
    assert!(acknowledged.len() > at_least, "the writers hardly wrote: {}", acknowledged.len());
    let missing: Vec<_> = acknowledged.iter().filter(|id| !found.contains_key(**id)).collect();
    let repeated: Vec<_> = found.iter().filter(|(_, times)| **times > 1).collect();
    assert!(
        missing.is_empty() && repeated.is_empty(),
        "missing {missing:?}, repeated {repeated:?}"
    );
    // What was found beyond the acknowledged are batches whose answer a kill cut off.
    let unanswered: HashSet<&String> = writers
        .iter()
        .filter_map(|writer| Some(&writer.unanswered.as_ref()?.1))
        .flatten()
        .collect();
    assert!(found.keys().all(|id| acknowledged.contains(id) || unanswered.contains(id)));
}

/// Also of windows that closed between kills, and through deliveries that kills cut off: in the
/// view or, where a busy machine kept them for seconds between arrival and log, among the late.
pub(crate) fn views_counted_each_event_once(server: &Server) {
    let batch = server.sql("SELECT service, count(*) FROM logs GROUP BY 1 ORDER BY 1");
    let counted = "SELECT service, sum(events) FROM ( \
            SELECT service, events FROM by_second UNION ALL \
            SELECT event->>'service', 1 FROM late_events WHERE view = 'by_second') \
        GROUP BY 1 ORDER BY 1";
    let start = Instant::now();
    loop {
        let found = server.sql(counted);
        if found == batch {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{found:?} in the view or late, {batch:?} in all");
        std::thread::sleep(Duration::from_millis(200));
    }
    let closed = server.sql("SELECT count(*) FROM by_second WHERE is_final");
    assert_ne!(closed, ["0"], "no window closed while the kills went on");
}

//! What is answered to a bulk request, operation by operation.

use std::{io, time::Duration};

use arrow::array::AsArray as _;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header::CONTENT_TYPE};
use thalweg_event::json;
use tokio::sync::mpsc;

use crate::{
    decode::elasticsearch::items::{Item, Kind},
    pipeline::Stored,
};

/// Written at a time: an answer grows with its request, and need not be in memory as a whole.
const CHUNK_BYTES: usize = 64 << 10;

/// Longest that a client may take to read a chunk; then the connection is given up, and the
/// request's share of memory with it.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What of the answer the client wants (`filter_path`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filter {
    took: bool,
    errors: bool,
    index: bool,
    id: bool,
    result: bool,
    status: bool,
    error: bool,
}

impl Filter {
    /// Reads patterns such as `errors,items.*.status`; the action and what is within errors is
    /// not told apart. Without patterns, or with those that exclude, everything is wanted.
    pub(super) fn parse(filter_path: Option<&str>) -> Self {
        let patterns = filter_path.unwrap_or_default();
        let is_all = patterns.is_empty() || patterns.split(',').any(|part| part.starts_with('-'));
        let wants = |path: &[&str]| {
            is_all || patterns.split(',').any(|pattern| matches(pattern.trim(), path))
        };
        Self {
            took: wants(&["took"]),
            errors: wants(&["errors"]),
            index: wants(&["items", "*", "_index"]),
            id: wants(&["items", "*", "_id"]),
            result: wants(&["items", "*", "result"]),
            status: wants(&["items", "*", "status"]),
            error: wants(&["items", "*", "error"]),
        }
    }

    fn wants_items(self) -> bool {
        self.index || self.id || self.result || self.status || self.error
    }
}

/// Whether `pattern` covers `path`, where `*` stands for any name.
fn matches(pattern: &str, path: &[&str]) -> bool {
    let mut names = pattern.split('.');
    for name in path {
        let matches = match names.next() {
            None | Some("**") => return true,
            Some(pattern) => match pattern.split_once('*') {
                Some((start, _)) => name.starts_with(start),
                None => pattern == *name || *name == "*",
            },
        };
        if !matches {
            return false;
        }
    }
    true
}

/// The answer to a bulk request whose events are durable.
pub(super) struct BulkAnswer {
    stored: Stored,
    filter: Filter,
    took: Duration,
    /// The next operation, and how many good ones were before it.
    next: usize,
    good: usize,
    /// Of those before, how many faults were spelled out.
    faults: usize,
    is_begun: bool,
    has_item: bool,
    is_done: bool,
}

impl BulkAnswer {
    pub(super) fn new(stored: Stored, filter: Filter, took: Duration) -> Self {
        Self {
            stored,
            filter,
            took,
            next: 0,
            good: 0,
            faults: 0,
            is_begun: false,
            has_item: false,
            is_done: false,
        }
    }

    /// The next part of the answer, some [`CHUNK_BYTES`] long.
    fn next_chunk(&mut self) -> Option<Bytes> {
        if self.is_done {
            return None;
        }
        let mut out = Vec::new();
        if !self.is_begun {
            self.write_head(&mut out);
            self.is_begun = true;
        }
        while out.len() < CHUNK_BYTES {
            if !self.write_item(&mut out) {
                out.extend_from_slice(if self.filter.wants_items() { b"]}" } else { b"}" });
                self.is_done = true;
                break;
            }
        }
        Some(out.into())
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        if self.filter.errors {
            json::write_key(out, "errors");
            out.extend_from_slice((self.stored.accepted.rejected > 0).to_string().as_bytes());
        }
        if self.filter.took {
            json::write_key(out, "took");
            json::write_i64(out, i64::try_from(self.took.as_millis()).unwrap_or(i64::MAX));
        }
        if self.filter.wants_items() {
            json::write_key(out, "items");
            out.push(b'[');
        }
    }

    /// Writes the next operation; `false` when there is none.
    fn write_item(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(item) = self.stored.bulk.items.get(self.next) else { return false };
        let faults = &self.stored.accepted.faults;
        let fault = faults.get(self.faults).filter(|(index, _)| *index == self.next);
        let before = out.len();
        if self.has_item {
            out.push(b',');
        }
        out.push(b'{');
        json::write_key(out, item.kind.name());
        out.push(b'{');
        let start = out.len();
        let ids = self.stored.bulk.event_ids.as_ref().map(|ids| ids.as_string::<i32>());
        let made_id = ids.filter(|_| item.is_good).map(|ids| ids.value(self.good));
        let reason = fault.map(|(_, fault)| &*fault.0);
        self.filter.write_members(&item, made_id, reason, out);
        let is_empty = out.len() == start;
        out.extend_from_slice(b"}}");

        self.next += 1;
        self.good += usize::from(item.is_good);
        self.faults += usize::from(fault.is_some());
        if is_empty {
            out.truncate(before);
        } else {
            self.has_item = true;
        }
        true
    }
}

impl Filter {
    fn write_members(
        self,
        item: &Item<'_>,
        made_id: Option<&str>,
        reason: Option<&str>,
        out: &mut Vec<u8>,
    ) {
        let text = |out: &mut Vec<u8>, key: &str, value: &str| {
            json::write_key(out, key);
            json::write_string(out, value);
        };
        if self.index {
            text(out, "_index", item.index);
        }
        if let (true, Some(id)) = (self.id, item.id.or(made_id)) {
            text(out, "_id", id);
        }
        if self.result && item.is_good {
            text(out, "result", "created");
        }
        if self.status {
            json::write_key(out, "status");
            json::write_i64(out, if item.is_good { 201 } else { 400 });
        }
        if self.error && !item.is_good {
            let kind = match item.kind {
                Kind::Create | Kind::Index => "document_parsing_exception",
                Kind::Update | Kind::Delete => "illegal_argument_exception",
            };
            json::write_key(out, "error");
            out.push(b'{');
            text(out, "type", kind);
            text(out, "reason", reason.unwrap_or("see table `rejected`"));
            out.push(b'}');
        }
    }
}

impl IntoResponse for BulkAnswer {
    fn into_response(mut self) -> Response {
        let first = self.next_chunk().unwrap_or_default();
        let body = if self.is_done { Body::from(first) } else { self.stream(first) };
        let json = HeaderValue::from_static("application/json");
        ([(CONTENT_TYPE, json)], body).into_response()
    }
}

impl BulkAnswer {
    /// The body that begins with `first`, made as fast as the client reads it.
    fn stream(mut self, first: Bytes) -> Body {
        // `None` is the end: a channel that closes without it was given up.
        let (sender, receiver) = mpsc::channel::<Option<Bytes>>(1);
        tokio::spawn(async move {
            let mut chunk = Some(first);
            loop {
                let is_last = chunk.is_none();
                let sent = sender.send_timeout(chunk, READ_TIMEOUT).await;
                if is_last || sent.is_err() {
                    break;
                }
                chunk = self.next_chunk();
            }
        });
        Body::from_stream(stream::unfold(Some(receiver), async |receiver| {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(Some(chunk)) => Some((Ok(chunk), Some(receiver))),
                Some(None) => None,
                None => Some((Err(io::Error::from(io::ErrorKind::TimedOut)), None)),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::{
        admission::{Admission, AdmissionConfig},
        decode::elasticsearch::items::Items,
        pipeline::{Accepted, Bulk},
        sender::Sender,
    };

    const OPERATIONS: usize = 10_000;

    fn anyone() -> Sender {
        Sender::anyone([127, 0, 0, 1].into())
    }

    /// A long answer, and the admission of which it holds the only place.
    fn long_answer() -> (Response, Arc<Admission>) {
        let limits = AdmissionConfig { max_requests: 1, ..AdmissionConfig::default() };
        let admission = Arc::new(Admission::new(limits));
        let mut items = Items::default();
        for number in 0..OPERATIONS {
            items.push(Kind::Index, Some("logs"), Some(&number.to_string()), false);
        }
        let stored = Stored {
            accepted: Accepted { rejected: OPERATIONS, ..Accepted::default() },
            bulk: Bulk { items, event_ids: None },
            _permit: admission.enter(&anyone(), Some(0)).unwrap(),
        };
        let answer = BulkAnswer::new(stored, Filter::parse(None), Duration::ZERO);
        (answer.into_response(), admission)
    }

    async fn is_free(admission: &Arc<Admission>) {
        while admission.enter(&anyone(), Some(0)).is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_long_answer_holds_its_share_of_memory_until_it_is_read() {
        let (response, admission) = long_answer();
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(admission.enter(&anyone(), Some(0)).is_err());
        let answer = response.into_body().collect().await.unwrap().to_bytes();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let items = answer["items"].as_array().unwrap();
        assert_eq!((items.len(), &items[7]["index"]["_id"]), (OPERATIONS, &"7".into()));
        is_free(&admission).await;
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_any_more_gives_its_share_back() {
        let (response, admission) = long_answer();
        drop(response);
        is_free(&admission).await;
    }

    #[test]
    fn a_filter_takes_what_its_patterns_name() {
        let all = Filter::parse(None);
        assert!(all.took && all.errors && all.index && all.id && all.result && all.status);
        assert_eq!(Filter::parse(Some("-items.*.error")), all);
        assert_eq!(Filter::parse(Some("**")), all);
        // Logstash, Filebeat, and OpenTelemetry's exporter.
        for patterns in [
            "errors,items.*.error,items.*.status",
            "errors,items.index.status,items.index.error,items.create.status,items.create.error",
            "errors,items.*.status,items.*.error.type,items.*.error.reason",
        ] {
            let filter = Filter::parse(Some(patterns));
            assert!(filter.errors && filter.status && filter.error, "{patterns}");
            assert!(!filter.took && !filter.index && !filter.id && !filter.result, "{patterns}");
        }
        let none = Filter::parse(Some("took"));
        assert!(none.took && !none.wants_items());
    }
}

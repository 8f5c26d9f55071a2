//! Who asked what, and what came of it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use metrics::{counter, gauge};
use tokio::sync::mpsc;

use crate::{meters, principal::Principal};

/// Entries that wait to be written; beyond it they are lost, which is counted and said.
const QUEUE: usize = 4096;
/// What is kept of a statement, bytes; queue and statements bound the memory together.
const MAX_STATEMENT_BYTES: usize = 8 << 10;

/// Who asks, how, and from where.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Who.
    pub principal: Arc<Principal>,
    /// How: `http` or `postgres`.
    pub protocol: &'static str,
    /// From where; nowhere for the server itself.
    pub address: Option<SocketAddr>,
}

/// One line of the audit log.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// When it was asked.
    pub at: SystemTime,
    /// Who asked.
    pub asker: Asker,
    /// What was asked: SQL, or the path and query of a request.
    pub statement: String,
    /// What came of it: `ok`, or how it failed.
    pub outcome: &'static str,
    /// Rows that were handed over.
    pub rows: u64,
    /// Time until the last of them.
    pub elapsed: Duration,
}

/// Where the entries of the audit log are left; never waits.
#[derive(Debug, Clone)]
pub struct Audit(Option<mpsc::Sender<AuditEntry>>);

/// Something asked whose outcome is not known yet; its entry is left when this is dropped.
#[derive(Debug)]
pub struct Record {
    audit: Audit,
    started: Instant,
    entry: Option<AuditEntry>,
}

impl Audit {
    /// An audit log, and the entries for whoever writes it.
    pub fn new() -> (Self, mpsc::Receiver<AuditEntry>) {
        gauge!(meters::AUDIT_QUEUE_LIMIT).set(QUEUE as f64);
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(Some(sender)), receiver)
    }

    /// No audit log.
    pub fn none() -> Self {
        Self(None)
    }

    /// Begins the entry of `statement`, which is taken for `invalid` until an outcome is set.
    pub fn begin(&self, asker: &Asker, statement: &str) -> Record {
        let entry = self.0.is_some().then(|| {
            let mut end = statement.len().min(MAX_STATEMENT_BYTES);
            while !statement.is_char_boundary(end) {
                end -= 1;
            }
            let ellipsis = if end < statement.len() { "…" } else { "" };
            AuditEntry {
                at: SystemTime::now(),
                asker: asker.clone(),
                statement: format!("{}{ellipsis}", &statement[..end]),
                outcome: "invalid",
                rows: 0,
                elapsed: Duration::ZERO,
            }
        });
        Record { audit: self.clone(), started: Instant::now(), entry }
    }

    fn leave(&self, entry: AuditEntry) {
        let Some(sender) = &self.0 else { return };
        if let Err(refused) = sender.try_send(entry) {
            counter!(meters::AUDIT_LOST).increment(1);
            let entry = refused.into_inner();
            tracing::warn!(
                principal = entry.asker.principal.name(),
                statement = entry.statement,
                "the audit log's queue is full: this entry is lost"
            );
        }
        gauge!(meters::AUDIT_QUEUED).set((QUEUE - sender.capacity()) as f64);
    }
}

impl Record {
    /// Sets what came of it.
    pub fn set_outcome(&mut self, outcome: &'static str, rows: u64) {
        if let Some(entry) = &mut self.entry {
            (entry.outcome, entry.rows) = (outcome, rows);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            entry.elapsed = self.started.elapsed();
            self.audit.leave(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        Asker { principal: Principal::anyone(), protocol: "http", address: None }
    }

    #[test]
    fn an_entry_is_left_when_the_outcome_is_known() {
        let (audit, mut entries) = Audit::new();
        let mut record = audit.begin(&asker(), "SELECT 1");
        record.set_outcome("ok", 1);
        assert!(entries.try_recv().is_err());
        drop(record);
        let entry = entries.try_recv().unwrap();
        assert_eq!((&*entry.statement, entry.outcome, entry.rows), ("SELECT 1", "ok", 1));
    }

    #[test]
    fn a_full_queue_and_a_long_statement_cost_nobody_anything() {
        let (audit, mut entries) = Audit::new();
        let long = "ü".repeat(1 << 20);
        for _ in 0..QUEUE + 10 {
            drop(audit.begin(&asker(), &long));
        }
        assert!(entries.try_recv().unwrap().statement.len() < MAX_STATEMENT_BYTES + 10);
        assert_eq!(entries.len(), QUEUE - 1);
    }
}

//! What a connection keeps: prepared statements, and portals with their parameters.

use std::collections::VecDeque;

use datafusion_postgres::pgwire::api::DEFAULT_NAME;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::messages::PgWireFrontendMessage;
use datafusion_postgres::pgwire::messages::extendedquery::TARGET_TYPE_BYTE_STATEMENT;

/// Most prepared statements of a connection, and most portals.
const MAX_ENTRIES: usize = 256;
/// Most bytes of SQL that the statements of a connection have, and of parameters its portals.
const MAX_BYTES: usize = 4 << 20;

/// What a message that succeeds changes of what the connection keeps.
pub(super) enum Kept {
    Statement { name: String, bytes: usize },
    Portal { name: String, of_statement: String, bytes: usize },
    Executed { portal: String },
    Closed { name: String, is_statement: bool },
}

impl Kept {
    /// `None` when the message changes nothing.
    pub(super) fn of(message: &PgWireFrontendMessage) -> Option<Self> {
        let named = |name: &Option<String>| name.as_deref().unwrap_or(DEFAULT_NAME).to_owned();
        Some(match message {
            PgWireFrontendMessage::Parse(parse) => {
                Self::Statement { name: named(&parse.name), bytes: parse.query.len() }
            }
            PgWireFrontendMessage::Bind(bind) => Self::Portal {
                name: named(&bind.portal_name),
                of_statement: named(&bind.statement_name),
                bytes: bind.parameters.iter().flatten().map(|value| value.len()).sum(),
            },
            PgWireFrontendMessage::Execute(execute) => {
                Self::Executed { portal: named(&execute.name) }
            }
            PgWireFrontendMessage::Close(close) => Self::Closed {
                name: named(&close.name),
                is_statement: close.target_type == TARGET_TYPE_BYTE_STATEMENT,
            },
            _ => return None,
        })
    }
}

/// Keeps the books of a connection, so that it does not keep ever more.
///
/// At a limit the least recently used statement goes: most often one that its driver has done with
/// and deallocated by SQL, which changes nothing here. A client that uses it again is told that it
/// is not there (26000), which drivers know how to mend.
#[derive(Default)]
pub(super) struct Ledger {
    statements: Recent,
    portals: Recent,
}

impl Ledger {
    /// Notes what changed, and removes from `store` what is too much.
    pub(super) fn note<S>(&mut self, kept: Kept, store: &impl PortalStore<Statement = S>) {
        match kept {
            Kept::Statement { name, bytes } => {
                for gone in self.statements.keep(name, bytes) {
                    store.rm_statement(&gone);
                }
            }
            Kept::Portal { name, of_statement, bytes } => {
                self.statements.touch(&of_statement);
                for gone in self.portals.keep(name, bytes) {
                    store.rm_portal(&gone);
                }
            }
            Kept::Executed { portal } => self.portals.touch(&portal),
            Kept::Closed { name, is_statement: true } => self.statements.remove(&name),
            Kept::Closed { name, is_statement: false } => self.portals.remove(&name),
        }
    }
}

/// Names and sizes, the least recently used first.
#[derive(Default)]
struct Recent {
    entries: VecDeque<(String, usize)>,
    bytes: usize,
}

impl Recent {
    /// Adds an entry in the place of one of its name; names those that are too much now.
    fn keep(&mut self, name: String, bytes: usize) -> Vec<String> {
        self.remove(&name);
        self.entries.push_back((name, bytes));
        self.bytes += bytes;
        let mut gone = Vec::new();
        while (self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES)
            && self.entries.len() > 1
            && let Some((name, bytes)) = self.entries.pop_front()
        {
            self.bytes -= bytes;
            gone.push(name);
        }
        gone
    }

    fn touch(&mut self, name: &str) {
        if let Some(entry) = self.position(name).and_then(|at| self.entries.remove(at)) {
            self.entries.push_back(entry);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some((_, bytes)) = self.position(name).and_then(|at| self.entries.remove(at)) {
            self.bytes -= bytes;
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        // From the end: most messages are about the latest.
        self.entries.iter().rposition(|(known, _)| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut recent = Recent::default();
        for n in 0..MAX_ENTRIES {
            assert!(recent.keep(format!("s{n}"), 10).is_empty());
        }
        recent.touch("s0");
        assert!(recent.keep("s7".into(), 20).is_empty(), "it takes its own place");
        assert_eq!(recent.keep("new".into(), 1), ["s1"]);
        recent.remove("s2");
        assert!(recent.keep("newer".into(), 1).is_empty());
    }

    #[test]
    fn long_statements_leave_room_for_fewer() {
        let mut recent = Recent::default();
        for n in 0..4 {
            assert!(recent.keep(format!("s{n}"), 1 << 20).is_empty());
        }
        assert_eq!(recent.keep("s4".into(), 2 << 20), ["s0", "s1"]);
        assert_eq!(recent.keep("huge".into(), 5 << 20).len(), 3, "but never itself");
        assert_eq!(recent.entries.len(), 1);
    }
}

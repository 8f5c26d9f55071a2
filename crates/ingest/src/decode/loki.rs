//! Push requests of Grafana Loki, in JSON and protobuf.
//!
//! The line is the message. Labels of the stream and structured metadata become columns where
//! [`Place`] knows their name, and attributes otherwise. The service is label `service_name` or
//! `service`; where there is neither, the first label that Loki itself would take for one, which
//! stays an attribute as well.

pub(super) mod json;
mod labels;
pub(super) mod protobuf;

use std::borrow::Cow;

use thalweg_event::{AttributeValue, Fault, Row};

use super::{
    name_service,
    place::{Place, Taken},
    text::leading_severity,
};

/// Labels that name the service when none is called so, best first (Loki's default for
/// `discover_service_name`).
const SERVICE_LABELS: [&str; 12] = [
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

/// Name and value.
type Label<'t> = (Cow<'t, str>, Cow<'t, str>);

/// What all entries of a stream share.
#[derive(Default)]
struct Stream<'t> {
    labels: Vec<Label<'t>>,
    /// Tenant the request was for.
    tenant: Option<&'t str>,
}

impl Stream<'_> {
    /// Bytes that the labels take in each entry.
    fn bytes(&self) -> usize {
        let labels = self.labels.iter().map(|(name, value)| name.len() + value.len());
        labels.sum::<usize>() + self.tenant.map_or(0, str::len)
    }
}

/// One line of a stream being written.
struct Entry {
    taken: Taken,
}

impl Entry {
    fn begin(line: &str, row: &mut Row<'_, '_>) -> Self {
        row.message(line);
        let mut taken = Taken::default();
        // Labels are of many entries: none of them is the id, the time or the text of this one.
        for place in [Place::Message, Place::Time, Place::EventId] {
            taken.take(place);
        }
        Self { taken }
    }

    /// Writes a label or a piece of structured metadata.
    fn label(&mut self, name: &str, value: &str, row: &mut Row<'_, '_>) {
        let is_placed =
            Place::of(name).is_some_and(|place| self.taken.write_text(place, value, row));
        if !is_placed {
            row.plain_attribute(name, AttributeValue::Text(value));
        }
    }

    /// Writes what the entry shares with others, and what follows from the rest.
    fn finish(mut self, line: &str, stream: &Stream<'_>, row: &mut Row<'_, '_>) {
        for (name, value) in &stream.labels {
            self.label(name, value, row);
        }
        if let Some(tenant) = stream.tenant {
            row.plain_attribute("loki.tenant", AttributeValue::Text(tenant));
        }
        if let (false, Some(severity)) = (self.taken.has(Place::Severity), leading_severity(line)) {
            row.severity(severity);
        }
        let named = |service: &&str| {
            stream.labels.iter().find(|(name, value)| name == service && !value.is_empty())
        };
        let service = SERVICE_LABELS.iter().find_map(named).map(|(_, value)| &**value);
        name_service(row, service);
    }
}

/// The time of an entry, `nanos` since 1970; an error says what was `found` instead.
fn write_time(
    nanos: Option<i64>,
    found: impl FnOnce() -> String,
    row: &mut Row<'_, '_>,
) -> Result<(), Fault> {
    let nanos = nanos.filter(|nanos| *nanos >= 0).ok_or_else(|| {
        Fault::expected("timestamp", "nanoseconds from 1970 on, until 2262", &found())
    })?;
    row.time_unix_nano(nanos);
    Ok(())
}

#[cfg(test)]
mod tests;

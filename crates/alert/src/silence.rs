//! Alerts that nobody shall be told of for a while.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    error::AlertError,
    labels::{Labels, SERVICE, one_line},
    matcher::Matchers,
    name::Name,
    schedule::WeeklyWindow,
};

/// Most silences that were created by request and not forgotten yet.
const MAX_SILENCES: usize = 1_000;
/// Most conditions of one.
const MAX_MATCHERS: usize = 32;
/// Longest comment, bytes.
const MAX_COMMENT_BYTES: usize = 1_024;
/// How long a silence that is over is still shown.
const RETENTION: TimeDelta = TimeDelta::days(5);
/// How far ahead a silence may end: ten years.
const FARTHEST_END: TimeDelta = TimeDelta::days(3_653);

/// Alerts to be silent about every week at the same times.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecurringSilence {
    /// What the alerts that it silences say they are silenced by.
    pub name: Name,
    /// Conditions on the alerts' labels, all of which must hold.
    #[serde(rename = "match")]
    pub matchers: Matchers,
    /// When.
    pub windows: Vec<WeeklyWindow>,
}

/// A silence as it is asked for.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    /// Conditions on the alerts' labels, all of which must hold: `service="payment"`.
    #[schema(value_type = Vec<String>, example = json!(["service=\"payment\""]))]
    pub matchers: Matchers,
    /// When it begins; now when it is not said, or over.
    pub starts_at: Option<DateTime<Utc>>,
    /// When it ends, ten years from now at the latest.
    pub ends_at: DateTime<Utc>,
    /// Why.
    pub comment: String,
}

/// A silence that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Silence {
    /// What it is deleted by.
    pub id: Uuid,
    /// Conditions on the alerts' labels, all of which must hold.
    #[schema(value_type = Vec<String>)]
    pub matchers: Matchers,
    /// When it begins.
    pub starts_at: DateTime<Utc>,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
    /// Name of the token that asked for it.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

/// The silences that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Silences(BTreeMap<Uuid, Silence>);

impl Silence {
    /// Whether alerts are silenced by it at `now`.
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        (self.starts_at..self.ends_at).contains(&now)
    }

    /// The service that it is about, if it is about one.
    pub(crate) fn service(&self) -> Option<&str> {
        let mut exact = self.matchers.iter().filter_map(|matcher| matcher.exactly());
        exact.find(|(name, _)| *name == SERVICE).map(|(_, service)| service)
    }
}

impl Silences {
    /// Adds a silence.
    ///
    /// # Errors
    /// [`AlertError::Parameter`] when it would silence nothing or everything, or for ever, and
    /// [`AlertError::TooMany`].
    pub fn add(
        &mut self,
        new: NewSilence,
        created_by: &str,
        now: DateTime<Utc>,
    ) -> Result<Silence, AlertError> {
        let NewSilence { matchers, starts_at, ends_at, comment } = new;
        let starts_at = starts_at.unwrap_or(now).max(now);
        if matchers.is_empty() || matchers.iter().count() > MAX_MATCHERS {
            let message = format!(
                "expected 1 to {MAX_MATCHERS} conditions such as service=\"payment\"; to silence \
                 everything say alertname=~\".+\""
            );
            return Err(AlertError::Parameter { name: "matchers", message });
        }
        if matchers.match_all(&Labels::default()) {
            let message = format!(
                "expected a condition that an alert without labels does not meet, found {matchers}"
            );
            return Err(AlertError::Parameter { name: "matchers", message });
        }
        if ends_at <= starts_at {
            let message = format!(
                "expected a time after {starts_at}, found {ends_at}: it would silence nothing"
            );
            return Err(AlertError::Parameter { name: "ends_at", message });
        }
        let latest = now + FARTHEST_END;
        if ends_at > latest {
            let message = format!("expected {latest} at the latest, found {ends_at}");
            return Err(AlertError::Parameter { name: "ends_at", message });
        }
        self.forget(now);
        if self.0.len() >= MAX_SILENCES {
            return Err(AlertError::TooMany { what: "silences", limit: MAX_SILENCES });
        }
        let comment = one_line(&comment, MAX_COMMENT_BYTES);
        let created_by = created_by.to_owned();
        let id = Uuid::now_v7();
        let silence = Silence { id, matchers, starts_at, ends_at, created_by, comment };
        self.0.insert(id, silence.clone());
        Ok(silence)
    }

    /// Ends a silence now, and returns it; `None` when there is none with this id.
    pub fn end(&mut self, id: Uuid, now: DateTime<Utc>) -> Option<Silence> {
        let silence = self.0.get_mut(&id)?;
        silence.ends_at = silence.ends_at.min(now.max(silence.starts_at));
        if silence.starts_at >= now {
            return self.0.remove(&id);
        }
        Some(silence.clone())
    }

    /// All that are not forgotten.
    pub fn iter(&self) -> impl Iterator<Item = &Silence> {
        self.0.values()
    }

    /// Names of the silences that hold for an alert at `now`.
    pub(crate) fn holding(
        &self,
        recurring: &[RecurringSilence],
        labels: &Labels,
        now: DateTime<Utc>,
    ) -> Vec<String> {
        let asked = self.iter().filter(|silence| silence.is_active(now));
        let asked = asked
            .filter(|silence| silence.matchers.match_all(labels))
            .map(|silence| silence.id.to_string());
        let recurring = recurring
            .iter()
            .filter(|silence| silence.windows.iter().any(|window| window.contains(now)))
            .filter(|silence| silence.matchers.match_all(labels))
            .map(|silence| silence.name.as_str().to_owned());
        asked.chain(recurring).collect()
    }

    fn forget(&mut self, now: DateTime<Utc>) {
        self.0.retain(|_, silence| silence.ends_at > now - RETENTION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minute)
    }

    fn new(matcher: &str, starts: i64, ends: i64) -> NewSilence {
        NewSilence {
            matchers: matcher
                .split(';')
                .filter(|m| !m.is_empty())
                .map(|m| m.parse().unwrap())
                .collect(),
            starts_at: Some(at(starts)),
            ends_at: at(ends),
            comment: "deploy\nx".into(),
        }
    }

    fn holds(silences: &Silences, service: &str, minute: i64) -> bool {
        !silences.holding(&[], &Labels::new([("service", service)]), at(minute)).is_empty()
    }

    #[test]
    fn a_silence_holds_for_what_it_matches_from_its_start_until_before_its_end() {
        let mut silences = Silences::default();
        let silence = silences.add(new("service=payment", 10, 20), "ann", at(0)).unwrap();
        assert_eq!((&*silence.created_by, &*silence.comment), ("ann", "deploy x"));
        let minutes = [9, 10, 19, 20].map(|minute| holds(&silences, "payment", minute));
        assert_eq!(minutes, [false, true, true, false]);
        assert!(!holds(&silences, "cart", 15));
    }

    #[test]
    fn a_silence_that_is_ended_stays_to_be_seen_and_one_that_never_began_is_gone() {
        let mut silences = Silences::default();
        let running = silences.add(new("service=payment", 0, 60), "ann", at(0)).unwrap();
        let coming = silences.add(new("service=cart", 50, 60), "ann", at(0)).unwrap();
        assert_eq!(silences.end(running.id, at(5)).unwrap().ends_at, at(5));
        assert!(!holds(&silences, "payment", 5));
        assert!(silences.end(coming.id, at(5)).is_some());
        assert_eq!(silences.iter().count(), 1);
        assert_eq!(silences.end(coming.id, at(5)), None);
    }

    #[test]
    fn a_silence_that_would_outlive_us_is_refused_and_one_that_is_kept_disturbs_no_other() {
        let mut silences = Silences::default();
        let far = NewSilence { ends_at: DateTime::<Utc>::MAX_UTC, ..new("service=x", 0, 1) };
        let error = silences.add(far, "ann", at(0)).unwrap_err().to_string();
        assert!(error.starts_with("ends_at: expected 1980-01-02"), "{error}");
        // It was accepted once.
        let mut kept = silences.add(new("service=x", 0, 1), "ann", at(0)).unwrap();
        kept.ends_at = DateTime::<Utc>::MAX_UTC;
        silences.0.insert(kept.id, kept);
        silences.add(new("service=y", 0, 10), "ann", at(0)).unwrap();
        assert_eq!(silences.iter().count(), 2);
    }

    #[test]
    fn a_silence_does_not_begin_before_it_was_asked_for() {
        let mut silences = Silences::default();
        let past =
            NewSilence { starts_at: Some(DateTime::<Utc>::MIN_UTC), ..new("service=x", 0, 10) };
        assert_eq!(silences.add(past, "ann", at(5)).unwrap().starts_at, at(5));
    }

    #[test]
    fn silences_of_nothing_or_of_everything_are_refused() {
        let mut silences = Silences::default();
        for (new, why) in [
            (new("", 0, 10), "1 to 32 conditions"),
            (new("service!=x", 0, 10), "without labels"),
            (new("service=x", 10, 10), "silence nothing"),
            (new("service=x", -20, -10), "silence nothing"),
        ] {
            let error = silences.add(new, "ann", at(0)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        for _ in 0..MAX_SILENCES {
            silences.add(new("service=x", 0, 10), "ann", at(0)).unwrap();
        }
        let error = silences.add(new("service=x", 0, 10), "ann", at(0)).unwrap_err();
        assert!(error.to_string().contains("1000 silences"), "{error}");
        let days_later = 6 * 24 * 60;
        silences.add(new("service=x", days_later, days_later + 1), "ann", at(days_later)).unwrap();
        assert_eq!(silences.iter().count(), 1, "those that are long over make room");
    }

    #[test]
    fn a_recurring_silence_is_known_by_its_name() {
        let yaml = "name: nights\nmatch: [severity=info]\nwindows: [{from: '00:00', to: '06:00'}]";
        let nights: RecurringSilence = serde_saphyr::from_str(yaml).unwrap();
        let info = Labels::new([("severity", "info")]);
        let silences = Silences::default();
        assert_eq!(silences.holding(std::slice::from_ref(&nights), &info, at(5)), ["nights"]);
        assert!(silences.holding(&[nights], &info, at(7 * 60)).is_empty());
    }
}

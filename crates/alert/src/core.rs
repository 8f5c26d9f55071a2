//! All alerts, and what follows from what is found: no clock, no I/O.

#[cfg(test)]
mod simulation;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    alert::Alert,
    anomaly::{AnomalyConfig, Cursor, Points, Watch, WatchState},
    book::{Book, Step, Timing, Transition},
    config::{AlertsConfig, RULE_FAILING},
    deliver::Finished,
    group::{Groups, Look},
    inhibit::inhibited,
    instance::{Sample, Signal},
    labels::{ALERT_NAME, Fingerprint, Labels, SEVERITY, cut},
    notification::Notification,
    route::RouteConfig,
    severity::Severity,
    silence::Silences,
    snapshot::{Health, RuleStatus, ShownAlert, Snapshot},
};

/// Longest error of an evaluation that is shown, bytes.
const MAX_ERROR_BYTES: usize = 1_024;
/// How long a rule may not be evaluated, besides what its queries may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a rule must fail before that is an alert: a server that is busy for a moment is none.
const FAILING_HOLD: Duration = Duration::from_secs(60);

/// What outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    saved_at: DateTime<Utc>,
    books: BTreeMap<String, Book>,
    pub(crate) silences: Silences,
    groups: Groups,
    /// Notifications that are not done with.
    outbox: BTreeMap<u64, Notification>,
}

/// What the detectors of all anomalies have learned.
pub(crate) type Learned = BTreeMap<String, WatchState>;

/// What a query found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Of a rule: whether that is all.
    Samples { samples: Vec<Sample>, is_complete: bool },
    /// Of an anomaly: new rows of its view.
    Points(Points),
}

/// One evaluation of a rule or an anomaly.
#[derive(Debug)]
pub(crate) struct Evaluation {
    pub(crate) name: String,
    pub(crate) found: Result<Found, String>,
    /// Time since the evaluation before.
    pub(crate) elapsed: Duration,
    /// How long it took.
    pub(crate) took: Duration,
}

/// A rule or an anomaly, and how it is doing.
struct Watched {
    status: RuleStatus,
    timing: Timing,
    /// Time since it was evaluated.
    idle: Duration,
    /// The longest that this may be before something is wrong.
    patience: Duration,
}

/// All alerts: owned by one task, which tells it the time.
pub(crate) struct Core {
    config: AlertsConfig,
    routes: Vec<RouteConfig>,
    /// Shared only while it is written down.
    kept: Arc<Kept>,
    watches: BTreeMap<String, Watch>,
    rules: BTreeMap<String, Watched>,
    /// The books' alerts, as of the last tick.
    alerts: Arc<[ShownAlert]>,
    /// Whether something changed since it was last kept.
    is_changed: bool,
}

impl Core {
    /// Goes on from what was kept, and says which alerts ended because their rules are gone.
    pub(crate) fn new(
        config: AlertsConfig,
        kept: Option<Kept>,
        mut learned: Learned,
        now: DateTime<Utc>,
    ) -> (Self, Vec<Transition>) {
        let mut kept = kept.unwrap_or_else(|| Kept { saved_at: now, ..Kept::default() });
        // A clock that was set back while nobody looked tells nothing of the time missed.
        kept.groups.resume((now - kept.saved_at).to_std().unwrap_or_default());
        let watches = config.anomalies.iter().map(|anomaly| {
            let state = learned.remove(anomaly.name.as_str()).unwrap_or_default();
            (anomaly.name.as_str().to_owned(), Watch::new(anomaly.clone(), state))
        });
        let watches = watches.collect();
        let query_timeout = config.alerting.query_timeout.get();
        let watched = |name: &str, kind, severity, timing, every: Duration| {
            let status = RuleStatus::new(name, kind, severity);
            // Queries wait for each other.
            let patience = PATIENCE + 10 * (every + query_timeout);
            (name.to_owned(), Watched { status, timing, idle: Duration::ZERO, patience })
        };
        let rules = config.alerts.iter().map(|rule| {
            let (name, every) = (rule.name.as_str(), rule.every.get());
            let mut rule_watched = watched(name, "rule", rule.severity, rule.timing(), every);
            rule_watched.1.status.query = Some(rule.query.as_str().to_owned());
            rule_watched.1.status.threshold = rule.threshold.map(|it| it.to_string());
            rule_watched
        });
        let anomalies = config.anomalies.iter().map(|it| {
            let (name, every) = (it.name.as_str(), it.every.get());
            let mut anomaly_watched = watched(name, "anomaly", it.severity, it.timing(), every);
            let watches = format!("{}.{}", it.view.as_str(), it.column.as_str());
            anomaly_watched.1.status.watches = Some(watches);
            anomaly_watched
        });
        let rules: BTreeMap<_, _> = rules.chain(anomalies).collect();
        let mut ended = Vec::new();
        for (name, book) in &mut kept.books {
            if rules.contains_key(name) || name == RULE_FAILING {
                book.resume(config.alerting.restart_grace.get());
            } else {
                ended.extend(book.resolve_all(now));
            }
        }
        let routes = config.alerting.routes();
        let alerts = Arc::default();
        let kept = Arc::new(kept);
        let mut core = Self { config, routes, kept, watches, rules, alerts, is_changed: true };
        core.refresh(now);
        (core, ended)
    }

    /// Takes in an evaluation.
    pub(crate) fn evaluated(
        &mut self,
        evaluation: Evaluation,
        now: DateTime<Utc>,
    ) -> Vec<Transition> {
        let Evaluation { name, found, elapsed, took } = evaluation;
        let Some(Watched { status, timing, idle, .. }) = self.rules.get_mut(&name) else {
            return Vec::new();
        };
        *idle = Duration::ZERO;
        status.last_evaluated = Some(now);
        status.evaluation_secs = took.as_secs_f64();
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                status.fail(&error, now);
                return Vec::new();
            }
        };
        (status.health, status.error, status.failing_since) = (Health::Ok, None, None);
        let (samples, is_complete, series_left_out) = match found {
            Found::Samples { samples, is_complete } => (samples, is_complete, 0),
            Found::Points(points) => {
                let Some(watch) = self.watches.get_mut(&name) else { return Vec::new() };
                let is_behind = points.is_truncated;
                self.is_changed |= !points.is_empty();
                watch.feed(points, now);
                if is_behind {
                    // What was unusual then need not be now.
                    return Vec::new();
                }
                (watch.samples(now), true, watch.left_out())
            }
        };
        let limit = self.config.alerting.max_alerts_per_rule;
        let book = Arc::make_mut(&mut self.kept).books.entry(name).or_default();
        let transitions = book.apply(samples, Step { now, elapsed, is_complete }, *timing, limit);
        // Of what was not read, it is only known that there is some.
        status.left_out = book.overflow().max(usize::from(!is_complete)) + series_left_out;
        self.is_changed |= !book.instances().is_empty();
        transitions
    }

    /// Lets time pass: rules that fail become alerts, those that are gone are forgotten, and
    /// groups whose time has come are told of.
    pub(crate) fn tick(
        &mut self,
        now: DateTime<Utc>,
        elapsed: Duration,
    ) -> (Vec<Transition>, Vec<Notification>) {
        let mut transitions = Vec::new();
        for Watched { status, idle, patience, .. } in self.rules.values_mut() {
            *idle += elapsed;
            if idle > patience {
                status.fail(&format!("it was not evaluated for {}s", idle.as_secs()), now);
            }
        }
        let failing = self.failing();
        let timing = Timing { hold: FAILING_HOLD, keep_firing: Duration::ZERO };
        let step = Step { now, elapsed, is_complete: true };
        let limit = self.config.alerting.max_alerts_per_rule;
        let books = &mut Arc::make_mut(&mut self.kept).books;
        let book = books.entry(RULE_FAILING.to_owned()).or_default();
        transitions.extend(book.apply(failing, step, timing, limit));
        for (name, book) in books.iter_mut() {
            if name != RULE_FAILING && !self.rules.contains_key(name) {
                book.apply(Vec::new(), step, timing, limit);
            }
        }
        let rules = &self.rules;
        books.retain(|name, book| rules.contains_key(name) || !book.instances().is_empty());
        self.refresh(now);
        let look = Look { alerts: &self.alerts, routes: &self.routes, now, elapsed };
        let alerting = &self.config.alerting;
        let Kept { groups, outbox, .. } = Arc::make_mut(&mut self.kept);
        let room = |receiver: &str| {
            let queued = outbox.values().filter(|queued| queued.receiver == receiver).count();
            alerting.max_queued_per_receiver.saturating_sub(queued)
        };
        let wants_resolved = |name: &str| {
            let receiver = alerting.receivers.iter().find(|receiver| receiver.name == name);
            receiver.is_none_or(|receiver| receiver.send_resolved)
        };
        let notifications = groups.look(&look, room, wants_resolved);
        for notification in &notifications {
            outbox.insert(notification.id, notification.clone());
        }
        (transitions, notifications)
    }

    /// Samples of the rules that fail.
    fn failing(&self) -> Vec<Sample> {
        let rules = self.rules.values().map(|watched| &watched.status);
        let failing = rules.filter(|rule| rule.health == Health::Failing);
        let sample = |rule: &RuleStatus| {
            let error = rule.error.clone().unwrap_or_default();
            Sample {
                labels: Labels::new([
                    (ALERT_NAME, RULE_FAILING),
                    ("rule", &rule.name),
                    (SEVERITY, rule.severity.name()),
                ]),
                signal: Signal::Fire,
                value: None,
                annotations: BTreeMap::from([
                    (
                        "summary".to_owned(),
                        format!(
                            "{} `{}` cannot be evaluated: nobody would be told",
                            rule.kind, rule.name
                        ),
                    ),
                    ("description".to_owned(), error),
                ]),
                evidence: None,
            }
        };
        failing.map(sample).collect()
    }

    /// Collects the alerts, and finds out which of them nobody is told of.
    pub(crate) fn refresh(&mut self, now: DateTime<Utc>) {
        let alerting = &self.config.alerting;
        let instances = self.kept.books.values().flat_map(Book::instances);
        let alerts: Vec<Alert> =
            instances.map(|(labels, instance)| Alert::new(labels, instance)).collect();
        let mut inhibited = inhibited(&alerting.inhibit, &alerts);
        let shown = alerts.into_iter().map(|alert| ShownAlert {
            silenced_by: self.kept.silences.holding(&alerting.silences, &alert.labels, now),
            inhibited_by: inhibited.remove(&alert.fingerprint).unwrap_or_default(),
            alert,
        });
        self.alerts = shown.collect();
    }

    /// The silences that were asked for.
    pub(crate) fn silences(&mut self) -> &mut Silences {
        &mut Arc::make_mut(&mut self.kept).silences
    }

    /// Notifications that are not done with.
    pub(crate) fn outbox(&self) -> impl Iterator<Item = &Notification> {
        self.kept.outbox.values()
    }

    /// Takes in that a notification is done with: what its receiver was not told it is told in the
    /// group's next one.
    pub(crate) fn finished(&mut self, done: Finished, now: DateTime<Utc>) {
        let kept = Arc::make_mut(&mut self.kept);
        let Some(notification) = kept.outbox.remove(&done.id) else { return };
        let receivers = &self.config.alerting.receivers;
        let is_known = receivers.iter().any(|receiver| receiver.name == notification.receiver);
        if done.is_delivered || !is_known {
            return;
        }
        let later: HashSet<Fingerprint> = kept
            .outbox
            .values()
            .filter(|queued| queued.group_key == notification.group_key)
            .flat_map(|queued| queued.alerts.iter().map(|alert| alert.fingerprint))
            .collect();
        kept.groups.not_told(&notification, |alert| later.contains(&alert.fingerprint), now);
    }

    /// What is to outlive the process.
    pub(crate) fn keep(&mut self, now: DateTime<Utc>) -> Arc<Kept> {
        Arc::make_mut(&mut self.kept).saved_at = now;
        self.kept.clone()
    }

    /// From where the view of an anomaly is to be read.
    pub(crate) fn cursor(&self, anomaly: &AnomalyConfig, now: DateTime<Utc>) -> Cursor {
        let watch = self.watches.get(anomaly.name.as_str());
        watch.map_or(Cursor::after(now), |watch| watch.cursor(now))
    }

    /// Notifications that wait or are under way, by receiver.
    pub(crate) fn queued(&self) -> impl Iterator<Item = (&str, usize)> {
        let receivers =
            self.config.alerting.receivers.iter().map(|receiver| receiver.name.as_str());
        receivers.map(|name| (name, self.outbox().filter(|queued| queued.receiver == name).count()))
    }

    /// What the detectors have learned.
    pub(crate) fn learned(&self) -> Learned {
        self.watches.iter().map(|(name, watch)| (name.clone(), watch.state())).collect()
    }

    /// Whether anything changed since it was asked last.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// What is shown.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            alerts: self.alerts.clone(),
            rules: self.rules.values().map(|watched| watched.status.clone()).collect(),
            silences: self.kept.silences.iter().cloned().collect(),
        }
    }
}

impl RuleStatus {
    fn new(name: &str, kind: &'static str, severity: Severity) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            severity,
            query: None,
            threshold: None,
            watches: None,
            health: Health::Waiting,
            error: None,
            failing_since: None,
            last_evaluated: None,
            evaluation_secs: 0.0,
            left_out: 0,
        }
    }

    fn fail(&mut self, error: &str, now: DateTime<Utc>) {
        self.health = Health::Failing;
        self.error = Some(cut(error, MAX_ERROR_BYTES));
        self.failing_since.get_or_insert(now);
    }
}

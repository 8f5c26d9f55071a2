//! All alerts, and what follows from what is found: no clock, no I/O.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    alert::Alert,
    anomaly::{AnomalyConfig, Cursor, Points, Watch, WatchState},
    book::{Book, Step, Timing, Transition},
    config::{AlertsConfig, RULE_FAILING},
    group::{Groups, Look},
    inhibit::inhibited,
    instance::{Sample, Signal},
    labels::{ALERT_NAME, Labels, SEVERITY, cut},
    notification::Notification,
    route::RouteConfig,
    severity::Severity,
    silence::Silences,
    snapshot::{Health, RuleStatus, ShownAlert, Snapshot},
};

/// Longest error of an evaluation that is shown, bytes.
const MAX_ERROR_BYTES: usize = 1_024;

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

/// All alerts: owned by one task, which tells it the time.
pub(crate) struct Core {
    config: AlertsConfig,
    routes: Vec<RouteConfig>,
    kept: Kept,
    watches: BTreeMap<String, Watch>,
    rules: BTreeMap<String, RuleStatus>,
    timings: BTreeMap<String, Timing>,
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
        let mut timings = BTreeMap::new();
        let mut rules = BTreeMap::new();
        for rule in &config.alerts {
            timings.insert(rule.name.as_str().to_owned(), rule.timing());
            let status = RuleStatus::new(rule.name.as_str(), "rule", rule.severity);
            rules.insert(status.name.clone(), status);
        }
        for anomaly in &config.anomalies {
            timings.insert(anomaly.name.as_str().to_owned(), anomaly.timing());
            let status = RuleStatus::new(anomaly.name.as_str(), "anomaly", anomaly.severity);
            rules.insert(status.name.clone(), status);
        }
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
        let mut core =
            Self { config, routes, kept, watches, rules, timings, alerts, is_changed: true };
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
        let Some(status) = self.rules.get_mut(&name) else { return Vec::new() };
        status.last_evaluated = Some(now);
        status.evaluation_secs = took.as_secs_f64();
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                status.health = Health::Failing;
                status.error = Some(cut(&error, MAX_ERROR_BYTES));
                status.failing_since.get_or_insert(now);
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
        let timing = self.timings[&name];
        let limit = self.config.alerting.max_alerts_per_rule;
        let book = self.kept.books.entry(name).or_default();
        let transitions = book.apply(samples, Step { now, elapsed, is_complete }, timing, limit);
        status.left_out = book.overflow() + series_left_out;
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
        let failing = self.failing();
        let timing = Timing { hold: Duration::ZERO, keep_firing: Duration::ZERO };
        let step = Step { now, elapsed, is_complete: true };
        let limit = self.config.alerting.max_alerts_per_rule;
        let book = self.kept.books.entry(RULE_FAILING.to_owned()).or_default();
        transitions.extend(book.apply(failing, step, timing, limit));
        for (name, book) in &mut self.kept.books {
            if name != RULE_FAILING && !self.rules.contains_key(name) {
                book.apply(Vec::new(), step, timing, limit);
            }
        }
        let rules = &self.rules;
        self.kept
            .books
            .retain(|name, book| rules.contains_key(name) || !book.instances().is_empty());
        self.refresh(now);
        let look = Look { alerts: &self.alerts, routes: &self.routes, now, elapsed };
        let alerting = &self.config.alerting;
        let outbox = &self.kept.outbox;
        let room = |receiver: &str| {
            let queued = outbox.values().filter(|queued| queued.receiver == receiver).count();
            alerting.max_queued_per_receiver.saturating_sub(queued)
        };
        let wants_resolved = |name: &str| {
            let receiver = alerting.receivers.iter().find(|receiver| receiver.name == name);
            receiver.is_none_or(|receiver| receiver.send_resolved)
        };
        let notifications = self.kept.groups.look(&look, room, wants_resolved);
        for notification in &notifications {
            self.kept.outbox.insert(notification.id, notification.clone());
        }
        (transitions, notifications)
    }

    /// Samples of the rules that fail.
    fn failing(&self) -> Vec<Sample> {
        let failing = self.rules.values().filter(|rule| rule.health == Health::Failing);
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
        &mut self.kept.silences
    }

    /// Notifications that are not done with.
    pub(crate) fn outbox(&self) -> impl Iterator<Item = &Notification> {
        self.kept.outbox.values()
    }

    /// Forgets a notification that is done with.
    pub(crate) fn finished(&mut self, id: u64) {
        self.kept.outbox.remove(&id);
    }

    /// What is to outlive the process.
    pub(crate) fn keep(&mut self, now: DateTime<Utc>) -> &Kept {
        self.kept.saved_at = now;
        &self.kept
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
            rules: self.rules.values().cloned().collect(),
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
            health: Health::Waiting,
            error: None,
            failing_since: None,
            last_evaluated: None,
            evaluation_secs: 0.0,
            left_out: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const YAML: &str = "
alerts: [{name: Errors, query: SELECT, every: 1s, for: 2s, keep_firing_for: 2s}]
alerting:
  receivers: [{name: ops, webhook: {url: 'http://x'}}]
  routes: [{receivers: [ops], group_by: [zone], group_wait: 3s, group_interval: 5s}]
  max_queued_per_receiver: 2
  restart_grace: 4s
";
    const SERVICES: [&str; 4] = ["a", "b", "c", "d"];

    /// A program around a core that may be killed, and a receiver that may be slow.
    struct World {
        core: Core,
        /// The state file.
        disk: Vec<u8>,
        now: DateTime<Utc>,
        is_fresh: bool,
        /// What the receiver believes to fire.
        believed: BTreeSet<String>,
        deliveries: usize,
    }

    /// What happens in a second.
    #[derive(Debug, Clone)]
    struct Second {
        /// Which services fail, by bits; nothing when the query fails.
        failing: Option<u8>,
        is_receiver_up: bool,
        kill: Kill,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Kill {
        Not,
        BeforeSave,
        AfterSave,
    }

    impl World {
        fn new() -> Self {
            let now = DateTime::UNIX_EPOCH;
            let core = Self::start(None, now);
            let (disk, believed) = Default::default();
            Self { core, disk, now, is_fresh: true, believed, deliveries: 0 }
        }

        fn start(kept: Option<Kept>, now: DateTime<Utc>) -> Core {
            let config = serde_saphyr::from_str(YAML).unwrap();
            Core::new(config, kept, Learned::new(), now).0
        }

        fn restart(&mut self) {
            let kept = (!self.disk.is_empty()).then(|| serde_json::from_slice(&self.disk).unwrap());
            self.core = Self::start(kept, self.now);
            self.is_fresh = true;
        }

        fn second(&mut self, second: &Second) {
            self.now += Duration::from_secs(1);
            let elapsed = if self.is_fresh { Duration::ZERO } else { Duration::from_secs(1) };
            self.is_fresh = false;
            let found = second.failing.map(|bits| {
                let is_failing = |n: &usize| bits & 1 << n != 0;
                let samples = (0..SERVICES.len()).filter(is_failing).map(|n| Sample {
                    labels: Labels::new([
                        (ALERT_NAME, "Errors"),
                        ("service", SERVICES[n]),
                        ("zone", ["x", "y"][n % 2]),
                    ]),
                    signal: Signal::Fire,
                    value: None,
                    annotations: BTreeMap::new(),
                    evidence: None,
                });
                Found::Samples { samples: samples.collect(), is_complete: true }
            });
            let found = found.ok_or("the table is gone".to_owned());
            let (name, took) = ("Errors".to_owned(), Duration::ZERO);
            self.core.evaluated(Evaluation { name, found, elapsed, took }, self.now);
            self.core.tick(self.now, elapsed);
            if second.kill == Kill::BeforeSave {
                return self.restart();
            }
            self.disk = serde_json::to_vec(self.core.keep(self.now)).unwrap();
            if second.kill == Kill::AfterSave {
                return self.restart();
            }
            if second.is_receiver_up {
                self.deliver();
            }
        }

        fn deliver(&mut self) {
            for notification in self.core.outbox().cloned().collect::<Vec<_>>() {
                for alert in &notification.alerts {
                    let name = alert.labels.to_string();
                    if alert.is_firing() {
                        self.believed.insert(name);
                    } else {
                        self.believed.remove(&name);
                    }
                }
                self.deliveries += 1;
                self.core.finished(notification.id);
            }
        }

        fn firing(&self) -> BTreeSet<String> {
            let firing = self.core.alerts.iter().filter(|shown| shown.alert.is_firing());
            firing.map(|shown| shown.alert.labels.to_string()).collect()
        }

        fn quiet(&mut self, failing: u8, seconds: usize) {
            let second = Second { failing: Some(failing), is_receiver_up: true, kill: Kill::Not };
            (0..seconds).for_each(|_| self.second(&second));
        }
    }

    fn second() -> impl Strategy<Value = Second> {
        let kill = prop_oneof![
            8 => Just(Kill::Not), 1 => Just(Kill::BeforeSave), 1 => Just(Kill::AfterSave)
        ];
        (proptest::option::weighted(0.9, 0_u8..16), any::<bool>(), kill)
            .prop_map(|(failing, is_receiver_up, kill)| Second { failing, is_receiver_up, kill })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever happens, and wherever the program is killed: once things are quiet, what the
        /// receiver believes to fire is what fires.
        #[test]
        fn in_the_end_the_receiver_knows_what_fires(
            seconds in proptest::collection::vec(second(), 0..80), last in 0_u8..16,
        ) {
            let mut world = World::new();
            for second in &seconds {
                world.second(second);
                prop_assert!(world.core.outbox().count() <= 2);
            }
            world.quiet(last, 30);
            prop_assert_eq!(world.firing().len(), last.count_ones() as usize);
            prop_assert_eq!(&world.believed, &world.firing());
            let told = world.deliveries;
            world.quiet(last, 300);
            prop_assert_eq!(world.deliveries, told, "nothing is told of twice");
        }

        /// While what is wrong stays wrong, restarts neither end alerts nor tell of them again.
        #[test]
        fn restarts_do_not_make_alerts_flap(kills in proptest::collection::vec(any::<bool>(), 60)) {
            let mut world = World::new();
            world.quiet(0b0101, 20);
            prop_assert_eq!(world.firing().len(), 2);
            let told = world.deliveries;
            for kill in kills {
                if kill {
                    world.restart();
                    // The tables catch up.
                    world.quiet(0, 3);
                }
                world.quiet(0b0101, 1);
                prop_assert_eq!(world.firing().len(), 2);
            }
            prop_assert_eq!(world.deliveries, told);
        }
    }

    #[test]
    fn a_rule_that_fails_becomes_an_alert_and_ends_none() {
        let mut world = World::new();
        world.quiet(0b0001, 10);
        let failing = Second { failing: None, is_receiver_up: true, kill: Kill::Not };
        (0..20).for_each(|_| world.second(&failing));
        let firing: Vec<String> = world.firing().into_iter().collect();
        assert_eq!(firing.len(), 2, "{firing:?}");
        assert!(firing[1].contains("RuleFailing") && firing[1].contains("rule=\"Errors\""));
        assert_eq!(world.core.snapshot().rules[0].error.as_deref(), Some("the table is gone"));
        world.quiet(0b0001, 20);
        assert_eq!(world.firing().len(), 1);
        assert_eq!(world.believed, world.firing());
    }
}

//! The alerts of one rule or anomaly, and how they change.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    instance::{Instance, Sample, Signal, State},
    labels::Labels,
};

/// How long resolved alerts are still shown.
pub(crate) const RESOLVED_RETENTION: Duration = Duration::from_secs(15 * 60);

/// How long a condition must hold or be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a condition must hold before its alert fires.
    pub hold: Duration,
    /// How long it must be over before its alert is resolved.
    pub keep_firing: Duration,
}

/// One evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Time of day, for what is shown. It may jump.
    pub now: DateTime<Utc>,
    /// Time since the evaluation before, by a clock that cannot be set; none when there was none
    /// since the program began to watch.
    pub elapsed: Duration,
    /// Whether the samples are all there are: what is not among them is over.
    pub is_complete: bool,
}

/// The alerts of one rule or anomaly: a state machine without clock or I/O.
///
/// ```text
///            Fire                held for `hold`           clear for `keep_firing`
/// (inactive) ────▶ pending ────────────────────▶ firing ──────────────────────────▶ resolved
///     ▲              │ Hold, Clear                 ▲                                   │
///     └──────────────┘                             └──── Fire, by way of pending ──────┘
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    #[serde(with = "pairs")]
    instances: BTreeMap<Labels, Instance>,
    /// How long an alert that is not among the samples is still not held for over: after a start
    /// the tables that are asked may have to catch up.
    #[serde(skip)]
    grace: Duration,
    /// New alerts that found no room in the last evaluation.
    #[serde(skip)]
    overflow: usize,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// Which alert.
    pub labels: Labels,
    /// What it is now.
    pub instance: Instance,
    /// Whether a pending alert's condition was over before it fired.
    pub is_dropped: bool,
}

impl Book {
    /// Goes on after a time in which nobody looked: what is absent for no longer than `grace`
    /// may be late.
    pub fn resume(&mut self, grace: Duration) {
        self.grace = grace;
    }

    /// Takes in the samples of one evaluation. At most `limit` alerts are kept; more are counted
    /// and left out.
    pub fn apply(
        &mut self,
        samples: Vec<Sample>,
        step: Step,
        timing: Timing,
        limit: usize,
    ) -> Vec<Transition> {
        let mut transitions = Vec::new();
        self.overflow = 0;
        let mut seen = HashSet::with_capacity(samples.len());
        let mut new = Vec::new();
        for sample in samples {
            let labels = sample.labels.clone();
            if !seen.insert(labels.clone()) {
                continue;
            }
            let Some(instance) = self.instances.get_mut(&labels) else {
                new.extend((sample.signal == Signal::Fire).then_some(sample));
                continue;
            };
            match instance.observe(sample, step, timing) {
                Outcome::Same => {}
                Outcome::Changed => transitions.push(Transition::of(&labels, instance)),
                Outcome::Dropped => {
                    transitions.push(Transition::dropped(&labels, instance));
                    self.instances.remove(&labels);
                }
            }
        }
        self.age(&seen, step, timing, &mut transitions);
        self.grace = self.grace.saturating_sub(step.elapsed);
        for sample in new {
            if self.instances.len() >= limit && !self.forget_resolved() {
                self.overflow += 1;
                continue;
            }
            let labels = sample.labels.clone();
            let instance = Instance::begin(sample, step, timing);
            transitions.push(Transition::of(&labels, &instance));
            self.instances.insert(labels, instance);
        }
        transitions
    }

    /// Takes in that alerts other than those `seen` were not found, and lets resolved ones age.
    fn age(
        &mut self,
        seen: &HashSet<Labels>,
        step: Step,
        timing: Timing,
        transitions: &mut Vec<Transition>,
    ) {
        let absence_counts = step.is_complete && self.grace <= step.elapsed;
        self.instances.retain(|labels, instance| match instance.state {
            State::Resolved => {
                instance.watched += step.elapsed;
                instance.watched < RESOLVED_RETENTION
            }
            _ if seen.contains(labels) => true,
            State::Pending if absence_counts => {
                transitions.push(Transition::dropped(labels, instance));
                false
            }
            State::Firing if absence_counts => {
                if instance.clear(step, timing) {
                    transitions.push(Transition::of(labels, instance));
                }
                true
            }
            State::Pending | State::Firing => true,
        });
    }

    /// Resolves everything: its rule is gone.
    pub fn resolve_all(&mut self, now: DateTime<Utc>) -> Vec<Transition> {
        let mut transitions = Vec::new();
        self.instances.retain(|labels, instance| {
            if instance.state == State::Firing {
                instance.enter(State::Resolved, now);
                transitions.push(Transition::of(labels, instance));
            }
            instance.state == State::Resolved
        });
        transitions
    }

    /// The alerts, by their labels.
    pub fn instances(&self) -> &BTreeMap<Labels, Instance> {
        &self.instances
    }

    /// New alerts for which there was no room in the last evaluation.
    pub fn overflow(&self) -> usize {
        self.overflow
    }

    fn forget_resolved(&mut self) -> bool {
        let resolved =
            self.instances.iter().find(|(_, instance)| instance.state == State::Resolved);
        let Some(labels) = resolved.map(|(labels, _)| labels.clone()) else { return false };
        self.instances.remove(&labels).is_some()
    }
}

/// What a sample does to an alert.
enum Outcome {
    Same,
    /// It is in another state.
    Changed,
    /// It was pending, and is no alert any more.
    Dropped,
}

impl Outcome {
    fn changed(is_changed: bool) -> Self {
        if is_changed { Self::Changed } else { Self::Same }
    }
}

impl Instance {
    fn observe(&mut self, sample: Sample, step: Step, timing: Timing) -> Outcome {
        match (self.state, sample.signal) {
            (State::Pending, Signal::Fire) => {
                self.show(sample);
                self.watched += step.elapsed;
                let fires = self.watched >= timing.hold;
                if fires {
                    self.enter(State::Firing, step.now);
                }
                Outcome::changed(fires)
            }
            (State::Pending, _) => Outcome::Dropped,
            (State::Firing, Signal::Clear) => Outcome::changed(self.clear(step, timing)),
            (State::Firing, _) => {
                self.show(sample);
                self.is_clearing = false;
                self.watched = Duration::ZERO;
                Outcome::Same
            }
            (State::Resolved, Signal::Fire) => {
                *self = Self::begin(sample, step, timing);
                Outcome::Changed
            }
            (State::Resolved, _) => Outcome::Same,
        }
    }

    /// A new alert.
    fn begin(sample: Sample, step: Step, timing: Timing) -> Self {
        let mut instance = Self::new(sample, step.now);
        if timing.hold.is_zero() {
            instance.enter(State::Firing, step.now);
        }
        instance
    }

    /// Takes in that the condition of a firing alert is over; whether that resolves it.
    fn clear(&mut self, step: Step, timing: Timing) -> bool {
        // The condition may have held until just now: time counts from the first look on.
        if self.is_clearing {
            self.watched += step.elapsed;
        }
        self.is_clearing = true;
        let is_resolved = self.watched >= timing.keep_firing;
        if is_resolved {
            self.enter(State::Resolved, step.now);
        }
        is_resolved
    }

    fn show(&mut self, sample: Sample) {
        self.value = sample.value;
        self.annotations = sample.annotations;
        self.evidence = sample.evidence;
    }
}

impl Transition {
    /// What the alert is now: `inactive`, `pending`, `firing` or `resolved`.
    pub fn state(&self) -> &'static str {
        match self.instance.state {
            _ if self.is_dropped => "inactive",
            State::Pending => "pending",
            State::Firing => "firing",
            State::Resolved => "resolved",
        }
    }

    fn of(labels: &Labels, instance: &Instance) -> Self {
        Self { labels: labels.clone(), instance: instance.clone(), is_dropped: false }
    }

    fn dropped(labels: &Labels, instance: &Instance) -> Self {
        Self { is_dropped: true, ..Self::of(labels, instance) }
    }
}

/// A map whose keys are no text, as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::{instance::Instance, labels::Labels};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<Labels, Instance>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Labels, Instance>, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 4;
    const EVERY: Duration = Duration::from_secs(10);

    fn sample(name: &str, signal: Signal) -> Sample {
        Sample {
            labels: Labels::new([("service", name)]),
            signal,
            value: Some(1.0),
            annotations: BTreeMap::new(),
            evidence: None,
        }
    }

    /// A book that is looked at every ten seconds.
    struct Watched {
        book: Book,
        timing: Timing,
        now: DateTime<Utc>,
    }

    impl Watched {
        fn new(hold_secs: u64, keep_firing_secs: u64) -> Self {
            let timing = Timing {
                hold: Duration::from_secs(hold_secs),
                keep_firing: Duration::from_secs(keep_firing_secs),
            };
            Self { book: Book::default(), timing, now: DateTime::UNIX_EPOCH }
        }

        fn step(&mut self, samples: Vec<Sample>) -> Vec<(String, State)> {
            self.now += EVERY;
            let step = Step { now: self.now, elapsed: EVERY, is_complete: true };
            let transitions = self.book.apply(samples, step, self.timing, LIMIT);
            transitions
                .iter()
                .map(|change| (change.labels.value("service").to_owned(), change.instance.state))
                .collect()
        }

        /// States of `a` over evaluations that find it (`x`), find it in between (`-`) or not.
        fn states(&mut self, findings: &str) -> String {
            let state = |finding: char| {
                let signal = match finding {
                    'x' => Some(Signal::Fire),
                    '-' => Some(Signal::Hold),
                    _ => None,
                };
                self.step(signal.map(|signal| sample("a", signal)).into_iter().collect());
                match self.state("a") {
                    None => '.',
                    Some(State::Pending) => 'p',
                    Some(State::Firing) => 'F',
                    Some(State::Resolved) => 'r',
                }
            };
            findings.chars().map(state).collect()
        }

        fn state(&self, name: &str) -> Option<State> {
            let labels = Labels::new([("service", name)]);
            self.book.instances().get(&labels).map(|instance| instance.state)
        }
    }

    #[test]
    fn an_alert_fires_once_its_condition_held_long_enough_and_is_resolved_when_it_is_over() {
        assert_eq!(Watched::new(20, 0).states("x.xxxx.."), "p.ppFFrr");
        assert_eq!(Watched::new(0, 0).states("x.x"), "FrF");
    }

    #[test]
    fn a_firing_alert_goes_on_for_a_while_after_its_condition() {
        assert_eq!(Watched::new(0, 20).states("x..x...x"), "FFFFFFrF");
    }

    #[test]
    fn between_the_thresholds_a_firing_alert_goes_on_and_another_does_not_begin() {
        assert_eq!(Watched::new(10, 0).states("-x-xx--."), ".p.pFFFr");
    }

    #[test]
    fn a_resolved_alert_that_fires_again_is_a_new_one() {
        let mut watched = Watched::new(10, 0);
        assert_eq!(watched.states("xx.xx"), "pFrpF");
        let labels = Labels::new([("service", "a")]);
        let instance = &watched.book.instances()[&labels];
        assert_eq!(instance.active_at, DateTime::UNIX_EPOCH + EVERY * 4);
        assert_eq!((instance.fired_at, instance.resolved_at), (Some(watched.now), None));
    }

    #[test]
    fn resolved_alerts_are_forgotten_in_the_end() {
        let mut watched = Watched::new(0, 0);
        let rounds = RESOLVED_RETENTION.as_secs() / EVERY.as_secs();
        watched.states("x.");
        watched.states(&".".repeat(usize::try_from(rounds).unwrap() - 1));
        assert_eq!(watched.state("a"), Some(State::Resolved));
        watched.states(".");
        assert_eq!(watched.state("a"), None);
    }

    #[test]
    fn new_alerts_beyond_the_limit_are_counted_and_resolved_ones_make_room() {
        let mut watched = Watched::new(0, 0);
        let fire = |names: &[&str]| names.iter().map(|name| sample(name, Signal::Fire)).collect();
        watched.step(fire(&["a", "b", "c"]));
        watched.step(fire(&["a", "b", "d", "e", "f"]));
        assert_eq!(watched.book.overflow(), 1);
        assert_eq!(watched.state("c"), None, "resolved, it made room");
        assert_eq!(watched.state("e"), Some(State::Firing));
        watched.step(fire(&["a", "b", "d", "e"]));
        assert_eq!(watched.book.overflow(), 0);
    }

    #[test]
    fn what_is_missing_in_an_incomplete_answer_is_not_over() {
        let mut watched = Watched::new(0, 0);
        watched.step(vec![sample("a", Signal::Fire)]);
        let step = Step { now: watched.now, elapsed: EVERY, is_complete: false };
        assert_eq!(watched.book.apply(vec![], step, watched.timing, LIMIT), []);
        assert_eq!(watched.state("a"), Some(State::Firing));
    }

    #[test]
    fn after_a_restart_absence_counts_once_the_grace_is_over_and_a_clear_value_at_once() {
        let mut watched = Watched::new(0, 0);
        watched.step(vec![sample("a", Signal::Fire), sample("b", Signal::Fire)]);
        let text = serde_json::to_string(&watched.book).unwrap();
        watched.book = serde_json::from_str(&text).unwrap();
        watched.book.resume(EVERY * 3);
        watched.now += TimeDelta::hours(5);
        assert_eq!(watched.step(vec![sample("b", Signal::Clear)]), [("b".into(), State::Resolved)]);
        assert_eq!(watched.step(vec![]), []);
        assert_eq!(watched.step(vec![]), [("a".into(), State::Resolved)]);
    }

    #[test]
    fn a_pending_alert_is_not_over_because_a_table_has_to_catch_up_after_a_restart() {
        let mut watched = Watched::new(40, 0);
        watched.states("xxx");
        watched.book.resume(EVERY * 3);
        assert_eq!(watched.states("..xx"), "pppF");
        assert_eq!(Watched::new(40, 0).states("xxx..xx"), "ppp..pp", "without a restart it is");
    }

    fn findings() -> impl Strategy<Value = Vec<(Signal, bool)>> {
        let signal = prop_oneof![
            Just(Signal::Fire),
            Just(Signal::Fire),
            Just(Signal::Hold),
            Just(Signal::Clear)
        ];
        proptest::collection::vec((signal, any::<bool>()), 1..60)
    }

    proptest! {
        /// Held to the definition: an alert fires in exactly the evaluations in which this
        /// straightforward account of the time before says so.
        #[test]
        fn states_follow_from_how_long_the_condition_held(
            findings in findings(), hold in 0_u32..4, keep in 0_u32..4,
        ) {
            let mut watched = Watched::new(u64::from(hold) * 10, u64::from(keep) * 10);
            let (mut held, mut cleared, mut firing) = (0, 0, false);
            for (signal, is_present) in findings {
                let signal = if is_present { signal } else { Signal::Clear };
                let samples = if is_present { vec![sample("a", signal)] } else { vec![] };
                watched.step(samples);
                held = if signal == Signal::Fire { held + 1 } else { 0 };
                cleared = if signal == Signal::Clear { cleared + 1 } else { 0 };
                firing = if firing { cleared <= keep } else { held > hold };
                prop_assert_eq!(watched.state("a") == Some(State::Firing), firing);
                let is_pending = watched.state("a") == Some(State::Pending);
                prop_assert_eq!(is_pending, !firing && held > 0);
            }
        }

        /// However the clock is set, and wherever the program is killed and started again, as long
        /// as the same is found nothing else happens.
        #[test]
        fn neither_clock_jumps_nor_restarts_change_what_happens(
            findings in findings(), jumps in proptest::collection::vec((-86_400_i64..86_400, any::<bool>()), 60),
        ) {
            let mut steady = Watched::new(20, 20);
            let mut shaken = Watched::new(20, 20);
            for ((signal, _), (jump, restart)) in findings.into_iter().zip(jumps) {
                if restart {
                    let text = serde_json::to_string(&shaken.book).unwrap();
                    shaken.book = serde_json::from_str(&text).unwrap();
                    shaken.book.resume(EVERY);
                }
                shaken.now += TimeDelta::seconds(jump);
                let changes = steady.step(vec![sample("a", signal)]);
                prop_assert_eq!(changes, shaken.step(vec![sample("a", signal)]));
            }
        }

        #[test]
        fn a_book_never_holds_more_than_its_limit(
            rounds in proptest::collection::vec(proptest::collection::btree_set(0_u8..20, 0..12), 1..30),
        ) {
            let mut watched = Watched::new(10, 10);
            for names in rounds {
                watched.step(names.iter().map(|n| sample(&n.to_string(), Signal::Fire)).collect());
                prop_assert!(watched.book.instances().len() <= LIMIT);
            }
        }
    }
}

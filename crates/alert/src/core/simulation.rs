//! A program that is killed anywhere, and a receiver that is slow, refuses messages or does not say
//! that it got them: what holds all the same.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::group::RESOLVED_MATTERS;

const YAML: &str = "
alerts: [{name: Errors, query: SELECT, every: 1s, for: 2s, keep_firing_for: 2s}]
alerting:
  receivers: [{name: ops, webhook: {url: 'http://x'}}]
  routes: [{receivers: [ops], group_by: [zone], group_wait: 3s, group_interval: 5s}]
  max_queued_per_receiver: 2
  restart_grace: 4s
";
const SERVICES: [&str; 4] = ["a", "b", "c", "d"];

/// A program around a core that may be killed, and its receiver.
struct World {
    yaml: String,
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
    receiver: Receiver,
    kill: Kill,
}

/// What a receiver does with messages.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Receiver {
    Accepts,
    /// They wait.
    Hangs,
    /// They are given up.
    Refuses,
    /// It gets them, and they are given up all the same.
    AcceptsInSilence,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kill {
    Not,
    BeforeSave,
    AfterSave,
}

impl Second {
    fn quiet() -> Self {
        Self { failing: Some(0), receiver: Receiver::Accepts, kill: Kill::Not }
    }
}

impl World {
    fn new() -> Self {
        Self::of(YAML.to_owned())
    }

    fn of(yaml: String) -> Self {
        let now = DateTime::UNIX_EPOCH;
        let core = Self::start(&yaml, None, now);
        let (disk, believed) = Default::default();
        Self { yaml, core, disk, now, is_fresh: true, believed, deliveries: 0 }
    }

    fn start(yaml: &str, kept: Option<Kept>, now: DateTime<Utc>) -> Core {
        let config = serde_saphyr::from_str(yaml).unwrap();
        Core::new(config, kept, Learned::new(), now).0
    }

    fn restart(&mut self) {
        let kept = (!self.disk.is_empty()).then(|| serde_json::from_slice(&self.disk).unwrap());
        self.core = Self::start(&self.yaml, kept, self.now);
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
        self.disk = serde_json::to_vec(&*self.core.keep(self.now)).unwrap();
        if second.kill == Kill::AfterSave {
            return self.restart();
        }
        if second.receiver != Receiver::Hangs {
            self.deliver(second.receiver);
        }
    }

    fn deliver(&mut self, receiver: Receiver) {
        for notification in self.core.outbox().cloned().collect::<Vec<_>>() {
            if receiver != Receiver::Refuses {
                self.believe(&notification);
            }
            let is_delivered = receiver == Receiver::Accepts;
            self.core.finished(Finished { id: notification.id, is_delivered }, self.now);
        }
    }

    fn believe(&mut self, notification: &Notification) {
        self.deliveries += 1;
        for alert in &notification.alerts {
            let name = alert.labels.to_string();
            if alert.is_firing() {
                self.believed.insert(name);
            } else {
                self.believed.remove(&name);
            }
        }
    }

    fn firing(&self) -> BTreeSet<String> {
        let firing = self.core.alerts.iter().filter(|shown| shown.alert.is_firing());
        firing.map(|shown| shown.alert.labels.to_string()).collect()
    }

    fn quiet(&mut self, failing: u8, seconds: usize) {
        let second = Second { failing: Some(failing), ..Second::quiet() };
        (0..seconds).for_each(|_| self.second(&second));
    }
}

fn second() -> impl Strategy<Value = Second> {
    let kill = prop_oneof![
        8 => Just(Kill::Not), 1 => Just(Kill::BeforeSave), 1 => Just(Kill::AfterSave)
    ];
    let receiver = prop_oneof![
        3 => Just(Receiver::Accepts),
        3 => Just(Receiver::Hangs),
        1 => Just(Receiver::Refuses),
        1 => Just(Receiver::AcceptsInSilence),
    ];
    (proptest::option::weighted(0.9, 0_u8..16), receiver, kill)
        .prop_map(|(failing, receiver, kill)| Second { failing, receiver, kill })
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
        // A group that ended with what could not be told is looked at again after a minute.
        world.quiet(last, 90);
        prop_assert_eq!(world.firing().len(), last.count_ones() as usize);
        prop_assert_eq!(&world.believed, &world.firing());
        let told = world.deliveries;
        world.quiet(last, 300);
        prop_assert_eq!(world.deliveries, told, "nothing is told of twice");
    }

    /// What is wrong for long enough fires, however often the program is started anew meanwhile.
    #[test]
    fn restarts_do_not_keep_an_alert_from_firing(kills in proptest::collection::vec(any::<bool>(), 60)) {
        let mut world = World::of(YAML.replace("for: 2s", "for: 20s"));
        for kill in kills {
            if kill {
                world.restart();
                // The tables catch up.
                world.quiet(0, 3);
            }
            world.quiet(0b0101, 1);
        }
        prop_assert_eq!(world.firing().len(), 2);
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
fn what_a_receiver_refused_it_is_told_at_the_next_interval() {
    let mut world = World::new();
    let refusing = |failing: u8| Second {
        failing: Some(failing),
        receiver: Receiver::Refuses,
        ..Second::quiet()
    };
    (0..8).for_each(|_| world.second(&refusing(0b0001)));
    assert_eq!((world.firing().len(), world.believed.len()), (1, 0));
    world.quiet(0b0001, 6);
    assert_eq!(world.believed, world.firing());
    // Neither is its end lost, though the group has ended with it.
    (0..8).for_each(|_| world.second(&refusing(0)));
    assert_eq!((world.firing().len(), world.believed.len()), (0, 1));
    world.quiet(0, 6);
    assert_eq!(world.believed, world.firing());
}

#[test]
fn a_receiver_that_refuses_for_good_is_not_told_of_ends_for_ever() {
    let mut world = World::new();
    world.quiet(0b0001, 10);
    let refusing = Second { receiver: Receiver::Refuses, ..Second::quiet() };
    (0..10).for_each(|_| world.second(&refusing));
    assert!(!world.core.kept.groups.is_empty(), "it is tried again");
    world.now += RESOLVED_MATTERS;
    (0..10).for_each(|_| world.second(&refusing));
    assert!(world.core.kept.groups.is_empty());
}

#[test]
fn rows_that_were_not_read_are_seen_to_be_left_out() {
    let mut world = World::new();
    for (is_complete, left_out) in [(false, 1), (true, 0)] {
        let found = Ok(Found::Samples { samples: Vec::new(), is_complete });
        let (name, elapsed, took) = ("Errors".to_owned(), Duration::ZERO, Duration::ZERO);
        world.core.evaluated(Evaluation { name, found, elapsed, took }, world.now);
        assert_eq!(world.core.snapshot().rules[0].left_out, left_out);
    }
}

#[test]
fn a_rule_that_fails_becomes_an_alert_and_ends_none() {
    let mut world = World::new();
    world.quiet(0b0001, 10);
    let failing = Second { failing: None, ..Second::quiet() };
    (0..60).for_each(|_| world.second(&failing));
    assert_eq!(world.firing().len(), 1, "it may be over in a moment");
    (0..20).for_each(|_| world.second(&failing));
    let firing: Vec<String> = world.firing().into_iter().collect();
    assert_eq!(firing.len(), 2, "{firing:?}");
    assert!(firing[1].contains("RuleFailing") && firing[1].contains("rule=\"Errors\""));
    assert_eq!(world.core.snapshot().rules[0].error.as_deref(), Some("the table is gone"));
    world.quiet(0b0001, 20);
    assert_eq!(world.firing().len(), 1);
    assert_eq!(world.believed, world.firing());
}

#[test]
fn a_rule_that_is_not_evaluated_any_more_becomes_an_alert() {
    let mut world = World::new();
    world.quiet(0, 10);
    for (minutes, firing) in [(5, 0), (2, 0), (1, 1)] {
        world.core.tick(world.now, Duration::from_secs(60) * minutes);
        assert_eq!(world.firing().len(), firing, "after {minutes} more minutes");
    }
    world.quiet(0, 10);
    assert_eq!(world.firing().len(), 0);
}

//! Alerts that are told of together, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    alert::Alert,
    instance::State,
    labels::{Fingerprint, Labels},
    notification::{MAX_ALERTS, Notification},
    route::{self, RouteConfig},
    snapshot::ShownAlert,
};

/// How long after its end a receiver may still be told that an alert is resolved, once it could not
/// be told.
pub(crate) const RESOLVED_MATTERS: TimeDelta = TimeDelta::days(1);

/// Alerts that a receiver is told of together: Alertmanager's groups, without clock or I/O.
///
/// A new group waits `group_wait` for more alerts. From then on it is looked at every
/// `group_interval`, and told of when alerts joined it, when some were resolved, or when
/// `repeat_interval` is over. Two things are done otherwise than there: an alert of which a
/// receiver was told that it fires is resolved for it even if it was silenced meanwhile, so that
/// no incident stays open for ever; and a receiver whose queue is full is told later of what is
/// then the case. As there, what a receiver could not be told it is told at the next interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Groups {
    groups: BTreeMap<String, Group>,
    next_id: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Group {
    receiver: String,
    labels: Labels,
    /// Time since it was looked at, or since it began.
    waited: Duration,
    is_new: bool,
    /// How often it is looked at, for when its route is gone.
    #[serde(default)]
    interval: Duration,
    /// Time since its receiver was told of it.
    told_since: Duration,
    /// Alerts of which the receiver was told that they fire, in outline.
    told: BTreeMap<Fingerprint, Alert>,
    /// Those among them that it may know otherwise: the last that was to be said of them was given
    /// up.
    #[serde(default)]
    doubtful: BTreeSet<Fingerprint>,
}

/// What a look at the groups needs to know.
pub struct Look<'a> {
    /// Every alert there is, and whether anybody shall be told of it.
    pub alerts: &'a [ShownAlert],
    /// Where they go.
    pub routes: &'a [RouteConfig],
    /// Time of day.
    pub now: DateTime<Utc>,
    /// Time since the look before, by a clock that cannot be set.
    pub elapsed: Duration,
}

impl Groups {
    /// Whom to tell of what. `room` says how many more notifications a receiver's queue takes,
    /// and `wants_resolved` whether a receiver is told that alerts are resolved.
    pub fn look(
        &mut self,
        look: &Look<'_>,
        mut room: impl FnMut(&str) -> usize,
        wants_resolved: impl Fn(&str) -> bool,
    ) -> Vec<Notification> {
        let members = self.members(look);
        self.hand_over(&members);
        let mut notifications: Vec<Notification> = Vec::new();
        for (key, group) in &mut self.groups {
            group.waited += look.elapsed;
            group.told_since += look.elapsed;
            let nobody = Members::default();
            let members = members.get(key).unwrap_or(&nobody);
            // A route that is gone leaves its groups to resolve what they told of.
            let (wait, repeat) = match members.route {
                Some(route) => {
                    group.interval = route.group_interval.get();
                    let wait = if group.is_new { route.group_wait.get() } else { group.interval };
                    (wait, route.repeat_interval.get())
                }
                None => (group.interval, Duration::MAX),
            };
            if group.waited < wait {
                continue;
            }
            let Some(alerts) =
                group.changes(members, look, repeat, wants_resolved(&group.receiver))
            else {
                group.looked_at();
                continue;
            };
            let taken = notifications.iter().filter(|n| n.receiver == group.receiver).count();
            if room(&group.receiver) <= taken {
                continue;
            }
            self.next_id += 1;
            notifications.push(group.tell(self.next_id, key, alerts, look.now));
        }
        self.groups.retain(|key, group| {
            !group.told.is_empty()
                || members.get(key).is_some_and(|members| !members.firing.is_empty())
        });
        notifications
    }

    /// Takes in that a notification was given up: what it was to say is said at the group's next
    /// interval, but for the alerts that were `told_later`.
    pub(crate) fn not_told(
        &mut self,
        notification: &Notification,
        told_later: impl Fn(&Alert) -> bool,
        now: DateTime<Utc>,
    ) {
        for alert in notification.alerts.iter().filter(|alert| !told_later(alert)) {
            if alert.is_firing() {
                if let Some(group) = self.groups.get_mut(&notification.group_key) {
                    group.doubt(alert);
                }
            } else if alert.ends_at.is_some_and(|ended| now - ended < RESOLVED_MATTERS) {
                // The group may have ended, and its route may be gone.
                let key = notification.group_key.clone();
                let group = self.groups.entry(key).or_insert_with(|| Group {
                    is_new: false,
                    interval: route::default_group_interval().get(),
                    ..Group::new(&notification.receiver, &notification.group_labels)
                });
                group.told.entry(alert.fingerprint).or_insert_with(|| alert.outline());
                group.doubt(alert);
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Takes into account that nobody looked for `missed`.
    pub fn resume(&mut self, missed: Duration) {
        for group in self.groups.values_mut() {
            group.told_since = group.told_since.saturating_add(missed);
        }
    }

    /// Lets groups that alerts go to by now know what those that they went to were told: a route
    /// that is changed neither ends alerts nor makes them news.
    fn hand_over(&mut self, members: &BTreeMap<String, Members<'_>>) {
        let is_left = |(key, group): &(&String, &Group)| {
            !group.told.is_empty() && !members.contains_key(*key)
        };
        let left: Vec<String> =
            self.groups.iter().filter(is_left).map(|(key, _)| key.clone()).collect();
        for key in left {
            let Some(mut group) = self.groups.remove(&key) else { continue };
            for (heir, members) in members {
                let Some(heir) = self.groups.get_mut(heir) else { continue };
                if heir.receiver == group.receiver {
                    heir.inherit(&mut group, |told| members.firing.contains_key(told));
                }
            }
            if !group.told.is_empty() {
                self.groups.insert(key, group);
            }
        }
    }

    /// The alerts of each group; makes groups for those that fire and have none.
    fn members<'a>(&mut self, look: &Look<'a>) -> BTreeMap<String, Members<'a>> {
        let mut members: BTreeMap<String, Members<'a>> = BTreeMap::new();
        for shown in look.alerts.iter().filter(|shown| shown.alert.state != State::Pending) {
            let alert = &shown.alert;
            for route in route::taken(look.routes, alert) {
                let labels = route.group_labels(alert);
                for receiver in &route.receivers {
                    let key = format!("{}/{receiver}:{labels}", route.matchers);
                    if alert.is_firing() && !self.groups.contains_key(&key) {
                        self.groups.insert(key.clone(), Group::new(receiver, &labels));
                    }
                    let members = members.entry(key).or_default();
                    members.route = Some(route);
                    if alert.is_firing() {
                        members.firing.insert(alert.fingerprint, shown);
                    } else {
                        members.resolved.insert(alert.fingerprint, alert);
                    }
                }
            }
        }
        members
    }
}

#[derive(Default)]
struct Members<'a> {
    route: Option<&'a RouteConfig>,
    firing: BTreeMap<Fingerprint, &'a ShownAlert>,
    resolved: BTreeMap<Fingerprint, &'a Alert>,
}

impl Group {
    fn new(receiver: &str, labels: &Labels) -> Self {
        Self {
            receiver: receiver.to_owned(),
            labels: labels.clone(),
            waited: Duration::ZERO,
            is_new: true,
            interval: Duration::ZERO,
            told_since: Duration::ZERO,
            told: BTreeMap::new(),
            doubtful: BTreeSet::new(),
        }
    }

    /// Takes over what `group` was told of the alerts that are `mine`.
    fn inherit(&mut self, group: &mut Self, mine: impl Fn(&Fingerprint) -> bool) {
        let told = std::mem::take(&mut group.told).into_iter();
        let (inherited, left): (BTreeMap<_, _>, _) = told.partition(|(told, _)| mine(told));
        group.told = left;
        if self.told.is_empty() && !inherited.is_empty() {
            self.told_since = group.told_since;
        }
        for (told, alert) in inherited {
            if !self.told.contains_key(&told) && group.doubtful.contains(&told) {
                self.doubtful.insert(told);
            }
            self.told.entry(told).or_insert(alert);
        }
    }

    /// Takes in that the receiver may not know what was last to be said of `alert`.
    fn doubt(&mut self, alert: &Alert) {
        if self.told.contains_key(&alert.fingerprint) {
            self.doubtful.insert(alert.fingerprint);
        }
    }

    /// Whether the receiver is to be told that `alert` fires.
    fn is_news(&self, alert: &Alert) -> bool {
        !self.told.contains_key(&alert.fingerprint) || self.doubtful.contains(&alert.fingerprint)
    }

    /// All alerts to tell of, if there is reason to.
    fn changes(
        &mut self,
        members: &Members<'_>,
        look: &Look<'_>,
        repeat: Duration,
        wants_resolved: bool,
    ) -> Option<Vec<Alert>> {
        let firing = members.firing.values().filter(|shown| !shown.is_muted());
        let mut alerts: Vec<Alert> = firing.map(|shown| shown.alert.clone()).collect();
        let is_joined = alerts.iter().any(|alert| self.is_news(alert));
        let is_repeated = !alerts.is_empty() && self.told_since >= repeat;
        let over = self.told.iter().filter(|(told, _)| !members.firing.contains_key(told));
        let resolved: Vec<Alert> = over
            .map(|(told, alert)| match members.resolved.get(told) {
                Some(resolved) => (*resolved).clone(),
                // It was forgotten, or goes another way by now.
                None => {
                    let ends_at = alert.ends_at.or(Some(look.now));
                    Alert { state: State::Resolved, ends_at, ..alert.clone() }
                }
            })
            .collect();
        if !wants_resolved {
            self.told.retain(|told, _| members.firing.contains_key(told));
            self.doubtful.retain(|told| members.firing.contains_key(told));
        } else {
            alerts.extend(resolved);
        }
        let is_resolved = alerts.iter().any(|alert| !alert.is_firing());
        (is_joined || is_repeated || is_resolved).then_some(alerts)
    }

    /// As many alerts as are told of at once, firing ones first. Those that are over and those that
    /// are news go before what the receiver knows; what finds no room has its turn at the next
    /// interval.
    fn fitting(&self, alerts: Vec<Alert>) -> Vec<Alert> {
        let (mut firing, mut resolved): (Vec<_>, Vec<_>) =
            alerts.into_iter().partition(Alert::is_firing);
        firing.sort_by_key(|alert| (!self.is_news(alert), alert.labels.clone()));
        resolved.sort_by_key(|alert| alert.labels.clone());
        // One that fires keeps the whole from looking as if it were over.
        resolved.truncate(MAX_ALERTS - firing.len().min(1));
        firing.truncate(MAX_ALERTS - resolved.len());
        firing.sort_by_key(|alert| alert.labels.clone());
        firing.extend(resolved);
        firing
    }

    fn looked_at(&mut self) {
        self.waited = Duration::ZERO;
        self.is_new = false;
    }

    fn tell(&mut self, id: u64, key: &str, alerts: Vec<Alert>, now: DateTime<Utc>) -> Notification {
        let count = alerts.len();
        let alerts = self.fitting(alerts);
        self.looked_at();
        self.told_since = Duration::ZERO;
        for alert in &alerts {
            self.doubtful.remove(&alert.fingerprint);
            if alert.is_firing() {
                self.told.insert(alert.fingerprint, alert.outline());
            } else {
                self.told.remove(&alert.fingerprint);
            }
        }
        let truncated = count - alerts.len();
        Notification {
            id,
            receiver: self.receiver.clone(),
            group_key: key.to_owned(),
            group_labels: self.labels.clone(),
            alerts,
            truncated,
            created_at: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::tests::firing;

    const ROUTES: &str = "- {receivers: [ops], group_by: [alertname], group_wait: 10s, \
                          group_interval: 60s, repeat_interval: 1h}";

    /// Groups that are looked at every second.
    struct World {
        groups: Groups,
        routes: Vec<RouteConfig>,
        alerts: Vec<ShownAlert>,
        room: usize,
        wants_resolved: bool,
        second: i64,
    }

    impl World {
        fn new() -> Self {
            let routes = serde_saphyr::from_str(ROUTES).unwrap();
            let (groups, alerts) = Default::default();
            Self { groups, routes, alerts, room: 9, wants_resolved: true, second: 0 }
        }

        fn fire(&mut self, service: &str) {
            let alert = firing(&[("alertname", "Errors"), ("service", service)]);
            let (silenced_by, inhibited_by) = Default::default();
            self.alerts.push(ShownAlert { alert, silenced_by, inhibited_by });
        }

        fn resolve(&mut self, service: &str) {
            self.alert(service).alert.state = State::Resolved;
        }

        fn alert(&mut self, service: &str) -> &mut ShownAlert {
            let is_meant = |shown: &&mut ShownAlert| shown.alert.service() == service;
            self.alerts.iter_mut().find(is_meant).unwrap()
        }

        fn mute(&mut self, service: &str) {
            self.alert(service).silenced_by.push("deploy".to_owned());
        }

        /// What is told in the next `seconds`: the second, the services that fire, and those that
        /// are resolved.
        fn pass(&mut self, seconds: i64) -> Vec<(i64, String)> {
            let told = |notification: &Notification| {
                let name = |alert: &Alert| match alert.state {
                    State::Firing => alert.service().to_owned(),
                    _ => format!("-{}", alert.service()),
                };
                let names: Vec<_> = notification.alerts.iter().map(name).collect();
                (notification.created_at.timestamp(), names.join(" "))
            };
            self.notifications(seconds).iter().map(told).collect()
        }

        /// What is told in the next `seconds`.
        fn notifications(&mut self, seconds: i64) -> Vec<Notification> {
            let mut told = Vec::new();
            for _ in 0..seconds {
                self.second += 1;
                let look = Look {
                    alerts: &self.alerts,
                    routes: &self.routes,
                    now: DateTime::from_timestamp(self.second, 0).unwrap(),
                    elapsed: Duration::from_secs(1),
                };
                let (room, wants) = (self.room, self.wants_resolved);
                told.extend(self.groups.look(&look, |_| room, |_| wants));
            }
            told
        }
    }

    fn told(expected: &[(i64, &str)]) -> Vec<(i64, String)> {
        expected.iter().map(|(second, names)| (*second, (*names).to_owned())).collect()
    }

    #[test]
    fn a_new_group_waits_for_more_and_changes_wait_for_the_interval() {
        let mut world = World::new();
        world.fire("a");
        assert_eq!(world.pass(5), []);
        world.fire("b");
        assert_eq!(world.pass(10), told(&[(10, "a b")]));
        world.fire("c");
        assert_eq!(world.pass(60), told(&[(70, "a b c")]));
        assert_eq!(world.pass(600), [], "nothing new");
    }

    #[test]
    fn resolved_alerts_are_told_of_once_and_the_group_ends() {
        let mut world = World::new();
        world.fire("a");
        world.fire("b");
        world.pass(10);
        world.resolve("a");
        assert_eq!(world.pass(120), told(&[(70, "b -a")]));
        world.resolve("b");
        assert_eq!(world.pass(600), told(&[(190, "-b")]));
        assert!(world.groups.is_empty());
    }

    #[test]
    fn an_alert_that_was_resolved_before_anyone_was_told_is_not_told_of() {
        let mut world = World::new();
        world.fire("a");
        world.pass(5);
        world.resolve("a");
        assert_eq!(world.pass(600), []);
        assert!(world.groups.is_empty());
    }

    #[test]
    fn what_still_fires_is_told_of_again_after_the_repeat_interval() {
        let mut world = World::new();
        world.fire("a");
        assert_eq!(world.pass(10 + 3_600), told(&[(10, "a"), (3_610, "a")]));
    }

    #[test]
    fn muted_alerts_are_told_of_once_they_are_muted_no_more() {
        let mut world = World::new();
        world.fire("a");
        world.mute("a");
        assert_eq!(world.pass(100), []);
        world.alert("a").silenced_by.clear();
        assert_eq!(world.pass(60), told(&[(130, "a")]));
    }

    #[test]
    fn what_is_kept_of_alerts_that_were_told_of_does_not_grow_with_their_texts() {
        let mut world = World::new();
        world.fire("a");
        let annotations = &mut world.alert("a").alert.annotations;
        annotations.insert("summary".to_owned(), "a is down".to_owned());
        annotations.insert("description".to_owned(), "x".repeat(4_096));
        let told = world.notifications(10).remove(0);
        assert_eq!(told.alerts[0].annotations.len(), 2);
        let kept = serde_json::to_string(&world.groups).unwrap();
        assert!(kept.len() < 1_024 && kept.contains("a is down"), "{}", kept.len());
    }

    #[test]
    fn what_was_told_of_is_resolved_even_if_it_is_muted_or_forgotten() {
        let mut world = World::new();
        world.fire("a");
        world.fire("b");
        world.pass(10);
        world.mute("a");
        world.resolve("a");
        world.alerts.remove(1);
        assert_eq!(world.pass(60), told(&[(70, "-a -b")]));
    }

    #[test]
    fn a_receiver_without_room_is_told_later_of_what_is_then_the_case() {
        let mut world = World::new();
        world.fire("a");
        world.room = 0;
        assert_eq!(world.pass(100), []);
        world.fire("b");
        world.room = 1;
        assert_eq!(world.pass(1), told(&[(101, "a b")]));
    }

    #[test]
    fn a_receiver_that_wants_no_resolved_alerts_gets_none() {
        let mut world = World::new();
        world.wants_resolved = false;
        world.fire("a");
        world.fire("b");
        world.pass(10);
        world.resolve("a");
        assert_eq!(world.pass(600), []);
    }

    #[test]
    fn a_restart_tells_nothing_twice_and_the_missed_time_counts_for_repeats() {
        let mut world = World::new();
        world.fire("a");
        world.pass(10);
        let text = serde_json::to_string(&world.groups).unwrap();
        world.groups = serde_json::from_str(&text).unwrap();
        world.groups.resume(Duration::from_secs(3_000));
        assert_eq!(world.pass(599), []);
        assert_eq!(world.pass(61).len(), 1);
    }

    #[test]
    fn a_route_that_is_changed_neither_ends_alerts_nor_makes_them_news() {
        let mut world = World::new();
        world.fire("a");
        world.fire("b");
        world.pass(10);
        let changed = ROUTES.replace("[alertname]", "[service], match: ['service=~\".+\"']");
        world.routes = serde_saphyr::from_str(&changed).unwrap();
        assert_eq!(world.pass(600), []);
        world.resolve("b");
        assert_eq!(world.pass(60), told(&[(620, "-b")]));
        assert_eq!(world.pass(3_700), told(&[(3_620, "a")]), "repeats go on");
        let other = changed.replace("[ops]", "[others]");
        world.routes = serde_saphyr::from_str(&other).unwrap();
        let told = world.notifications(60);
        let named: Vec<_> = told.iter().map(|one| (&*one.receiver, one.status())).collect();
        assert_eq!(named, [("others", "firing"), ("ops", "resolved")], "another is told anew");
    }

    #[test]
    fn more_alerts_than_fit_are_told_of_one_interval_after_the_other() {
        let mut world = World::new();
        for n in 0..MAX_ALERTS + 50 {
            world.fire(&n.to_string());
        }
        let first = world.notifications(10).remove(0);
        assert_eq!((first.alerts.len(), first.truncated), (MAX_ALERTS, 50));
        let second = world.notifications(60).remove(0);
        assert_eq!((second.alerts.len(), second.truncated), (MAX_ALERTS, 50));
        let mut named = BTreeSet::new();
        named.extend(first.alerts.iter().chain(&second.alerts).map(|alert| alert.fingerprint));
        assert_eq!(named.len(), MAX_ALERTS + 50);
        assert_eq!(world.pass(600), [], "nothing is left");

        // Half are over: whoever was told of them is told so.
        (0..75).for_each(|n| world.resolve(&n.to_string()));
        let third = world.notifications(60).remove(0);
        let over = |one: &Notification| one.alerts.iter().filter(|it| !it.is_firing()).count();
        assert_eq!((over(&third), third.alerts.len(), third.truncated), (75, MAX_ALERTS, 50));
        assert_eq!(world.pass(600), []);
    }

    #[test]
    fn a_group_that_still_fires_does_not_look_as_if_it_were_over_however_many_are() {
        let mut world = World::new();
        for n in 0..MAX_ALERTS * 2 {
            world.fire(&n.to_string());
        }
        world.notifications(70);
        (1..MAX_ALERTS * 2).for_each(|n| world.resolve(&n.to_string()));
        let told = world.notifications(180);
        let counts: Vec<_> = told.iter().map(|one| (one.status(), one.alerts.len())).collect();
        assert_eq!(counts, [("firing", MAX_ALERTS), ("firing", MAX_ALERTS), ("firing", 2)]);
    }
}

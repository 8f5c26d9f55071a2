//! Three replicas, a network that loses, repeats and reorders, and what each
//! replica ought to read.
//!
//! Every event has a number; each replica and each message carries, beside the
//! object under test, the set of events it contains. What a replica reads must be
//! a function of that set alone, the model's specification (Burckhardt et al.,
//! *Replicated Data Types: Specification, Verification, Optimality*, POPL 2014).

use std::fmt::Debug;

use thalweg_causal::{Crdt, ReplicaId};

pub(crate) const REPLICAS: usize = 3;
const EVENTS_PER_REPLICA: usize = 21;

/// A set of events, one bit each.
pub(crate) type Events = u64;

#[derive(Clone, Debug)]
pub(crate) struct Event<O> {
    pub(crate) op: O,
    /// The writes that were live where and when this happened and that it replaced.
    pub(crate) overwrote: Events,
}

/// All events so far, by replica, in order.
#[derive(Clone, Debug)]
pub(crate) struct History<O>(pub(crate) [Vec<Event<O>>; REPLICAS]);

impl<O> History<O> {
    pub(crate) fn total(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    pub(crate) fn of(&self, replica: usize) -> Events {
        (0..self.0[replica].len()).fold(0, |events, index| events | bit(replica, index))
    }

    /// The events in `among`, each with its number.
    pub(crate) fn events(&self, among: Events) -> impl Iterator<Item = (u64, &Event<O>)> {
        (0..64).filter(move |number| among >> number & 1 == 1).map(|number| {
            let (replica, index) =
                (number as usize / EVENTS_PER_REPLICA, number as usize % EVENTS_PER_REPLICA);
            (number, &self.0[replica][index])
        })
    }

    /// `among` without what others in `among` overwrote.
    pub(crate) fn live(&self, among: Events) -> Events {
        self.events(among).fold(among, |live, (_, event)| live & !event.overwrote)
    }
}

fn bit(replica: usize, index: usize) -> Events {
    1 << (replica * EVENTS_PER_REPLICA + index)
}

pub(crate) trait Model {
    type Object: Crdt + Debug;
    type Op: Copy + Debug + 'static;
    type View: Eq + Debug;
    const OPS: &'static [Self::Op];
    /// Whether replicas are interchangeable, so that it is enough to explore
    /// worlds in which they make their first events in order.
    const SYMMETRIC: bool = true;

    /// Performs `op` as event `number` and returns the delta.
    fn apply(
        object: &mut Self::Object,
        op: Self::Op,
        replica: ReplicaId,
        number: u64,
    ) -> Self::Object;

    fn read(object: &Self::Object) -> Self::View;

    /// What a replica with these events must read.
    fn specification(history: &History<Self::Op>, events: Events) -> Self::View;

    /// Which of the `live` writes `op` replaces.
    fn overwrites(_: &History<Self::Op>, _: Self::Op, _live: Events) -> Events {
        0
    }

    /// The events in the delta of the latest event of `replica`, whose bit is
    /// `this` and which now has `seen`.
    fn carried(_: &History<Self::Op>, _replica: usize, this: Events, _seen: Events) -> Events {
        this
    }

    fn is_enabled(_: &History<Self::Op>, _: Self::Op, _replica: usize, _seen: Events) -> bool {
        true
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The replica performs the operation at this position of [`Model::OPS`].
    Perform { replica: usize, op: usize },
    /// The message at this position arrives; it stays in the network.
    Deliver { message: usize, to: usize },
    /// A full state is copied now.
    Sync { from: usize, to: usize },
}

pub(crate) struct World<M: Model> {
    pub(crate) objects: [M::Object; REPLICAS],
    pub(crate) seen: [Events; REPLICAS],
    pub(crate) history: History<M::Op>,
    /// Deltas and full states ever sent, each with the events in it.
    pub(crate) messages: Vec<(M::Object, Events)>,
    trace: Vec<Step>,
}

impl<M: Model> Clone for World<M> {
    fn clone(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            seen: self.seen,
            history: self.history.clone(),
            messages: self.messages.clone(),
            trace: self.trace.clone(),
        }
    }
}

impl<M: Model> World<M> {
    pub(crate) fn new() -> Self {
        Self {
            objects: Default::default(),
            seen: [0; REPLICAS],
            history: History(Default::default()),
            messages: Vec::new(),
            trace: Vec::new(),
        }
    }

    /// All that can happen next, with at most `max_events` events in all, of the
    /// first `ops` operations.
    pub(crate) fn steps(&self, max_events: usize, ops: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let started = self.history.0.iter().take_while(|events| !events.is_empty()).count();
        for replica in 0..REPLICAS {
            let in_order = replica <= started || !M::SYMMETRIC;
            for op in 0..ops.min(M::OPS.len()) {
                let has_room = self.history.total() < max_events;
                if in_order && has_room && self.can_perform(replica, op) {
                    steps.push(Step::Perform { replica, op });
                }
            }
            let deliveries = 0..self.messages.len();
            steps.extend(deliveries.map(|message| Step::Deliver { message, to: replica }));
            let peers = (0..REPLICAS).filter(|peer| *peer != replica);
            steps.extend(peers.map(|from| Step::Sync { from, to: replica }));
        }
        steps
    }

    pub(crate) fn can_perform(&self, replica: usize, op: usize) -> bool {
        self.history.0[replica].len() < EVENTS_PER_REPLICA
            && M::is_enabled(&self.history, M::OPS[op], replica, self.seen[replica])
    }

    /// Takes one step and checks what must hold of every step.
    pub(crate) fn take(&mut self, step: Step) {
        self.trace.push(step);
        match step {
            Step::Perform { replica, op } => self.perform(replica, M::OPS[op]),
            Step::Deliver { message, to } => {
                let (object, events) = self.messages[message].clone();
                self.receive(to, &object, events);
            }
            Step::Sync { from, to } => {
                let object = self.objects[from].clone();
                self.receive(to, &object, self.seen[from]);
            }
        }
    }

    fn perform(&mut self, replica: usize, op: M::Op) {
        let index = self.history.0[replica].len();
        let this = bit(replica, index);
        let live = self.history.live(self.seen[replica]);
        let overwrote = M::overwrites(&self.history, op, live);
        self.history.0[replica].push(Event { op, overwrote });
        self.seen[replica] |= this;

        let before = self.objects[replica].clone();
        let number = u64::from(this.trailing_zeros());
        let object = &mut self.objects[replica];
        let delta = M::apply(object, op, ReplicaId(replica as u64), number);
        let after = object.clone();

        let mut by_delta = before.clone();
        let changed = by_delta.merge(&delta);
        assert_eq!(by_delta, after, "delta equals state: {self:?}");
        assert_eq!(changed, before != after, "merge tells whether it changed: {self:?}");
        self.check_grown(&before, &after);
        self.check_read(replica);

        if delta != M::Object::default() {
            let carried = M::carried(&self.history, replica, this, self.seen[replica]);
            self.messages.push((delta, carried));
        }
        self.messages.push((after, self.seen[replica]));
    }

    fn receive(&mut self, to: usize, object: &M::Object, events: Events) {
        let before = self.objects[to].clone();
        let changed = self.objects[to].merge(object);
        self.seen[to] |= events;
        let after = self.objects[to].clone();
        assert_eq!(changed, before != after, "merge tells whether it changed: {self:?}");
        assert!(!self.objects[to].merge(object), "a duplicate changes nothing: {self:?}");
        self.check_grown(&before, &after);
        self.check_read(to);
    }

    fn check_grown(&self, before: &M::Object, after: &M::Object) {
        assert!(!after.clone().merge(before), "the state only grows: {self:?}");
    }

    fn check_read(&self, replica: usize) {
        assert_eq!(
            M::read(&self.objects[replica]),
            M::specification(&self.history, self.seen[replica]),
            "replica {replica} reads what it has seen: {self:?}"
        );
    }

    /// Checks what must hold between replicas.
    pub(crate) fn check_laws(&self) {
        let join = |left: &M::Object, right: &M::Object| {
            let mut joined = left.clone();
            joined.merge(right);
            joined
        };
        let [a, b, c] = &self.objects;
        let all = join(&join(a, b), c);
        for (x, y) in [(a, b), (b, c), (c, a)] {
            assert_eq!(join(x, y), join(y, x), "merge commutes: {self:?}");
        }
        assert_eq!(all, join(a, &join(b, c)), "merge associates: {self:?}");
        assert_eq!(all, join(b, &join(c, a)), "merge associates: {self:?}");
        assert_eq!(join(a, a), *a, "merge is idempotent: {self:?}");
        let seen = self.seen.iter().fold(0, |all, seen| all | seen);
        assert_eq!(
            M::read(&all),
            M::specification(&self.history, seen),
            "all together read all events: {self:?}"
        );
        for object in &self.objects {
            assert_eq!(
                M::Object::from_bytes(&object.to_bytes()).as_ref(),
                Ok(object),
                "bytes keep the state: {self:?}"
            );
        }
        for (left, right) in [(0, 1), (1, 2), (2, 0)] {
            if self.seen[left] == seen && self.seen[right] == seen {
                assert_eq!(
                    M::read(&self.objects[left]),
                    M::read(&self.objects[right]),
                    "replicas with the same events agree: {self:?}"
                );
            }
        }
    }
}

impl<M: Model> Debug for World<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "after these steps:")?;
        for step in &self.trace {
            match step {
                Step::Perform { replica, op } => {
                    writeln!(f, "  replica {replica} performs {:?}", M::OPS[*op])?;
                }
                other => writeln!(f, "  {other:?}")?,
            }
        }
        write!(f, "{:#?}", self.objects)
    }
}

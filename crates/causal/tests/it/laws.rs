//! The laws on long random histories; what holds is checked in `world`.

use proptest::prelude::*;

use crate::{
    models,
    world::{Model, REPLICAS, Step, World},
};

/// Half of the steps are operations, as far as they are allowed.
fn run<M: Model>(choices: &[(u8, u8, u8)]) {
    let mut world = World::<M>::new();
    for &(kind, what, whom) in choices {
        let (what, replica) = (usize::from(what), usize::from(whom) % REPLICAS);
        let op = what % M::OPS.len();
        if kind % 2 == 0 && world.can_perform(replica, op) {
            world.take(Step::Perform { replica, op });
        } else if kind % 4 == 1 && !world.messages.is_empty() {
            let message = what % world.messages.len();
            world.take(Step::Deliver { message, to: replica });
        } else {
            world.take(Step::Sync { from: (replica + 1 + what % 2) % REPLICAS, to: replica });
        }
    }
    world.check_laws();
}

macro_rules! laws {
    ($($name:ident: $model:ident;)*) => {proptest! {$(
        #[test]
        fn $name(choices in prop::collection::vec(any::<(u8, u8, u8)>(), 1..60)) {
            run::<models::$model>(&choices);
        }
    )*}};
}

laws! {
    grow_only_counter: GrowOnly;
    up_and_down_counter: UpAndDown;
    last_writer_register: LastWriter;
    enable_wins_flag: EnableWins;
    multi_value_register: MultiValue;
    add_wins_set: AddWins;
    map_of_registers: MapOfRegisters;
    map_of_sets: NestedSets;
    dotted_version_vectors: DottedVersions;
}

//! Numbered slots that nodes occupy, one per unit of weight.

use alloc::vec::Vec;

use crate::membership::Membership;

/// A slot that nobody occupies.
pub(crate) const FREE: u32 = u32::MAX;

/// One slot per unit of weight, in order of id.
pub(crate) fn assign(membership: &Membership) -> Vec<u32> {
    let units = |(index, node): (usize, &crate::Node)| {
        core::iter::repeat_n(index as u32, node.weight() as usize)
    };
    membership.iter().enumerate().flat_map(units).collect()
}

/// The old slots with the new membership's indices: who stays keeps its slots,
/// as many as its weight still allows, and newcomers take the lowest free ones.
/// Units that found no free slot come back second.
pub(crate) fn reassign(owners: &[u32], old: &Membership, new: &Membership) -> (Vec<u32>, Vec<u32>) {
    let renamed: Vec<Option<usize>> = old.iter().map(|node| new.index_of(node.id())).collect();
    let mut missing: Vec<u32> = new.iter().map(|node| node.weight()).collect();
    let mut slots: Vec<u32> = owners
        .iter()
        .map(|owner| {
            let index = renamed.get(*owner as usize).copied().flatten();
            match index.filter(|index| missing[*index] > 0) {
                Some(index) => {
                    missing[index] -= 1;
                    index as u32
                }
                None => FREE,
            }
        })
        .collect();
    let mut units = missing
        .iter()
        .enumerate()
        .flat_map(|(index, units)| core::iter::repeat_n(index as u32, *units as usize));
    for slot in slots.iter_mut().filter(|slot| **slot == FREE) {
        match units.next() {
            Some(unit) => *slot = unit,
            None => break,
        }
    }
    (slots, units.collect())
}

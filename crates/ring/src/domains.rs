//! Failure domains: which zone and rack a next copy should go to.

use alloc::vec::Vec;

use crate::membership::Membership;

/// Copies that a node's zone and its rack already hold; less is better.
pub(crate) type Level = (usize, usize);

#[derive(Clone, Copy)]
struct Place {
    zone: u32,
    rack: u32,
}

/// Zones and racks of a membership, numbered.
pub(crate) struct Domains {
    /// By node index.
    places: Vec<Place>,
    zone_nodes: Vec<u32>,
    zone_racks: Vec<u32>,
    rack_nodes: Vec<u32>,
}

impl Domains {
    pub(crate) fn new(membership: &Membership) -> Self {
        let mut order: Vec<usize> = (0..membership.len()).collect();
        let name = |index: usize| (membership[index].zone(), membership[index].rack());
        order.sort_unstable_by_key(|index| name(*index));

        let mut domains = Self {
            places: alloc::vec![Place { zone: 0, rack: 0 }; membership.len()],
            zone_nodes: Vec::new(),
            zone_racks: Vec::new(),
            rack_nodes: Vec::new(),
        };
        let mut last = None;
        for index in order {
            let (zone, rack) = name(index);
            if last.map(|(zone, _)| zone) != Some(zone) {
                domains.zone_nodes.push(0);
                domains.zone_racks.push(0);
            }
            let zone_number = domains.zone_nodes.len() - 1;
            if last != Some((zone, rack)) {
                domains.rack_nodes.push(0);
                domains.zone_racks[zone_number] += 1;
            }
            let rack_number = domains.rack_nodes.len() - 1;
            domains.zone_nodes[zone_number] += 1;
            domains.rack_nodes[rack_number] += 1;
            domains.places[index] = Place { zone: zone_number as u32, rack: rack_number as u32 };
            last = Some((zone, rack));
        }
        domains
    }

    /// How crowded with `chosen` the node's domains are.
    pub(crate) fn level(&self, node: usize, chosen: &[usize]) -> Level {
        let Place { zone, rack } = self.places[node];
        let in_zone = chosen.iter().filter(|other| self.places[**other].zone == zone).count();
        let in_rack = chosen.iter().filter(|other| self.places[**other].rack == rack).count();
        (in_zone, in_rack)
    }

    /// The least crowded level at which a node that is not `chosen` exists. At
    /// least one node must be left. O(chosen³), of a handful.
    pub(crate) fn next_level(&self, chosen: &[usize]) -> Level {
        let zone = |node: &usize| self.places[*node].zone as usize;
        let rack = |node: &usize| self.places[*node].rack as usize;
        if firsts(chosen, zone).count() < self.zone_nodes.len() {
            return (0, 0);
        }
        // Every zone has a copy, so every zone is some chosen node's.
        let zone_copies = |node: &usize| self.level(*node, chosen).0;
        let zone_is_open = |node: &usize| self.zone_nodes[zone(node)] as usize > zone_copies(node);
        let in_zone = chosen
            .iter()
            .filter(|node| zone_is_open(node))
            .map(zone_copies)
            .min()
            .expect("a node is left, so its zone is open");

        let is_inside = |node: &usize| zone_is_open(node) && zone_copies(node) == in_zone;
        let racks = firsts(chosen, rack).filter(|node| is_inside(node)).count();
        let zones_inside = firsts(chosen, zone).filter(|node| is_inside(node));
        let all_racks: u32 = zones_inside.map(|node| self.zone_racks[zone(node)]).sum();
        if racks < all_racks as usize {
            return (in_zone, 0);
        }
        let rack_copies = |node: &usize| self.level(*node, chosen).1;
        let in_rack = chosen
            .iter()
            .filter(|node| is_inside(node))
            .filter(|node| self.rack_nodes[rack(node)] as usize > rack_copies(node))
            .map(rack_copies)
            .min()
            .expect("an open zone has an open rack");
        (in_zone, in_rack)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.places)
            + size_of_val(&*self.zone_nodes)
            + size_of_val(&*self.zone_racks)
            + size_of_val(&*self.rack_nodes)
    }
}

/// The first of the chosen nodes in each domain.
fn firsts<'a>(
    chosen: &'a [usize],
    domain: impl Fn(&usize) -> usize + 'a,
) -> impl Iterator<Item = &'a usize> {
    let is_first = move |at: usize| !chosen[..at].iter().any(|n| domain(n) == domain(&chosen[at]));
    chosen.iter().enumerate().filter(move |(at, _)| is_first(*at)).map(|(_, node)| node)
}

//! Four sentences about `registry.rs`. The expected values come from a map, the acts from a seed.

use std::collections::HashMap;

use kit::{refuse, same, seeds};

#[path = "registry.rs"]
#[allow(clippy::all, dead_code)]
#[rustfmt::skip]
mod registry;

use registry::{Id, Registry};

#[test]
fn places_are_used_again() {
    let mut ours = Registry::new();
    for value in 0..1000 {
        let id = ours.insert(value);
        ours.remove(id);
    }
    same(ours.places(), 1, "A thousand insertions, each removed before the next, need one place.");
}

#[test]
fn what_was_inserted_is_found_under_its_id_and_nothing_else_is() {
    seeds(200, |seed| {
        let (mut ours, mut model) = (Registry::new(), HashMap::<Id, u64>::new());
        let mut ids: Vec<Id> = Vec::new();
        for act in 0..1000 {
            if seed.below(3) > 0 || ids.is_empty() {
                let id = ours.insert(act);
                if model.insert(id, act).is_some() {
                    refuse(&format!("Act {act}: {id:?} names two values at once."));
                }
                ids.push(id);
            } else {
                let id = seed.pick(&ids);
                let what = format!("Act {act}: remove({id:?}) gives the value of that insertion.");
                same(ours.remove(id), model.remove(&id), &what);
            }
            let id = seed.pick(&ids);
            let what = format!("Act {act}: get({id:?}) finds the value of that insertion.");
            same(ours.get(id).copied(), model.get(&id).copied(), &what);
            same(ours.len(), model.len(), &format!("Act {act}: len() counts the values."));
        }
    });
}

#[test]
fn an_old_id_is_refused_after_70_000_uses_of_its_place() {
    let mut ours = Registry::new();
    let first = ours.insert(0);
    ours.remove(first);
    for value in 1..70_000 {
        let id = ours.insert(value);
        let what = format!("The first id is old; it must not find value {value}.");
        same(ours.get(first).copied(), None, &what);
        ours.remove(id);
    }
}

#[test]
fn a_place_that_is_freed_twice_is_free_once() {
    let mut ours = Registry::new();
    let first = ours.insert('a');
    same(ours.remove(first), Some('a'), "The first remove gives the value.");
    same(ours.remove(first), None, "The second remove finds nothing.");
    let (second, third) = (ours.insert('b'), ours.insert('c'));
    same(ours.get(second).copied(), Some('b'), "The next value has a place of its own.");
    same(ours.get(third).copied(), Some('c'), "The one after it has another.");
}

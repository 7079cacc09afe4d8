//! The tables: places and names as small numbers, the same for the loop and for every page.
//!
//! Knows places and the names of types; never forgets one. The loop's thread looks a place up for
//! each record: nearly always in a cache of its own, by the address of the file's name and the line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reactor::Place;

/// The number of what finds no room: a table has as many entries as a `u16` can number.
pub const ELSEWHERE: u16 = 0;

/// Entries of the cache; a power of two. A program of a thousand lines has fewer places.
const CACHED: usize = 512;

/// What was numbered so far. Pages read it; the loop's thread adds to it.
#[derive(Debug, Default)]
pub struct Tables {
    pub places: Vec<(&'static str, u32)>,
    pub names: Vec<&'static str>,
    place_numbers: HashMap<(&'static str, u32), u16>,
    name_numbers: HashMap<&'static str, u16>,
}

impl Tables {
    fn number_of_place(&mut self, place: (&'static str, u32)) -> u16 {
        let add = || push(&mut self.places, place);
        *self.place_numbers.entry(place).or_insert_with(add)
    }

    fn number_of_name(&mut self, name: &'static str) -> u16 {
        *self.name_numbers.entry(name).or_insert_with(|| push(&mut self.names, name))
    }
}

/// The tables, shared between the threads.
#[derive(Clone, Debug)]
pub struct SharedTables(Arc<Mutex<Tables>>);

impl SharedTables {
    pub fn new() -> SharedTables {
        let mut tables = Tables::default();
        tables.number_of_place(("elsewhere", 0));
        tables.number_of_name("?");
        SharedTables(Arc::new(Mutex::new(tables)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's side, on the loop's thread.
#[derive(Debug)]
pub struct Numbers {
    tables: SharedTables,
    cache: Box<[(usize, u32, u16)]>,
}

impl Numbers {
    pub fn new(tables: SharedTables) -> Numbers {
        Numbers { tables, cache: vec![(0, 0, ELSEWHERE); CACHED].into() }
    }

    pub fn of_place(&mut self, place: Place) -> u16 {
        let (file, line) = (place.file(), place.line());
        let address = file.as_ptr().addr();
        let at = (address >> 4).wrapping_add(line as usize) % CACHED;
        let (known, of_line, number) = self.cache[at];
        if (known, of_line) == (address, line) {
            return number;
        }
        let number = self.tables.lock().number_of_place((file, line));
        self.cache[at] = (address, line, number);
        number
    }

    pub fn of_name(&mut self, name: &'static str) -> u16 {
        self.tables.lock().number_of_name(name)
    }
}

fn push<T>(list: &mut Vec<T>, entry: T) -> u16 {
    match u16::try_from(list.len()) {
        Ok(number) => {
            list.push(entry);
            number
        }
        Err(_) => ELSEWHERE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_and_name_has_one_number_also_for_the_next_loop() {
        let tables = SharedTables::new();
        let mut numbers = Numbers::new(tables.clone());
        let places = [Place::caller(), Place::caller()];
        let one: Vec<u16> = places.iter().map(|place| numbers.of_place(*place)).collect();
        assert_eq!(one, [1, 1], "a line is a place");
        let there = Place::caller();
        assert_eq!((numbers.of_place(there), numbers.of_place(there)), (2, 2));
        assert_eq!((numbers.of_name("a"), numbers.of_name("b"), numbers.of_name("a")), (1, 2, 1));
        let mut next = Numbers::new(tables.clone());
        let meanwhile = Place::caller();
        assert_eq!((numbers.of_place(meanwhile), next.of_place(meanwhile)), (3, 3));
        assert_eq!((next.of_place(there), next.of_name("b"), next.of_name("c")), (2, 2, 3));
        assert_eq!(tables.lock().names, ["?", "a", "b", "c"]);
        assert_eq!(tables.lock().places[2], (there.file(), there.line()));
    }

    #[test]
    fn full_table_numbers_the_rest_as_elsewhere() {
        let mut list = Vec::new();
        let numbers: Vec<u16> = (0..70_000).map(|n| push(&mut list, n)).collect();
        assert_eq!((list.len(), numbers[65_535], numbers[65_536]), (65_536, 65_535, ELSEWHERE));
    }
}

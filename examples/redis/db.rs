//! The keys and their values: what they are, when they end, and how much memory they need.
//!
//! Knows no client and no loop; the time is a parameter. Nothing here waits, and a callback runs to
//! its end. So no two commands are ever half done at once, and nothing needs a lock.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use slab::Slab;
use waterwheel::timers::{TimerId, Wheel};

use super::sorted::Sorted;

pub type Bytes = Box<[u8]>;
/// Shared, because a key stands in several tables.
pub type Key = Rc<[u8]>;

/// What a key or an element counts beside its bytes: about what its places in the tables take.
pub const COST_BYTES: usize = 96;

/// The result of a command. An error is in the words of Redis, by which clients know it.
pub type Done<T = ()> = Result<T, &'static str>;

pub const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

#[derive(Debug)]
pub enum Value {
    String(Vec<u8>),
    List(VecDeque<Bytes>),
    Hash(HashMap<Bytes, Bytes>),
    Set(HashSet<Bytes>),
    Sorted(Sorted),
}

impl Value {
    pub fn name(&self) -> &'static str {
        match self {
            Value::String(_) => "string",
            Value::List(_) => "list",
            Value::Hash(_) => "hash",
            Value::Set(_) => "set",
            Value::Sorted(_) => "zset",
        }
    }

    /// Returns true if its key ends: a collection without elements is none.
    fn is_over(&self) -> bool {
        match self {
            Value::String(_) => false,
            Value::List(list) => list.is_empty(),
            Value::Hash(hash) => hash.is_empty(),
            Value::Set(set) => set.is_empty(),
            Value::Sorted(sorted) => sorted.is_empty(),
        }
    }
}

/// What a command has done to a value.
#[derive(Default)]
pub struct Change {
    /// True if there was no value before.
    pub is_new: bool,
    is_made: bool,
    bytes: isize,
}

impl Change {
    /// An element of so many bytes has come.
    pub fn added(&mut self, bytes: usize) {
        self.resized(0, bytes + COST_BYTES);
    }

    /// An element of so many bytes has gone.
    pub fn removed(&mut self, bytes: usize) {
        self.resized(bytes + COST_BYTES, 0);
    }

    /// Bytes became others.
    pub fn resized(&mut self, from: usize, to: usize) {
        self.is_made = true;
        self.bytes += to as isize - from as isize;
    }
}

struct Entry {
    key: Key,
    value: Value,
    /// What it counts, its key included.
    bytes: usize,
    /// When it ends, in milliseconds since 1970, and its timer in the wheel.
    end: Option<(i64, TimerId)>,
}

/// All keys.
#[derive(Default)]
pub struct Db {
    /// By number, so that a SCAN, which comes again with the last number, meets all that stay.
    entries: Slab<Entry>,
    numbers: HashMap<Key, usize>,
    /// The ends of keys, by number.
    ends: Wheel<usize>,
    /// The time of this turn, in milliseconds since 1970.
    pub now_ms: i64,
    /// What all entries count.
    pub used_bytes: usize,
    /// The keys that clients watch: how many do, and how often it was changed since.
    watched: HashMap<Key, (usize, u64)>,
    /// The lists that clients wait for, and those among them that have elements now.
    pub awaited: HashSet<Key>,
    pub filled: Vec<Key>,
    pub expired: u64,
}

/// For each kind of value: a look at it, and a change of it.
macro_rules! kinds {
    ($($look:ident, $edit:ident: $kind:ident($type:ty);)*) => { $(
        pub fn $look(&mut self, key: &[u8]) -> Done<Option<&mut $type>> {
            match self.find(key).map(|at| &mut self.entries[at].value) {
                Some(Value::$kind(value)) => Ok(Some(value)),
                Some(_) => Err(WRONG_TYPE),
                None => Ok(None),
            }
        }

        /// Changes the value; it is empty if there was none.
        pub fn $edit<T>(
            &mut self,
            key: &[u8],
            change: impl FnOnce(&mut $type, &mut Change) -> Done<T>,
        ) -> Done<T> {
            self.edit(key, || Value::$kind(Default::default()), |value, by| match value {
                Value::$kind(value) => change(value, by),
                _ => Err(WRONG_TYPE),
            })
        }
    )* };
}

impl Db {
    kinds! {
        string, edit_string: String(Vec<u8>);
        list, edit_list: List(VecDeque<Bytes>);
        hash, edit_hash: Hash(HashMap<Bytes, Bytes>);
        set, edit_set: Set(HashSet<Bytes>);
        sorted, edit_sorted: Sorted(Sorted);
    }

    /// The number of a key. One whose end has come is none, even if its timer was not looked at
    /// yet.
    fn find(&mut self, key: &[u8]) -> Option<usize> {
        let at = *self.numbers.get(key)?;
        if self.entries[at].end.is_some_and(|(end, _)| end <= self.now_ms) {
            self.end(at);
            return None;
        }
        Some(at)
    }

    pub fn value(&mut self, key: &[u8]) -> Option<&Value> {
        self.find(key).map(|at| &self.entries[at].value)
    }

    fn edit<T>(
        &mut self,
        key: &[u8],
        make: impl FnOnce() -> Value,
        act: impl FnOnce(&mut Value, &mut Change) -> Done<T>,
    ) -> Done<T> {
        let found = self.find(key);
        let at = found.unwrap_or_else(|| self.insert(key.into(), make()));
        let mut change = Change { is_new: found.is_none(), ..Change::default() };
        let entry = &mut self.entries[at];
        let done = act(&mut entry.value, &mut change);
        entry.bytes = entry.bytes.wrapping_add_signed(change.bytes);
        self.used_bytes = self.used_bytes.wrapping_add_signed(change.bytes);
        if change.is_made {
            self.touch(at);
        }
        let fresh_and_wrong = found.is_none() && done.is_err();
        if fresh_and_wrong || self.entries[at].value.is_over() {
            self.remove_at(at);
        }
        done
    }

    fn insert(&mut self, key: Key, value: Value) -> usize {
        let bytes = key.len() + COST_BYTES;
        self.used_bytes += bytes;
        let at = self.entries.insert(Entry { key: key.clone(), value, bytes, end: None });
        self.numbers.insert(key, at);
        at
    }

    /// Sets a key to a string, whatever it was; `keep_end` keeps its end.
    pub fn set_string(&mut self, key: &[u8], text: &[u8], keep_end: bool) {
        let at = match self.find(key) {
            Some(at) => at,
            None => self.insert(key.into(), Value::String(Vec::new())),
        };
        if !keep_end {
            self.set_end(at, None);
        }
        let entry = &mut self.entries[at];
        match &mut entry.value {
            // Its memory is used again.
            Value::String(old) => {
                old.clear();
                old.extend_from_slice(text);
            }
            other => *other = Value::String(text.to_vec()),
        }
        let bytes = entry.key.len() + COST_BYTES + text.len();
        self.used_bytes = self.used_bytes - entry.bytes + bytes;
        entry.bytes = bytes;
        self.touch(at);
    }

    /// Notes that a key was changed: for who watches it, and who waits for its elements.
    fn touch(&mut self, at: usize) {
        let key = &self.entries[at].key;
        if !self.watched.is_empty()
            && let Some((_, version)) = self.watched.get_mut(key)
        {
            *version += 1;
        }
        if !self.awaited.is_empty() && self.awaited.contains(key) {
            self.filled.push(key.clone());
        }
    }

    pub fn remove(&mut self, key: &[u8]) -> bool {
        let Some(at) = self.find(key) else { return false };
        self.touch(at);
        self.remove_at(at);
        true
    }

    fn remove_at(&mut self, at: usize) -> Value {
        self.set_end(at, None);
        let entry = self.entries.remove(at);
        self.numbers.remove(&entry.key);
        self.used_bytes -= entry.bytes;
        entry.value
    }

    /// The end of a key has come.
    fn end(&mut self, at: usize) {
        self.expired += 1;
        self.touch(at);
        self.remove_at(at);
    }

    /// Moves a value to another key, over what was there.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Done {
        let at = self.find(from).ok_or("ERR no such key")?;
        if from == to {
            return Ok(());
        }
        self.touch(at);
        let (end, bytes) = (self.entries[at].end.map(|(end, _)| end), self.entries[at].bytes);
        let value = self.remove_at(at);
        self.remove(to);
        let at = self.insert(to.into(), value);
        let entry = &mut self.entries[at];
        let grown = bytes - from.len() - COST_BYTES;
        (entry.bytes, self.used_bytes) = (entry.bytes + grown, self.used_bytes + grown);
        self.set_end(at, end);
        self.touch(at);
        Ok(())
    }

    pub fn clear(&mut self) {
        let (now_ms, expired) = (self.now_ms, self.expired);
        let mut watched = std::mem::take(&mut self.watched);
        watched.values_mut().for_each(|(_, version)| *version += 1);
        let awaited = std::mem::take(&mut self.awaited);
        *self = Db { now_ms, expired, watched, awaited, ..Db::default() };
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many keys have an end.
    pub fn ends(&self) -> usize {
        self.ends.len()
    }

    /// When a key ends; `Some(None)` if it has no end, `None` if there is no such key.
    pub fn end_of(&mut self, key: &[u8]) -> Option<Option<i64>> {
        self.find(key).map(|at| self.entries[at].end.map(|(end, _)| end))
    }

    /// Lets a key end at that time, or never. Returns false if there is no such key.
    pub fn end_at(&mut self, key: &[u8], end_ms: Option<i64>) -> bool {
        let Some(at) = self.find(key) else { return false };
        self.touch(at);
        self.set_end(at, end_ms);
        self.find(key); // In the past is now.
        true
    }

    fn set_end(&mut self, at: usize, end_ms: Option<i64>) {
        let entry = &mut self.entries[at];
        if let Some((_, timer)) = entry.end.take() {
            self.ends.cancel(timer);
        }
        entry.end = end_ms.map(|end| (end, self.ends.insert(end.max(0) as u64, at)));
    }

    /// Removes keys whose end has come, this many at most.
    pub fn expire(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let Some(timer) = self.ends.expire(self.now_ms.max(0) as u64) else { break };
            if let Some(at) = self.ends.cancel(timer) {
                self.entries[at].end = None;
                self.end(at);
            }
        }
    }

    /// When to call [`expire`](Db::expire) next.
    pub fn next_end_ms(&self) -> Option<i64> {
        self.ends.next_deadline().map(|end| end as i64)
    }

    /// Keys from a number on, and the number from which to go on: 0 at the end.
    pub fn scan(&self, from: usize, count: usize) -> (Vec<Key>, usize) {
        let is_alive = |entry: &Entry| entry.end.is_none_or(|(end, _)| end > self.now_ms);
        let mut keys = Vec::new();
        // Numbers may be free, so the work is bounded by them and not by the keys found.
        let last = from.saturating_add(count.max(1));
        for at in from..last.min(self.entries.capacity()) {
            keys.extend(
                self.entries.get(at).filter(|entry| is_alive(entry)).map(|e| e.key.clone()),
            );
        }
        (keys, if last < self.entries.capacity() { last } else { 0 })
    }

    /// Begins to count the changes of a key; returns the number that it has now.
    pub fn watch(&mut self, key: &[u8]) -> (Key, u64) {
        let key: Key = key.into();
        self.find(&key);
        let (watchers, version) = self.watched.entry(key.clone()).or_default();
        *watchers += 1;
        (key, *version)
    }

    /// Ends a watch. Returns true if the key was not changed since.
    pub fn unwatch(&mut self, (key, seen): &(Key, u64)) -> bool {
        self.find(key); // Its end is a change.
        let Some((watchers, version)) = self.watched.get_mut(key) else { return false };
        *watchers -= 1;
        let same = version == seen;
        if *watchers == 0 {
            self.watched.remove(key);
        }
        same
    }

    /// All keys with their values and ends, for a snapshot.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Value, Option<i64>)> {
        let all = self.entries.iter();
        all.map(|(_, entry)| (&entry.key, &entry.value, entry.end.map(|(end, _)| end)))
    }
}

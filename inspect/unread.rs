//! Unread input: sources of the program's own that have stopped reading before `WouldBlock`.
//!
//! Knows records, and what the kernel says waits for a source (`kernel.rs`). A source that leaves
//! input unread is not called for it again, since polling is edge-triggered (`../reactor/poll.rs`). No
//! record shows that: the loop does not see what a source reads from its descriptor. So the page's
//! thread asks the kernel, twice a second while there is a page.
//!
//! # Rules
//! A source is found if all of this holds at each look for [`UNREAD`]:
//! 1. It is not of a type of this library: those read by themselves, or are paused on purpose.
//! 2. Input waits for it, and nothing reads it: the input does not become less.
//! 3. Its callback does not run, and no event for it is in the queue.
//! 4. The loop polls, or sleeps in a poll. (It does not stand at the gate, or in another callback.)
//!
//! The kernel is asked only if there is a source for which 1 and 3 hold, and less often if its lists
//! are long: with 9,000 descriptors they take 50 ms, and for 14 of them a poll has to wait.
//!
//! # Read next
//! `doctor.rs`: what else is found.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::kernel::{Id, Input, Selector};
use super::ring::Packed;
use super::tables::SharedTables;
use crate::reactor::Kind;
use crate::timers::Clock;

/// Input that has been waiting unread for so long was left by a source that was not drained.
pub const UNREAD: Duration = Duration::from_secs(1);
/// Ticks of the page's thread from one look to the next: half a second, so that three looks see it.
pub const TICKS_PER_LOOK: u64 = 15;
/// After a look the kernel is left alone for so many times as long as the look took, but not for longer
/// than this.
const REST: u32 = 20;
const REST_MAX: Duration = Duration::from_secs(2);
/// Sources that are known at a time. One more is left out until others have gone.
const KNOWN_MAX: usize = 16_384;

/// The sources of the program's own.
#[derive(Default)]
pub struct Unread {
    known: HashMap<Id, Known>,
    /// Turns that have begun.
    turns: u64,
    /// The loop waits for the kernel.
    is_asleep: bool,
    /// Both, as they were at the last look.
    before: (u64, bool),
    /// There is no look before this moment.
    rests_until: Option<Instant>,
}

#[derive(Default)]
struct Known {
    place: u16,
    /// The number of the name of its type.
    name: u16,
    /// It is in the event queue.
    is_queued: bool,
    /// A callback of it has begun since the last look.
    has_run: bool,
    /// The last look that has found so.
    ran: Option<Instant>,
    left: Option<Left>,
}

/// Input that was seen at each look since.
#[derive(Clone, Copy)]
struct Left {
    since: Instant,
    input: Input,
    /// Meanwhile a poll has begun and ended, and its events were collected.
    was_polled: bool,
    /// It is reported when it has been waiting for so long.
    due: Duration,
}

/// A source that is not drained.
#[derive(Debug, PartialEq, Eq)]
pub struct Undrained {
    pub place: u16,
    pub input: Input,
    pub waits: Duration,
    /// How long ago its callback began last, if it was seen.
    pub ran: Option<Duration>,
}

impl Undrained {
    pub const ADVICE: &str =
        "Read until WouldBlock, or call resume: the loop reports each arrival once.";

    pub fn cause(&self) -> String {
        let seconds = |time: Duration| time.as_secs();
        let ran = match self.ran {
            Some(ran) => format!("ran last {} s ago", seconds(ran)),
            None => "has not run since a page looks".to_owned(),
        };
        format!("For {} s {}. Its callback {ran}.", seconds(self.waits), self.input)
    }
}

impl Unread {
    pub fn see(&mut self, record: &Packed) {
        let Some(kind) = Kind::ALL.get(usize::from(record.kind)) else { return };
        let id = (record.index, record.generation);
        let is_source = matches!(record.subject, 1 | 3);
        match kind {
            Kind::Turn => (self.turns, self.is_asleep) = (self.turns + 1, false),
            Kind::Wait => self.is_asleep = record.argument > 0,
            Kind::Polled => self.is_asleep = false,
            Kind::Registered => self.add(id, record.place, record.argument as u16),
            Kind::Deregistered => drop(self.known.remove(&id)),
            Kind::Ready | Kind::Resumed if is_source => {
                self.known.entry(id).and_modify(|known| known.is_queued = true);
            }
            // A callback for its deadline, or for a post on its behalf, may read, too.
            Kind::RunSource | Kind::RunPosted | Kind::Flushed if is_source => {
                self.known.entry(id).and_modify(|known| {
                    known.is_queued &= *kind != Kind::RunSource;
                    (known.has_run, known.place) = (true, record.place);
                });
            }
            _ => {}
        }
    }

    /// Takes in the sources of a keyframe: others have none of the records before it.
    pub fn see_key(&mut self, sources: &Value) {
        for source in sources.as_array().into_iter().flatten() {
            let number = |at: usize| source[at].as_u64().unwrap_or(0);
            let id = (number(0) as u32, number(1) as u32);
            self.add(id, number(3) as u16, number(2) as u16);
        }
    }

    fn add(&mut self, id: Id, place: u16, name: u16) {
        if self.known.len() < KNOWN_MAX {
            self.known.entry(id).or_insert(Known { place, name, ..Known::default() });
        }
    }

    /// Begins to count the time again: the loop stands, or some records were missed.
    pub fn begin_again(&mut self) {
        self.known.values_mut().for_each(|known| known.left = None);
        self.before = (self.turns, false);
    }

    /// Looks for sources that are not drained.
    pub fn look(
        &mut self,
        now: Instant,
        tables: &SharedTables,
        selector: &Selector,
    ) -> Vec<Undrained> {
        if self.rests_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        let tables = tables.lock();
        let name = |known: &Known| tables.names.get(usize::from(known.name));
        self.known.retain(|_, known| name(known).is_some_and(|name| is_own(name)));
        drop(tables); // The loop's thread must not wait for them meanwhile.
        let found = self.look_at(now, |is_wanted| selector.waiting(is_wanted));
        self.rest(now, Clock::Monotonic.now() - now);
        found
    }

    /// A look that began then has taken so long.
    fn rest(&mut self, began: Instant, took: Duration) {
        self.rests_until = Some(began + took + (took * REST).min(REST_MAX));
    }

    fn look_at(
        &mut self,
        now: Instant,
        ask: impl FnOnce(&dyn Fn(Id) -> bool) -> Option<HashMap<Id, Input>>,
    ) -> Vec<Undrained> {
        let (turns, was_asleep) = std::mem::replace(&mut self.before, (self.turns, self.is_asleep));
        // A poll that slept at the last look reports what came until then. So does the next one, when
        // its turn is over.
        let was_polled = match was_asleep {
            true => self.is_asleep || self.turns > turns,
            false => self.turns >= turns + 2,
        };
        let mut is_any_at_rest = false;
        for known in self.known.values_mut() {
            known.begin_look(now);
            is_any_at_rest |= known.is_at_rest(now);
        }
        let is_at_rest = |id: Id| self.known.get(&id).is_some_and(|known| known.is_at_rest(now));
        let Some(waiting) = is_any_at_rest.then(|| ask(&is_at_rest)).flatten() else {
            return Vec::new();
        };
        // A source without a descriptor is not asked for again.
        self.known.retain(|id, known| waiting.contains_key(id) || !known.is_at_rest(now));
        let known = self.known.iter_mut();
        known.filter_map(|(id, known)| known.look(now, *waiting.get(id)?, was_polled)).collect()
    }
}

impl Known {
    fn begin_look(&mut self, now: Instant) {
        if std::mem::take(&mut self.has_run) {
            self.ran = Some(now);
        }
        if !self.is_at_rest(now) {
            self.left = None;
        }
    }

    /// Returns true if no callback of it has begun since the last look, and none will.
    fn is_at_rest(&self, now: Instant) -> bool {
        !self.is_queued && self.ran != Some(now)
    }

    fn look(&mut self, now: Instant, input: Input, was_polled: bool) -> Option<Undrained> {
        let before = self.left.take();
        if input.amount() == 0 {
            return None;
        }
        let first = Left { since: now, input, was_polled: false, due: UNREAD };
        let mut left = match before {
            Some(left) if left.input.amount() <= input.amount() => {
                Left { input, was_polled: left.was_polled || was_polled, ..left }
            }
            _ => first,
        };
        let waits = now - left.since;
        let is_due = left.was_polled && waits >= left.due;
        if is_due {
            left.due = waits + UNREAD;
        }
        self.left = Some(left);
        let ran = self.ran.map(|ran| now - ran);
        is_due.then_some(Undrained { place: self.place, input, waits, ran })
    }
}

/// Returns true if the type of this name is the program's own. [`Fd`](crate::net::Fd) is: it only
/// makes a source of a descriptor.
fn is_own(name: &str) -> bool {
    let library = module_path!().split("::").next().unwrap_or_default();
    let path = name.strip_prefix(library).filter(|rest| rest.starts_with("::"));
    path.is_none_or(|path| path.starts_with("::net::fd::Fd<"))
}

#[cfg(test)]
mod tests {
    use super::super::tables::Numbers;
    use super::*;

    const ID: Id = (3, 7);

    fn record(kind: Kind, argument: u32) -> Packed {
        let kind = Kind::ALL.iter().position(|known| *known == kind).expect("a kind") as u8;
        let (index, generation) = ID;
        Packed { kind, argument, subject: 1, index, generation, place: 5, ..Packed::default() }
    }

    /// A turn that runs nothing, and sleeps.
    const TURN: [(Kind, u32); 3] = [(Kind::Polled, 0), (Kind::Turn, 1), (Kind::Wait, u32::MAX)];

    /// What is found of a source by looks half a second apart. Before each come records; at each the
    /// kernel has so much for it, or nothing of it.
    fn found<'a>(
        looks: impl IntoIterator<Item = (&'a [(Kind, u32)], Option<u64>)>,
    ) -> Vec<(usize, Undrained)> {
        let (begin, mut unread) = (Clock::Monotonic.now(), Unread::default());
        unread.see(&record(Kind::Registered, 1));
        let mut found = Vec::new();
        for (number, (records, waits)) in looks.into_iter().enumerate() {
            records.iter().for_each(|(kind, argument)| unread.see(&record(*kind, *argument)));
            let now = begin + UNREAD / 2 * number as u32;
            let asked = unread.look_at(now, |is_wanted| {
                assert!(is_wanted(ID), "it asks for a source at rest alone");
                Some(waits.map(|bytes| (ID, Input::Bytes(bytes))).into_iter().collect())
            });
            found.extend(asked.into_iter().map(|undrained| (number, undrained)));
        }
        found
    }

    #[test]
    fn source_with_input_for_a_second_is_found_and_again_after_each_second() {
        let ran = [(Kind::Ready, 1), (Kind::RunSource, 1)];
        let looks = [(&ran[..], Some(600))];
        let rests = |count| std::iter::repeat_n((&TURN[..], Some(600)), count);
        assert_eq!(found(looks.into_iter().chain(rests(2))), [], "two looks in half a second");
        let found = found(looks.into_iter().chain(rests(7)));
        let seconds = |found: &(usize, Undrained)| (found.0, found.1.waits.as_millis());
        assert_eq!(
            found.iter().map(seconds).collect::<Vec<_>>(),
            [(3, 1000), (5, 2000), (7, 3000)]
        );
        let first = Undrained {
            place: 5,
            input: Input::Bytes(600),
            waits: UNREAD,
            ran: Some(UNREAD * 3 / 2),
        };
        assert_eq!(found[0].1, first);
        assert_eq!(first.cause(), "For 1 s 600 bytes wait unread. Its callback ran last 1 s ago.");
    }

    #[test]
    fn source_that_was_called_before_a_page_came_is_found_too() {
        let found = found(std::iter::repeat_n((&TURN[..], Some(1)), 4));
        let cause = "For 1 s 1 byte waits unread. Its callback has not run since a page looks.";
        assert_eq!((found.len(), &*found[0].1.cause()), (1, cause));
    }

    #[test]
    fn source_that_reads_is_not_found() {
        let rests = |waits: &'static [u64]| waits.iter().map(|bytes| (&TURN[..], Some(*bytes)));
        assert_eq!(found(rests(&[0; 9])), []);
        assert_eq!(found(rests(&[600, 600, 0, 600, 600, 0])), []);
        assert_eq!(found(rests(&[600, 500, 400, 300, 200, 100])), [], "another callback reads");
        assert_eq!(found(rests(&[600, 700, 800])).len(), 1);
        let called = [(Kind::Ready, 1), (Kind::RunSource, 1), (Kind::Returned, 1)];
        let queued = [(Kind::Polled, 1), (Kind::Ready, 1)];
        for kind in [Kind::RunSource, Kind::RunPosted, Kind::Flushed] {
            let turn: Vec<_> = TURN.into_iter().chain([(kind, 1)]).collect();
            assert_eq!(found((0..9).map(|_| (&turn[..], Some(600)))), [], "{kind:?}");
        }
        for records in [&called[..], &queued] {
            let looks = [(&TURN[..], Some(600)), (&TURN, Some(600)), (records, Some(600))];
            assert_eq!(found(looks.into_iter().chain(looks)), []);
        }
    }

    #[test]
    fn loop_that_has_not_polled_has_not_left_the_input() {
        let looks = |between: &'static [(Kind, u32)]| {
            let first: [(&[_], _); 2] = [(&TURN, Some(0)), (&[(Kind::Polled, 1)], Some(600))];
            let rest = [(between, Some(600)), (&[], Some(600)), (&[], Some(600))];
            first.into_iter().chain(rest)
        };
        assert_eq!(found(looks(&[])), [], "it is in a callback");
        assert_eq!(found(looks(&[(Kind::Turn, 1), (Kind::Wait, 0)])), [], "it polls");
        assert_eq!(found(looks(&TURN)).len(), 1, "it sleeps at two looks");
        assert_eq!(found(looks(&[(Kind::Turn, 1), (Kind::Turn, 2)])).len(), 1);
    }

    #[test]
    fn looks_that_take_long_are_few() {
        let (tables, selector) = (SharedTables::new(), Selector::default());
        let name = Numbers::new(tables.clone()).of_name("waterwheel::net::conn::Conn");
        let mut unread = Unread::default();
        unread.see(&record(Kind::Registered, name.into()));
        let now = Clock::Monotonic.now();
        for (took, rest) in [(50, 1000), (100, 2000), (101, 2000), (5000, 2000)] {
            unread.rest(now, Duration::from_millis(took));
            let late = now + Duration::from_millis(took + rest);
            unread.look(late - Duration::from_nanos(1), &tables, &selector);
            assert_eq!(unread.known.len(), 1, "{took}: it has not looked");
        }
        unread.look(now + Duration::from_secs(7), &tables, &selector);
        assert_eq!(unread.known.len(), 0, "one of the library's");
    }

    #[test]
    fn source_without_a_descriptor_is_asked_for_once() {
        let mut unread = Unread::default();
        unread.see(&record(Kind::Registered, 1));
        let now = Clock::Monotonic.now();
        assert_eq!(unread.look_at(now, |_| Some(HashMap::new())), []);
        assert!(unread.known.is_empty());
        assert_eq!(unread.look_at(now + UNREAD, |_| panic!("there is nothing to ask for")), []);
    }

    #[test]
    fn type_of_this_library_is_not_the_programs_own_except_a_descriptor() {
        use std::any::type_name;
        assert!(!is_own(type_name::<crate::net::Conn>()));
        assert!(!is_own(type_name::<crate::net::tcp::Listener>()));
        #[cfg(unix)]
        assert!(is_own(type_name::<crate::net::Fd<std::fs::File>>()));
        assert!(is_own("mio::net::tcp::stream::TcpStream") && is_own("waterwheel_tests::Own"));
        assert!(is_own("my::Own<waterwheel::net::conn::Conn>"));
    }

    #[test]
    fn sources_that_are_known_are_bounded_and_a_keyframe_adds_those_of_before() {
        let mut unread = Unread::default();
        unread.see_key(&serde_json::json!([[3, 7, 1, 5, 0, 0, null, true], [4, 7, 2, 6]]));
        assert_eq!((unread.known[&ID].place, unread.known[&ID].name), (5, 1));
        for index in 0..2 * KNOWN_MAX as u32 {
            unread.see(&Packed { index, ..record(Kind::Registered, 1) });
        }
        assert_eq!(unread.known.len(), KNOWN_MAX);
        unread.see(&record(Kind::Deregistered, 0));
        assert_eq!(unread.known.len(), KNOWN_MAX - 1);
    }
}

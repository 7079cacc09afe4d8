//! The loop's state, put together from the records of the trace and nothing else.
//!
//! It must be the loop's own at any time: so the trace says all that happens to sources, timers,
//! deadlines, the lanes of the queue and the deferred callbacks. The fold also asserts the contract:
//! a callback that begins is the first of the first lane that has any left in the batch (R2, R7),
//! none begins while another runs (R1), a dropped event was really stale (R4).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use waterwheel::reactor::{Kind, LoopEvent, RawId, Subject};
use waterwheel::timers::TimerId;

/// An entry of the queue.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Chip {
    Source(RawId),
    Timer(TimerId),
    Deadline(RawId),
    Call,
}

#[derive(Default)]
pub struct Fold {
    /// By id; the bits that are pending.
    pub sources: BTreeMap<RawId, u32>,
    /// True for one that has expired and was not armed again.
    timers: HashMap<TimerId, bool>,
    deadlines: BTreeMap<RawId, bool>,
    lanes: [VecDeque<Chip>; 3],
    batch: [usize; 3],
    pub deferred: usize,
    /// Callbacks on the stack.
    running: Vec<Kind>,
    /// Of the last record.
    sequence: u64,
    /// The records of callbacks that have begun, which may be causes.
    seen: BTreeSet<u64>,
}

impl Fold {
    /// A fold, and the observer that feeds it.
    pub fn new() -> (Rc<RefCell<Fold>>, impl FnMut(&LoopEvent) + 'static) {
        let fold = Rc::new(RefCell::new(Fold::default()));
        let fed = fold.clone();
        (fold, move |event: &LoopEvent| fed.borrow_mut().apply(event))
    }

    /// How many timers are armed, deadlines included.
    pub fn timers(&self) -> usize {
        self.timers.len() + self.deadlines.len()
    }

    /// How many entries each lane has.
    pub fn lanes(&self) -> [usize; 3] {
        [0, 1, 2].map(|lane| self.lanes[lane].len())
    }

    fn apply(&mut self, event: &LoopEvent) {
        self.sequence += 1;
        assert_eq!(event.sequence, self.sequence, "a gap before {event}");
        assert!(event.cause == 0 || self.seen.contains(&event.cause), "{event} has no cause");
        let (subject, argument) = (event.subject, event.argument);
        match event.kind {
            Kind::Turn => {
                self.running.clear(); // A panic may have left it.
                self.batch = [0; 3];
            }
            Kind::Registered => assert!(self.sources.insert(source(subject), 0).is_none()),
            Kind::Deregistered => {
                assert!(self.sources.remove(&source(subject)).is_some());
                self.deadlines.remove(&source(subject));
            }
            Kind::Armed => self.arm(subject, true),
            Kind::Rearmed => self.arm(subject, false),
            Kind::Cancelled => match subject {
                Subject::Timer(id) => assert!(self.timers.remove(&id).is_some(), "{event}"),
                Subject::Deadline(id) => assert!(self.deadlines.remove(&id).is_some(), "{event}"),
                _ => panic!("{event}"),
            },
            Kind::Ready | Kind::Resumed => self.ready(event),
            Kind::Expired => self.expire(event),
            Kind::Collected => self.lanes[1].push_back(Chip::Call),
            Kind::Enqueued => self.lanes[argument as usize].push_back(Chip::Call),
            Kind::Deferred => self.deferred += 1,
            Kind::Dispatch => {
                self.batch = self.lanes();
                assert_eq!(self.batch.iter().sum::<usize>(), argument as usize, "{event}");
            }
            Kind::Stale if argument == 1 => {
                let chip = self.pop();
                assert!(self.is_stale(chip), "{event}: {chip:?} is there");
            }
            Kind::RunHook
            | Kind::RunDeferred
            | Kind::RunEnqueued
            | Kind::RunPosted
            | Kind::RunSource
            | Kind::RunTimer
            | Kind::Flushed => self.run(event),
            Kind::RunNested => {
                assert!(!self.running.is_empty(), "{event} outside of a callback");
                self.running.push(event.kind);
            }
            Kind::Returned | Kind::Panicked => {
                assert!(self.running.pop().is_some(), "{event}, and nothing runs");
            }
            _ => {}
        }
    }

    fn arm(&mut self, subject: Subject, is_new: bool) {
        let before = match subject {
            Subject::Timer(id) => self.timers.insert(id, false),
            Subject::Deadline(id) => self.deadlines.insert(id, false),
            _ => panic!("{subject:?} is armed"),
        };
        assert_eq!(before.is_none(), is_new, "{subject:?}");
    }

    fn ready(&mut self, event: &LoopEvent) {
        let (id, bits) = (source(event.subject), event.argument & 0xffff);
        let pending = self.sources.get_mut(&id).expect("it is there");
        if *pending == 0 && bits > 0 {
            self.lanes[lane(event)].push_back(Chip::Source(id));
        }
        *pending |= bits;
    }

    fn expire(&mut self, event: &LoopEvent) {
        let (chip, expired) = match event.subject {
            Subject::Timer(id) => (Chip::Timer(id), self.timers.get_mut(&id)),
            Subject::Deadline(id) => (Chip::Deadline(id), self.deadlines.get_mut(&id)),
            _ => panic!("{event}"),
        };
        *expired.expect("it is armed") = true;
        self.lanes[lane(event)].push_back(chip);
    }

    /// Takes the entry that is next by the contract.
    fn pop(&mut self) -> Chip {
        let lane = self.batch.iter().position(|left| *left > 0).expect("a batch");
        self.batch[lane] -= 1;
        self.lanes[lane].pop_front().expect("as many as the batch says")
    }

    fn is_stale(&self, chip: Chip) -> bool {
        match chip {
            Chip::Source(id) => !self.sources.contains_key(&id),
            Chip::Timer(id) => self.timers.get(&id) != Some(&true),
            Chip::Deadline(id) => self.deadlines.get(&id) != Some(&true),
            Chip::Call => false,
        }
    }

    fn run(&mut self, event: &LoopEvent) {
        assert!(self.running.is_empty(), "{event}, and {:?} runs", self.running);
        self.running.push(event.kind);
        self.seen.insert(event.sequence);
        match event.kind {
            Kind::RunDeferred => {
                self.deferred = self.deferred.checked_sub(1).expect("one was deferred");
            }
            Kind::RunEnqueued | Kind::RunPosted => assert_eq!(self.pop(), Chip::Call, "{event}"),
            Kind::RunSource => {
                let id = source(event.subject);
                match self.pop() {
                    Chip::Deadline(of) => {
                        assert_eq!(of, id, "{event}");
                        assert_eq!(self.deadlines.remove(&id), Some(true), "{event}");
                    }
                    chip => {
                        assert_eq!(chip, Chip::Source(id), "{event}");
                        let pending = self.sources.get_mut(&id).expect("it is there");
                        assert_eq!(std::mem::take(pending), event.argument, "{event}");
                    }
                }
            }
            Kind::RunTimer => {
                let Subject::Timer(id) = event.subject else { panic!("{event}") };
                assert_eq!(self.pop(), Chip::Timer(id), "{event}");
                // One that repeats is armed again before it runs.
                if self.timers.get(&id).expect("it is armed") == &true {
                    self.timers.remove(&id);
                }
            }
            _ => {}
        }
    }
}

fn source(subject: Subject) -> RawId {
    let Subject::Source(id) = subject else { panic!("{subject:?} is no source") };
    id
}

fn lane(event: &LoopEvent) -> usize {
    (event.argument >> 16) as usize
}

//! The loop's state, put together from the records of the trace and nothing else.
//!
//! It must be the loop's own at any time: so the trace says all that happens to sources, timers,
//! deadlines, the lanes of the queue and the deferred callbacks. The fold also asserts the contract:
//! a callback that begins is the first of the first lane that has any left in the batch (R2, R7),
//! none begins while another runs (R1), a dropped event was really stale (R4), and what has expired
//! was due (R5).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use waterwheel::reactor::{
    Kind, LoopEvent, Place, Priority, RawId, Snapshot, SourceState, Subject, TimerState, Waiting,
};
use waterwheel::timers::TimerId;

const LANES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

#[derive(Default)]
pub struct Fold {
    sources: BTreeMap<RawId, SourceState>,
    /// True for each of these whose deadline has expired and was not armed again.
    expired: BTreeSet<RawId>,
    /// By the parts of their ids.
    timers: BTreeMap<(u32, u32), TimerState>,
    lanes: [VecDeque<Waiting>; 3],
    batch: [usize; 3],
    deferred: VecDeque<Place>,
    /// The turn's tick.
    tick: u64,
    /// What was to be next, as the gate has seen it.
    expected: Option<(Kind, Subject, Place)>,
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

    /// The state of the loop, as [`waterwheel::Context::snapshot`] has it, but for the upper 32 bits
    /// of deadlines, which no record has.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            sequence: self.sequence,
            sources: self.sources.values().cloned().collect(),
            timers: self.timers.values().cloned().collect(),
            lanes: [0, 1, 2].map(|lane| self.lanes[lane].iter().copied().collect()),
            batch: self.batch,
            deferred: self.deferred.iter().copied().collect(),
        }
    }

    /// The loop stands at the gate, and this is to be next, if it is still there by then.
    pub fn expect(&mut self, next: Option<(Kind, Subject, Place)>) {
        assert!(self.running.is_empty(), "the gate is passed while {:?} runs", self.running);
        self.expected = Some(next.expect("something is next"));
    }

    /// What runs, or is dropped, is what the gate has seen.
    fn check_expected(&mut self, event: &LoopEvent) {
        let Some((kind, subject, place)) = self.expected.take() else { return };
        if event.kind == Kind::Stale {
            return; // It was removed at the gate, or was stale before.
        }
        let of = match subject {
            Subject::Deadline(id) => Subject::Source(id),
            subject => subject,
        };
        assert_eq!((event.kind, event.subject, event.place), (kind, of, place), "{event}");
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
            Kind::Stamped => {
                // The time of the record is a little older than the turn's.
                let about = event.nanos / 1_000_000;
                let more = argument.wrapping_sub(about as u32);
                self.tick = about + u64::from(more);
            }
            Kind::Registered => self.register(event),
            Kind::Deregistered => {
                assert!(self.sources.remove(&source(subject)).is_some());
                self.expired.remove(&source(subject));
            }
            Kind::Prioritised => self.source(subject).lane = LANES[argument as usize],
            Kind::Held => match subject {
                Subject::Timer(id) => self.timer(id).holds = argument == 1,
                _ => self.source(subject).holds = argument == 1,
            },
            Kind::Armed => self.arm(event, true),
            Kind::Rearmed => self.arm(event, false),
            Kind::Cancelled => self.cancel(event),
            Kind::Ready | Kind::Resumed => self.ready(event),
            Kind::Expired => self.expire(event),
            Kind::Collected => self.lanes[1].push_back(Waiting::Posted(event.place)),
            Kind::Enqueued => {
                self.lanes[argument as usize].push_back(Waiting::Enqueued(event.place));
            }
            Kind::Deferred if argument == 1 => self.deferred.push_front(event.place),
            Kind::Deferred => self.deferred.push_back(event.place),
            Kind::Dispatch => {
                self.batch = [0, 1, 2].map(|lane| self.lanes[lane].len());
                assert_eq!(self.batch.iter().sum::<usize>(), argument as usize, "{event}");
            }
            Kind::Stale if argument == 1 => {
                self.check_expected(event);
                let entry = self.pop();
                assert!(self.is_stale(entry), "{event}: {entry:?} is there");
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

    fn source(&mut self, subject: Subject) -> &mut SourceState {
        self.sources.get_mut(&source(subject)).expect("it is there")
    }

    fn timer(&mut self, id: TimerId) -> &mut TimerState {
        self.timers.get_mut(&id.parts()).expect("it is armed")
    }

    fn register(&mut self, event: &LoopEvent) {
        let state = SourceState {
            id: source(event.subject),
            what: event.what,
            place: event.place,
            lane: Priority::Normal,
            pending: 0,
            deadline: None,
            holds: true,
        };
        assert!(self.sources.insert(state.id, state).is_none(), "{event}");
    }

    fn arm(&mut self, event: &LoopEvent, is_new: bool) {
        let deadline = u64::from(event.argument);
        let before = match event.subject {
            Subject::Deadline(id) => {
                self.expired.remove(&id);
                self.source(id.into()).deadline.replace(deadline).is_some()
            }
            Subject::Timer(id) if is_new => {
                let place = event.place;
                let state = TimerState { id, place, deadline, holds: true, expired: false };
                self.timers.insert(id.parts(), state).is_some()
            }
            Subject::Timer(id) => {
                (self.timer(id).deadline, self.timer(id).expired) = (deadline, false);
                true
            }
            _ => panic!("{event}"),
        };
        assert_eq!(before, !is_new, "{event}");
    }

    fn cancel(&mut self, event: &LoopEvent) {
        match event.subject {
            Subject::Timer(id) => assert!(self.timers.remove(&id.parts()).is_some(), "{event}"),
            Subject::Deadline(id) => {
                self.expired.remove(&id);
                assert!(self.source(id.into()).deadline.take().is_some(), "{event}");
            }
            _ => panic!("{event}"),
        }
    }

    fn ready(&mut self, event: &LoopEvent) {
        let bits = event.argument & 0xffff;
        let state = self.source(event.subject);
        let (id, is_new) = (state.id, state.pending == 0 && bits > 0);
        state.pending |= bits;
        if is_new {
            self.lanes[lane(event)].push_back(Waiting::Source(id));
        }
    }

    fn expire(&mut self, event: &LoopEvent) {
        let (entry, deadline) = match event.subject {
            Subject::Timer(id) => {
                self.timer(id).expired = true;
                (Waiting::Timer(id), self.timer(id).deadline)
            }
            Subject::Deadline(id) => {
                self.expired.insert(id);
                (Waiting::Deadline(id), self.source(id.into()).deadline.expect("it is armed"))
            }
            _ => panic!("{event}"),
        };
        // Later the lower 32 bits of a deadline do not tell on which side of now it is.
        assert!(self.tick >= 1 << 31 || deadline <= self.tick, "{event}, early for {deadline}");
        self.lanes[lane(event)].push_back(entry);
    }

    /// Takes the entry that is next by the contract.
    fn pop(&mut self) -> Waiting {
        let lane = self.batch.iter().position(|left| *left > 0).expect("a batch");
        self.batch[lane] -= 1;
        self.lanes[lane].pop_front().expect("as many as the batch says")
    }

    fn is_stale(&self, entry: Waiting) -> bool {
        match entry {
            Waiting::Source(id) => !self.sources.contains_key(&id),
            Waiting::Timer(id) => self.timers.get(&id.parts()).is_none_or(|timer| !timer.expired),
            Waiting::Deadline(id) => !self.expired.contains(&id),
            Waiting::Enqueued(_) | Waiting::Posted(_) => false,
        }
    }

    fn run(&mut self, event: &LoopEvent) {
        assert!(self.running.is_empty(), "{event}, and {:?} runs", self.running);
        self.running.push(event.kind);
        self.seen.insert(event.sequence);
        if !matches!(event.kind, Kind::RunHook | Kind::Flushed) {
            self.check_expected(event);
        }
        match event.kind {
            Kind::RunDeferred => assert_eq!(self.deferred.pop_front(), Some(event.place)),
            Kind::RunEnqueued => assert_eq!(self.pop(), Waiting::Enqueued(event.place), "{event}"),
            Kind::RunPosted => assert_eq!(self.pop(), Waiting::Posted(event.place), "{event}"),
            Kind::RunSource => match self.pop() {
                Waiting::Deadline(of) => {
                    assert_eq!(Subject::Source(of), event.subject, "{event}");
                    assert!(self.expired.remove(&of), "{event}");
                    self.source(of.into()).deadline = None;
                }
                entry => {
                    assert_eq!(entry, Waiting::Source(source(event.subject)), "{event}");
                    let pending = std::mem::take(&mut self.source(event.subject).pending);
                    assert_eq!(pending, event.argument, "{event}");
                }
            },
            Kind::RunTimer => {
                let Subject::Timer(id) = event.subject else { panic!("{event}") };
                assert_eq!(self.pop(), Waiting::Timer(id), "{event}");
                // One that repeats is armed again before it runs.
                if self.timer(id).expired {
                    self.timers.remove(&id.parts());
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

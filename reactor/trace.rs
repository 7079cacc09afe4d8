//! The trace: a record of each thing that happens in the loop, for an optional observer.
//!
//! Knows ids, and places in the program; never changes the loop that it watches. Without an
//! observer it costs one predictable branch, and the clock is not read.
//!
//! The contract's tests compare these records, so there is a record for each fact in a rule.
//!
//! # Read next
//! `../tests/contract.rs`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use super::{Context, Priority, RawId, Readiness};
use crate::timers::TimerId;

/// A place in the program, shown as `examples/chat.rs:41`: where something was handed to the loop.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place(&'static Location<'static>);

impl Place {
    /// The place of the caller of the function that has `#[track_caller]`.
    #[track_caller]
    #[inline]
    pub fn caller() -> Place {
        Place(Location::caller())
    }

    /// The file, with the path that the compiler received.
    pub fn file(self) -> &'static str {
        self.0.file()
    }

    /// The line, counted from 1.
    pub fn line(self) -> u32 {
        self.0.line()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file(), self.line())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A turn began. Argument: its number, counted from 1.
    Turn,
    /// The loop is about to wait. Argument: milliseconds, rounded up; `u32::MAX` for no limit.
    Wait,
    /// A source that was written to is flushed, in phase 1: its callback begins.
    Flushed,
    /// The wait ended. Argument: how many sources are ready.
    Polled,
    /// The time of the turn. Argument: its tick, of which the upper 32 bits are left out.
    Stamped,
    /// A ready source was put into the event queue, or was there. Argument: the bits of its
    /// [`Readiness`], and from bit 16 on its lane, 0 for High to 2 for Low.
    Ready,
    /// An expired timer, or the deadline of a source, was put into the event queue. Argument: the lane,
    /// from bit 16 on.
    Expired,
    /// A post was put into the event queue. Its subject is the source on whose behalf it was
    /// posted, if there is one, such as a job.
    Collected,
    /// The callbacks of the batch run next. Argument: how many there are. Left out if there is none.
    Dispatch,
    /// A source's callback begins. Argument: the bits of its [`Readiness`].
    RunSource,
    /// A timer's callback begins.
    RunTimer,
    /// A deferred callback begins.
    RunDeferred,
    /// An enqueued callback begins. Argument: its lane, 0 for High to 2 for Low.
    RunEnqueued,
    /// A posted callback begins. Subject as for `Collected`.
    RunPosted,
    /// A hook begins. Argument: 0 before the poll, 1 after it, 2 in an idle turn.
    RunHook,
    /// A listener of the bus begins, as a part of the callback that sends the event.
    RunNested,
    /// The innermost callback on the stack has returned. Argument: its microseconds, by the loop's
    /// clock.
    Returned,
    /// The innermost callback on the stack has panicked, and was dropped by policy.
    Panicked,
    /// An event was dropped: its source or timer had gone, or the timer was re-armed (R4). Argument: 1
    /// if it was in the event queue, else 0.
    Stale,
    /// A source was registered; [`what`](LoopEvent::what) it is. It holds the loop.
    Registered,
    /// A source was removed or deregistered.
    Deregistered,
    /// A source got another lane, or is registered with another than Normal. Argument: the lane, 0
    /// for High to 2 for Low.
    Prioritised,
    /// A source or timer began or ceased to hold the loop (R8). Argument: 1 or 0.
    Held,
    /// A source has read from its peer. Argument: bytes.
    Received,
    /// The program has written to a source by its id. Argument: bytes, all of which it took.
    Written,
    /// A source has handed bytes to the kernel for its peer. Argument: how many.
    Sent,
    /// The system has refused a source something it needs, such as a descriptor for a connection to
    /// accept. Argument: the system's number of the error, 0 without one.
    Failed,
    /// A source asked to be called again in the next turn. Argument as for `Ready`.
    Resumed,
    /// A timer, or the deadline of a source, was armed. Argument: the tick of its deadline, of which
    /// the upper 32 bits are left out. A timer holds the loop.
    Armed,
    /// It was re-armed, by the program or for its next occurrence. Argument as for `Armed`.
    Rearmed,
    /// It was cancelled.
    Cancelled,
    /// A callback was deferred. Argument: 1 if it runs before those that are deferred already, else 0.
    Deferred,
    /// A callback was enqueued. Argument: its lane, 0 for High to 2 for Low.
    Enqueued,
    /// [`stop`](Context::stop) was called.
    Stopped,
}

impl Kind {
    /// All kinds; the number of each in a record that is stored is its place here.
    #[rustfmt::skip]
    pub const ALL: [Kind; 34] = {
        use Kind::*;
        [
            Turn, Wait, Flushed, Polled, Stamped, Ready, Expired, Collected, Dispatch,
            RunSource, RunTimer, RunDeferred, RunEnqueued, RunPosted, RunHook, RunNested,
            Returned, Panicked, Stale, Registered, Deregistered, Prioritised, Held, Received,
            Written, Sent, Failed, Resumed, Armed, Rearmed, Cancelled, Deferred, Enqueued, Stopped,
        ]
    };
}

/// The subject of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Neither a source nor a timer.
    None,
    /// A source.
    Source(RawId),
    /// A timer.
    Timer(TimerId),
    /// The deadline of a source.
    Deadline(RawId),
}

/// A lane as records have it in an argument, beside the bits of a readiness.
pub(super) const fn lane_bits(lane: Priority) -> u32 {
    (lane as u32) << 16
}

impl From<RawId> for Subject {
    fn from(id: RawId) -> Subject {
        Subject::Source(id)
    }
}

impl From<TimerId> for Subject {
    fn from(id: TimerId) -> Subject {
        Subject::Timer(id)
    }
}

/// One record. Its size is fixed and it owns nothing, so it can be kept in a ring buffer.
#[derive(Clone, Copy, Debug)]
pub struct LoopEvent {
    /// Counted from 1, without gaps.
    pub sequence: u64,
    /// Nanoseconds since the reactor was made, by its clock. It is read where a turn begins, where a wait
    /// begins and ends, and where a callback ends; a record between these has the time of the one
    /// before.
    pub nanos: u64,
    /// The cause: the sequence number of a callback's record. This record was made while the
    /// callback ran; or that callback asked for the one that begins here. 0 for none.
    pub cause: u64,
    /// The line of the program that handed the source, timer or callback to the loop.
    pub place: Place,
    /// The source or timer, if there is one.
    pub subject: Subject,
    /// For [`Kind::Registered`] the name of the object's type, else empty.
    pub what: &'static str,
    /// The kind of event.
    pub kind: Kind,
    /// A number; [`Kind`] gives its meaning.
    pub argument: u32,
}

impl fmt::Display for LoopEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        match self.subject {
            Subject::None => {}
            Subject::Source(id) => write!(f, " {id:?}")?,
            Subject::Timer(id) => write!(f, " {id:?}")?,
            Subject::Deadline(id) => write!(f, " the deadline of {id:?}")?,
        }
        match self.kind {
            Kind::Ready | Kind::RunSource | Kind::Resumed => {
                write!(f, " {:?}", Readiness::from_bits(self.argument))
            }
            Kind::Wait if self.argument == u32::MAX => f.write_str(" for ever"),
            Kind::Wait => write!(f, " {} ms", self.argument),
            Kind::Armed | Kind::Rearmed => write!(f, " for tick {}", self.argument),
            Kind::Turn | Kind::Polled | Kind::Stamped | Kind::Dispatch | Kind::Held => {
                write!(f, " {}", self.argument)
            }
            Kind::Received | Kind::Written | Kind::Sent => write!(f, " {} B", self.argument),
            Kind::Registered => write!(f, " {}", self.what),
            _ => Ok(()),
        }
    }
}

/// A closure that receives each record.
pub type Observer = Box<dyn FnMut(&LoopEvent)>;

/// The observer, and the numbers that connect records.
pub(super) struct Trace {
    pub(super) observer: Option<Observer>,
    pub(super) sequence: u64,
    /// The record of the callback that runs now; 0 between callbacks.
    pub(super) running: u64,
    /// When it began, in nanoseconds.
    pub(super) began: u64,
    /// When the clock was last read for a record, in nanoseconds.
    pub(super) at: u64,
    /// [`LoopEvent::what`] of the next record.
    pub(super) what: &'static str,
}

impl Trace {
    pub(super) fn new(observer: Option<Observer>) -> Trace {
        Trace { observer, sequence: 0, running: 0, began: 0, at: 0, what: "" }
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.observer.is_some()
    }
}

impl<S> Context<S> {
    /// Records something caused by the callback that runs now, if there is an observer.
    #[inline]
    pub(super) fn note(&mut self, kind: Kind, subject: Subject, place: Place, argument: u32) {
        if self.trace.is_on() {
            let cause = self.trace.running;
            self.record(kind, subject, place, argument, cause);
        }
    }

    /// Records that a callback begins; the records until it ends name it as their cause.
    #[inline]
    pub(super) fn begin_callback(
        &mut self,
        kind: Kind,
        subject: Subject,
        place: Place,
        (argument, cause): (u32, u64),
    ) {
        self.statistics.callbacks += u64::from(!matches!(kind, Kind::RunHook | Kind::Flushed));
        self.running_place = place;
        if self.trace.is_on() {
            self.record(kind, subject, place, argument, cause);
            self.trace.running = self.trace.sequence;
            self.local.set_running(self.trace.running);
            self.trace.began = self.trace.at; // What ran before it has ended just now.
        }
    }

    /// Records that the callback has ended.
    #[inline]
    pub(super) fn end_callback(&mut self, kind: Kind) {
        // An observer that came while the callback ran has no record of its begin.
        if self.trace.is_on() && self.trace.running > 0 {
            self.trace.at = self.time.this_moment().nanos();
            let micros = self.trace.at.saturating_sub(self.trace.began) / 1000;
            let argument = u32::try_from(micros).unwrap_or(u32::MAX);
            self.note(kind, Subject::None, Place::caller(), argument);
            self.trace.running = 0;
            self.local.set_running(0);
        }
    }

    #[cold]
    pub(super) fn record(
        &mut self,
        kind: Kind,
        subject: Subject,
        place: Place,
        argument: u32,
        cause: u64,
    ) {
        self.trace.sequence += 1;
        if matches!(kind, Kind::Turn | Kind::Wait | Kind::Polled) || !self.time.in_turn {
            self.trace.at = self.time.this_moment().nanos();
        }
        let nanos = self.trace.at;
        let sequence = self.trace.sequence;
        if let Some(observer) = &mut self.trace.observer {
            let what = std::mem::take(&mut self.trace.what);
            observer(&LoopEvent { sequence, nanos, cause, place, subject, what, kind, argument });
        }
    }
}

impl<S: 'static> Context<S> {
    /// Replaces the observer and returns the old one. An observer that comes later than the
    /// [`Builder`](super::Builder)'s begins with a [`snapshot`](Context::snapshot).
    pub fn set_observer(&mut self, observer: Option<Observer>) -> Option<Observer> {
        if observer.is_none() {
            self.trace.running = 0;
            self.local.set_running(0);
        }
        std::mem::replace(&mut self.trace.observer, observer)
    }
}

/// An observer that keeps the latest records. Clones share them.
///
/// ```
/// use waterwheel::reactor::{Kind, Reactor, Recorder};
/// let recorder = Recorder::new();
/// let mut reactor = Reactor::builder().observer(recorder.observer()).build().unwrap();
/// reactor.defer(|_, count: &mut u32| *count += 1);
/// reactor.run(&mut 0).unwrap();
/// assert!(recorder.take().iter().any(|event| event.kind == Kind::RunDeferred));
/// ```
#[derive(Clone, Debug)]
pub struct Recorder {
    events: Rc<RefCell<VecDeque<LoopEvent>>>,
    capacity: usize,
}

impl Recorder {
    /// Records kept by [`new`](Recorder::new): a few seconds of a busy loop, 3.5 MB.
    pub const CAPACITY: usize = 65_536;

    /// A recorder that keeps [`CAPACITY`](Recorder::CAPACITY) records and forgets the oldest.
    pub fn new() -> Recorder {
        Recorder::with_capacity(Recorder::CAPACITY)
    }

    /// A recorder that keeps `capacity` records and forgets the oldest.
    pub fn with_capacity(capacity: usize) -> Recorder {
        Recorder { events: Rc::default(), capacity }
    }

    /// A closure for [`Builder::observer`](super::Builder::observer).
    pub fn observer(&self) -> impl FnMut(&LoopEvent) + 'static {
        let recorder = self.clone();
        move |event| {
            let mut events = recorder.events.borrow_mut();
            if events.len() == recorder.capacity {
                events.pop_front();
            }
            events.push_back(*event);
        }
    }

    /// Takes out all records, oldest first.
    pub fn take(&self) -> Vec<LoopEvent> {
        self.events.borrow_mut().drain(..).collect()
    }
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder::new()
    }
}

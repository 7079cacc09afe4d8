//! The Chrome trace: the records in the form that Perfetto and `chrome://tracing` open.
//!
//! Knows packed records and the *Trace Event Format* (Google, 2016): a callback is a pair of events
//! `B` and `E`, which nest as callbacks do; an arrow from what asked for a callback to the callback
//! is a pair `s` and `f`; the length of the queue is a counter, `C`. Times are microseconds.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::ring::{Packed, Ring, begins};
use crate::reactor::Kind;

/// All records that the ring has, as JSON.
pub fn trace(ring: &Ring, places: &[(&str, u32)]) -> String {
    let mut trace = Trace {
        places,
        events: Vec::new(),
        open: 0,
        asleep: false,
        began: HashMap::new(),
        queued: 0,
    };
    for sequence in ring.oldest()..=ring.head() {
        if let Some(record) = ring.read(sequence) {
            trace.add(sequence, &record);
        }
    }
    let events = trace.events;
    json!({ "displayTimeUnit": "ms", "traceEvents": events }).to_string()
}

struct Trace<'a> {
    places: &'a [(&'a str, u32)],
    events: Vec<Value>,
    /// Callbacks that have begun and not ended.
    open: usize,
    asleep: bool,
    /// The time at which each callback began, by its record.
    began: HashMap<u64, f64>,
    queued: i64,
}

impl Trace<'_> {
    fn add(&mut self, sequence: u64, record: &Packed) {
        let Some(kind) = Kind::ALL.get(usize::from(record.kind)) else { return };
        let at = record.nanos as f64 / 1000.0;
        match kind {
            // A panic that left the turn has left callbacks open.
            Kind::Turn => (0..std::mem::take(&mut self.open)).for_each(|_| self.end(at)),
            Kind::Wait if record.argument > 0 => {
                self.event("B", "asleep", 2, at);
                self.asleep = true;
            }
            Kind::Polled if std::mem::take(&mut self.asleep) => self.event("E", "asleep", 2, at),
            Kind::Returned | Kind::Panicked if self.open > 0 => {
                self.open -= 1;
                self.end(at);
            }
            Kind::Ready | Kind::Expired | Kind::Collected | Kind::Enqueued | Kind::Resumed => {
                self.count(1, at);
            }
            kind if begins(*kind) => self.begin(sequence, *kind, record, at),
            _ => {}
        }
    }

    fn begin(&mut self, sequence: u64, kind: Kind, record: &Packed, at: f64) {
        let (file, line) = self.places.get(usize::from(record.place)).copied().unwrap_or(("?", 0));
        let name = format!("{file}:{line}");
        self.events.push(json!({
            "ph": "B", "name": name, "cat": format!("{kind:?}"), "pid": 1, "tid": 1, "ts": at,
            "args": { "record": sequence, "argument": record.argument },
        }));
        self.open += 1;
        let cause = sequence - u64::from(record.cause);
        if record.cause > 0
            && let Some(from) = self.began.get(&cause)
        {
            let flow = |phase: &str, ts: f64| {
                json!({
                    "ph": phase, "bp": "e", "id": sequence, "name": "asked for", "cat": "cause",
                    "pid": 1, "tid": 1, "ts": ts,
                })
            };
            self.events.extend([flow("s", *from), flow("f", at)]);
        }
        self.began.insert(sequence, at);
        if !matches!(kind, Kind::RunDeferred | Kind::RunHook | Kind::RunNested | Kind::Flushed) {
            self.count(-1, at);
        }
    }

    fn event(&mut self, phase: &str, name: &str, thread: u32, at: f64) {
        self.events.push(json!({ "ph": phase, "name": name, "pid": 1, "tid": thread, "ts": at }));
    }

    fn end(&mut self, at: f64) {
        self.events.push(json!({ "ph": "E", "pid": 1, "tid": 1, "ts": at }));
    }

    fn count(&mut self, by: i64, at: f64) {
        self.queued = (self.queued + by).max(0);
        let queued = self.queued;
        self.events.push(json!({
            "ph": "C", "name": "queue", "pid": 1, "ts": at, "args": { "entries": queued },
        }));
    }
}

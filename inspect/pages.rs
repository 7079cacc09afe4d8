//! The pages: what each has been sent, and what it is sent next.
//!
//! Knows the ring and server-sent events; never changes the loop that is shown, but asks it for
//! keyframes. A page is a place in the ring and not a queue: one that reads slowly costs no memory. It
//! gets the number of the records that it has missed, by their kinds, and begins again with a keyframe.
//!
//! # Read next
//! `wire.rs`: a record as bytes.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use super::control::{Key, Mode, Session, Standing};
use super::doctor::Doctor;
use super::ring::{Ring, begins};
use super::unread::Unread;
use super::wire::{self, UNIT};
use super::{Published, Shared};
use crate::Context;
use crate::protocols::http::{Sender, SseEvent};
use crate::reactor::Kind;
use crate::timers::Clock;

/// Records that a page gets in one tick: 60,000 a second.
pub const RECORDS_PER_TICK: u64 = 2000;
/// Records that may wait for a page; with more it gets none of them, and a keyframe.
const BACKLOG_MAX: u64 = 8 * RECORDS_PER_TICK;

/// One open page.
pub struct Page {
    pub to: Sender,
    /// The number of the session whose records it has.
    session: u64,
    /// The last record that was sent to it, and its time.
    place: u64,
    units: u64,
    /// It can use no records before it gets a keyframe.
    wants_key: bool,
    /// The record of the last keyframe that it has.
    key: Option<u64>,
    places: usize,
    names: usize,
    version: u64,
    state: String,
    findings: u64,
    ended: bool,
}

/// What a tick has found of the loop that is shown.
pub struct News<'a> {
    pub session: &'a Session,
    /// The last record.
    pub head: u64,
    pub key: Option<&'a Key>,
    pub tail: &'a Tail,
    pub findings: &'a (u64, String),
}

/// What runs at the end of the records that have come.
#[derive(Default)]
pub struct Tail {
    read: u64,
    /// The places of the callbacks on the stack, and when each was seen first.
    running: Vec<(u16, Option<Instant>)>,
}

impl Tail {
    /// Reads the records that have come, up to the head.
    pub fn follow(&mut self, session: &Session, doctor: &mut Doctor, unread: &mut Unread) {
        let (head, mut has_missed) = (session.ring.head(), false);
        if head - self.read > BACKLOG_MAX {
            self.running.clear();
            self.read = head - BACKLOG_MAX;
            has_missed = true;
        }
        for sequence in self.read + 1..=head {
            let Some(record) = session.ring.read(sequence) else {
                has_missed = true;
                continue;
            };
            doctor.see(&record);
            unread.see(&record);
            match Kind::ALL.get(usize::from(record.kind)) {
                Some(Kind::Turn) => self.running.clear(),
                Some(Kind::Returned | Kind::Panicked) => drop(self.running.pop()),
                Some(kind) if begins(*kind) => self.running.push((record.place, None)),
                _ => {}
            }
        }
        if has_missed {
            unread.begin_again();
        }
        self.read = head;
        for (_, seen) in &mut self.running {
            seen.get_or_insert_with(|| Clock::Monotonic.now());
        }
    }

    /// The callback that runs now: its place, and for how many milliseconds it has been seen.
    pub fn now(&self) -> Option<(u16, u64)> {
        let (place, seen) = self.running.last()?;
        Some((*place, seen.map_or(0, |seen| (Clock::Monotonic.now() - seen).as_millis() as u64)))
    }
}

/// Sends one event; what a page that is gone does not take is of no use to anybody.
pub fn send<S: 'static>(reactor: &mut Context<S>, to: &Sender, event: &str, value: &Value) {
    send_text(reactor, to, event, &value.to_string());
}

fn send_text<S: 'static>(reactor: &mut Context<S>, to: &Sender, event: &str, text: &str) {
    let _ = to.event(reactor, &SseEvent::data(text).event(event));
}

/// What a page misses of the records behind this one, up to the head: how many of each kind, and the
/// first and the last of the turns that begin among them. Those that the ring does not have any more
/// are `unread`.
fn dropped(ring: &Ring, after: u64, head: u64) -> Value {
    let (mut counts, mut turns) = ([0; Kind::ALL.len()], None);
    let kept = ring.oldest().max(after + 1)..=head;
    for record in kept.filter_map(|sequence| ring.read(sequence)) {
        let Some(count) = counts.get_mut(usize::from(record.kind)) else { continue };
        *count += 1;
        if Kind::ALL[usize::from(record.kind)] == Kind::Turn {
            let (first, _) = turns.unwrap_or((record.argument, 0));
            turns = Some((first, record.argument));
        }
    }
    let unread = head - after - counts.iter().sum::<u64>();
    let names = Kind::ALL.iter().map(|kind| format!("{kind:?}")).chain(["unread".to_owned()]);
    let kinds = names.zip(counts.into_iter().chain([unread])).filter(|(_, count)| *count > 0);
    let kinds: BTreeMap<_, _> = kinds.collect();
    json!({ "count": head - after, "next": head + 1, "kinds": kinds, "turns": turns })
}

impl Page {
    /// A page that has nothing yet.
    pub fn new(to: Sender) -> Page {
        Page {
            to,
            session: 0,
            place: 0,
            units: 0,
            wants_key: true,
            key: None,
            places: 0,
            names: 0,
            version: 0,
            state: String::new(),
            findings: 0,
            ended: false,
        }
    }

    /// A page comes back, and names the last event that it has, as `session.record`. If the records
    /// after it are still there, it gets them.
    pub fn go_on(&mut self, session: &Session, last: &str) {
        let Some((number, place)) = last.split_once('.') else { return };
        let (Ok(number), Ok(place)) = (number.parse::<u64>(), place.parse::<u64>()) else { return };
        if number == session.number
            && place >= session.ring.oldest()
            && let Some(record) = session.ring.read(place)
        {
            self.session = number;
            (self.place, self.units, self.wants_key) = (place, record.nanos / UNIT, false);
        }
    }

    /// Sends what is new.
    pub fn catch_up<S: 'static>(
        &mut self,
        reactor: &mut Context<S>,
        shared: &Shared,
        news: &News<'_>,
    ) {
        if self.to.is_above_high(reactor) {
            return; // The next tick looks again.
        }
        if self.session != news.session.number {
            self.session = news.session.number;
            (self.place, self.units, self.wants_key, self.key) = (0, 0, true, None);
            self.ended = false;
        }
        self.send_tables(reactor, shared);
        self.send_published(reactor, shared);
        let current = self.send_records(reactor, news);
        self.send_state(reactor, news, current);
        if self.findings != news.findings.0 {
            self.findings = news.findings.0;
            send_text(reactor, &self.to, "doctor", &news.findings.1);
        }
    }

    fn send_tables<S: 'static>(&mut self, reactor: &mut Context<S>, shared: &Shared) {
        let tables = shared.tables.lock();
        let places = (self.places < tables.places.len())
            .then(|| json!({ "from": self.places, "places": tables.places[self.places..] }));
        let names = (self.names < tables.names.len())
            .then(|| json!({ "from": self.names, "names": tables.names[self.names..] }));
        (self.places, self.names) = (tables.places.len(), tables.names.len());
        drop(tables);
        places.iter().for_each(|places| send(reactor, &self.to, "places", places));
        names.iter().for_each(|names| send(reactor, &self.to, "names", names));
    }

    /// What the program itself says, and has changed since.
    fn send_published<S: 'static>(&mut self, reactor: &mut Context<S>, shared: &Shared) {
        let now = shared.now();
        if self.version == now.version {
            return;
        }
        let since = std::mem::replace(&mut self.version, now.version);
        let labels = now.labels.iter();
        let labels =
            labels.map(|(tag, (index, generation), word)| json!([tag, index, generation, word]));
        let labels =
            (now.labelled > since).then(|| json!({ "labels": labels.collect::<Vec<_>>() }));
        let published: Vec<Published> =
            now.published.iter().filter(|event| event.version > since).cloned().collect();
        drop(now);
        for Published { name, text, .. } in &published {
            send_text(reactor, &self.to, name, text);
        }
        labels.iter().for_each(|labels| send(reactor, &self.to, "labels", labels));
    }

    /// Sends what is new, and the keyframe where its record is. Returns true if the page has all
    /// that there is.
    fn send_records<S: 'static>(&mut self, reactor: &mut Context<S>, news: &News<'_>) -> bool {
        let News { session, head, key, .. } = *news;
        let (start, oldest) = (session.ring.start(), session.ring.oldest());
        if !self.wants_key && self.place + 1 < start {
            // There was no page for a while; this one has got the keyframe of before.
            (self.place, self.wants_key) = (start - 1, true);
        }
        if !self.wants_key && head - self.place > BACKLOG_MAX {
            let dropped = dropped(&session.ring, self.place, head);
            send(reactor, &self.to, "dropped", &dropped);
            session.want_key();
            self.wants_key = true;
            self.place = head;
        }
        if self.wants_key {
            let key = key.filter(|key| (self.place..=head).contains(&key.sequence));
            let Some(key) = key else { return false };
            if key.sequence + 1 < oldest {
                session.want_key(); // The records behind this one are no more.
                return false;
            }
            self.send_key(reactor, key);
            (self.place, self.wants_key) = (key.sequence, false);
            self.units = session.ring.read(key.sequence).map_or(0, |record| record.nanos / UNIT);
        }
        let last = head.min(self.place + RECORDS_PER_TICK);
        let new_key =
            key.filter(|key| self.key != Some(key.sequence) && key.sequence >= self.place);
        match new_key.filter(|key| key.sequence <= last) {
            Some(key) => {
                self.send_batch(reactor, session, key.sequence);
                self.send_key(reactor, key);
                self.send_batch(reactor, session, last);
            }
            None => self.send_batch(reactor, session, last),
        }
        self.place == head
    }

    fn send_key<S: 'static>(&mut self, reactor: &mut Context<S>, key: &Key) {
        self.key = Some(key.sequence);
        send_text(reactor, &self.to, "key", &key.json);
    }

    fn send_batch<S: 'static>(&mut self, reactor: &mut Context<S>, session: &Session, last: u64) {
        let (first, begin) = (self.place + 1, self.units);
        let mut bytes = Vec::new();
        while self.place < last {
            // One that was overwritten meanwhile is found by the next tick: too many wait.
            let Some(record) = session.ring.read(self.place + 1) else { break };
            wire::put(&mut bytes, &mut self.units, &record);
            self.place += 1;
        }
        let count = self.place + 1 - first;
        if count == 0 {
            return;
        }
        let text = json!({
            "first": first,
            "units": begin,
            "count": count,
            "b": wire::base64(&bytes),
        });
        let id = format!("{}.{}", self.session, self.place);
        let _ = self.to.event(reactor, &SseEvent::data(&text.to_string()).event("rec").id(&id));
    }

    fn send_state<S: 'static>(&mut self, reactor: &mut Context<S>, news: &News<'_>, current: bool) {
        let News { session, tail, .. } = news;
        let Standing { mode, standing, pace, ended } = session.standing();
        let stopped = mode == Mode::Stopped;
        let state = json!({
            "mode": if stopped { "stopped" } else { "running" },
            "standing": standing && current,
            "asleep": session.is_asleep(),
            "pace": pace,
            "now": tail.now(),
        });
        let state = state.to_string();
        if self.state != state {
            send_text(reactor, &self.to, "state", &state);
            self.state = state;
        }
        if let Some(why) = ended.filter(|_| current && !self.ended) {
            send(reactor, &self.to, "end", &json!({ "why": why }));
            self.ended = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::{Packed, RECORDS_MAX};
    use super::*;

    /// Else a page could want records that are overwritten, before it gets a keyframe.
    #[test]
    fn records_that_may_wait_for_a_page_are_a_part_of_the_ring() {
        const { assert!(BACKLOG_MAX + RECORDS_PER_TICK < RECORDS_MAX as u64) };
        assert_eq!(size_of::<Packed>() * RECORDS_MAX, 2 << 20, "bytes");
    }

    #[test]
    fn what_is_dropped_is_counted_by_its_kinds_whatever_the_ring_still_has() {
        let ring = Ring::new(8);
        let record =
            |kind: Kind, argument| Packed { kind: kind as u8, argument, ..Packed::default() };
        for n in 1..=20u32 {
            let kind = if n % 5 == 0 { Kind::Turn } else { Kind::Ready };
            ring.write(n.into(), record(kind, n / 5));
        }
        let all = json!({ "count": 20, "next": 21, "turns": [3, 4],
            "kinds": { "Ready": 6, "Turn": 2, "unread": 12 } });
        assert_eq!(dropped(&ring, 0, 20), all);
        let few = json!({ "count": 4, "next": 21, "turns": [4, 4],
            "kinds": { "Ready": 3, "Turn": 1 } });
        assert_eq!(dropped(&ring, 16, 20), few, "none is unread");
        let none = json!({ "count": 2, "next": 20, "turns": null, "kinds": { "Ready": 2 } });
        assert_eq!(dropped(&ring, 17, 19), none, "no turn began");
        let past = json!({ "count": 5, "next": 6, "turns": null, "kinds": { "unread": 5 } });
        assert_eq!(dropped(&ring, 0, 5), past, "all are overwritten");
        ring.write(21, record(Kind::Ready, 0));
        ring.write(22, Packed { kind: 200, ..Packed::default() });
        let odd = json!({ "count": 2, "next": 23, "turns": null,
            "kinds": { "Ready": 1, "unread": 1 } });
        assert_eq!(dropped(&ring, 20, 22), odd);
    }
}

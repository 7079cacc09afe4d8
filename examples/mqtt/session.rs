//! A session: what a client is owed, and by which id it will acknowledge it.
//!
//! ```text
//!   queue ── room to send ──▶ in flight ── PUBACK (QoS 1) ───────────────────▶ done
//!                                       └─ PUBREC, we say PUBREL ── PUBCOMP ─▶ done (QoS 2)
//! ```
//! A client that is gone, or does not read, or does not acknowledge, makes its queue longer. At
//! [`QUEUE_BYTES_MAX`] its oldest message goes, or it does.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use waterwheel::net::{Conn, Pressure};
use waterwheel::{Context, SourceId};

use super::broker::Broker;
use super::memory::{Memory, Weight};
use super::protocol::{PUBREL, Publish, Qos, ack, push_publish};
use super::topics::Message;

/// What may wait for a client: messages, each with [`ENTRY_BYTES`] more. 2 MiB.
pub const QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;
pub const ENTRY_BYTES: usize = 96;
/// Messages that a client has not acknowledged. Then no more are sent that it would have to.
pub const IN_FLIGHT_MAX: usize = 100;
/// The same in bytes: 256 KiB, and the message that goes beyond.
pub const IN_FLIGHT_BYTES_MAX: usize = 256 * 1024;

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest message that waits is lost.
    #[default]
    DropOldest,
    /// The client is closed, and what waits stays.
    Disconnect,
}

/// The memory for what waits for all clients, and what happens when a queue is full.
#[derive(Default)]
pub struct Room {
    pub memory: Memory,
    pub when_full: WhenFull,
}

#[derive(Default)]
pub struct Session {
    /// Its client, as long as that is there.
    pub conn: Option<SourceId<Conn>>,
    /// Empty if the client has named itself nothing: then nobody finds it again.
    pub client: Rc<str>,
    pub clean: bool,
    /// Sent in the client's name when it is lost, and whether to retain it.
    pub will: Option<(Rc<Message>, bool)>,
    pub filters: BTreeSet<Box<str>>,
    /// Ids of messages of QoS 2 that have come and were not released: they are no new ones.
    pub received: Option<Box<Ids>>,
    /// Which of all clients left how late.
    pub left: u64,
    /// True while more is unsent than the connection likes.
    pub is_full: bool,
    queue: VecDeque<Delivery>,
    queue_bytes: usize,
    in_flight: VecDeque<Delivery>,
    in_flight_bytes: usize,
    last_id: u16,
    lost: u64,
    _weight: Option<Weight>,
}

/// A message that a client is owed.
struct Delivery {
    /// None when it has come, and only its id is to be released.
    message: Option<Rc<Message>>,
    qos: Qos,
    retain: bool,
    /// 0 until it is in flight.
    id: u16,
    _weight: Weight,
}

impl Delivery {
    fn packet(&self) -> Option<Publish<'_>> {
        let Delivery { message, qos, retain, id, .. } = self;
        message.as_ref().map(|message| Publish { qos: *qos, id: *id, ..message.publish(*retain) })
    }

    /// What it is counted with, until it has come.
    fn cost(&self) -> usize {
        self.packet().map_or(0, |publish| cost(&publish))
    }
}

fn cost(publish: &Publish<'_>) -> usize {
    publish.topic.len() + publish.payload.len() + ENTRY_BYTES
}

/// A message on its way to many: made bytes once for each QoS, and copied to be kept at most once.
pub struct Outgoing<'a> {
    publish: Publish<'a>,
    /// For each QoS the packet, and where its id is.
    packets: [(Vec<u8>, usize); 3],
    kept: Option<Rc<Message>>,
}

impl<'a> Outgoing<'a> {
    pub fn new(publish: Publish<'a>, kept: Option<Rc<Message>>) -> Outgoing<'a> {
        Outgoing { publish, packets: Default::default(), kept }
    }

    fn bytes(&mut self, qos: Qos, id: u16) -> &[u8] {
        let (bytes, id_at) = &mut self.packets[usize::from(qos)];
        if bytes.is_empty() {
            *id_at = push_publish(bytes, &Publish { qos, ..self.publish });
        }
        if qos > 0 {
            bytes[*id_at..*id_at + 2].copy_from_slice(&id.to_be_bytes());
        }
        bytes
    }

    fn keep(&mut self, qos: Qos, memory: &Memory) -> Option<Delivery> {
        if self.kept.is_none() {
            self.kept = Message::new(&self.publish, memory);
        }
        let (message, _weight) = (Some(self.kept.clone()?), memory.take(ENTRY_BYTES)?);
        Some(Delivery { message, qos, retain: self.publish.retain, id: 0, _weight })
    }
}

impl Session {
    pub fn new(client: Rc<str>, weight: Weight) -> Session {
        Session { client, _weight: Some(weight), ..Session::default() }
    }

    /// Writes to the client. More than it reads is never read from it.
    pub fn write(&mut self, reactor: &mut Context<Broker>, bytes: &[u8]) {
        let Some(conn) = self.conn else { return };
        match conn.write(reactor, bytes) {
            Pressure::Below => {}
            Pressure::AboveHigh => self.is_full = true,
            Pressure::Refused | Pressure::Closed => {
                conn.abort(reactor);
            }
        }
    }

    /// Sends a message, or lets it wait. QoS 0 is for a client that is there.
    pub fn offer(
        &mut self,
        reactor: &mut Context<Broker>,
        out: &mut Outgoing<'_>,
        granted: Qos,
        room: &Room,
    ) {
        let qos = granted.min(out.publish.qos);
        let goes = self.queue.is_empty() && self.may_send(qos);
        if qos == 0 && (goes || self.conn.is_none()) {
            return self.write(reactor, out.bytes(0, 0));
        }
        match out.keep(qos, &room.memory) {
            Some(delivery) if goes => {
                let id = self.fly(delivery).id;
                self.write(reactor, out.bytes(qos, id));
            }
            Some(delivery) if self.has_room(delivery.cost(), room.when_full) => {
                self.queue_bytes += delivery.cost();
                self.queue.push_back(delivery);
            }
            _ => {
                self.note_lost();
                if let (Some(conn), WhenFull::Disconnect) = (self.conn, room.when_full) {
                    conn.abort(reactor);
                }
            }
        }
    }

    fn may_send(&self, qos: Qos) -> bool {
        let window = self.in_flight.len() < IN_FLIGHT_MAX;
        let may_wait = window && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX;
        self.conn.is_some() && !self.is_full && (qos == 0 || may_wait)
    }

    /// Puts a message in flight, with an id that no other has. As little is in flight, one of the
    /// next is free.
    fn fly(&mut self, mut delivery: Delivery) -> &Delivery {
        while delivery.id == 0 || self.in_flight.iter().any(|other| other.id == delivery.id) {
            self.last_id = self.last_id.wrapping_add(1);
            delivery.id = self.last_id;
        }
        self.in_flight_bytes += delivery.cost();
        self.in_flight.push_back(delivery);
        &self.in_flight[self.in_flight.len() - 1]
    }

    /// Returns true if the queue takes so much, perhaps when the oldest have gone.
    fn has_room(&mut self, bytes: usize, when_full: WhenFull) -> bool {
        let is_over = |session: &Session| session.queue_bytes + bytes > QUEUE_BYTES_MAX;
        while when_full == WhenFull::DropOldest && is_over(self) && self.pop().is_some() {
            self.note_lost();
        }
        !is_over(self)
    }

    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop_front()?;
        self.queue_bytes -= delivery.cost();
        Some(delivery)
    }

    fn note_lost(&mut self) {
        self.lost += 1;
        if self.lost.is_power_of_two() {
            log::warn!("{:?} is too slow: {} of its messages are lost", self.client, self.lost);
        }
    }

    /// Bytes of what waits and of what is in flight.
    pub fn owed_bytes(&self) -> usize {
        self.queue_bytes + self.in_flight_bytes
    }

    /// Loses all that it is owed, to make room for others.
    pub fn forget(&mut self) {
        let count = self.queue.len() + self.in_flight.len();
        log::warn!("no memory: {count} messages are lost for {:?}, which has most", self.client);
        self.queue.clear();
        self.in_flight.clear();
        (self.queue_bytes, self.in_flight_bytes) = (0, 0);
    }

    /// Sends what waits, as far as there is room for it.
    pub fn pump(&mut self, reactor: &mut Context<Broker>) {
        while let Some(first) = self.queue.front()
            && self.may_send(first.qos)
            && let Some(delivery) = self.pop()
        {
            let mut bytes = Vec::new();
            match delivery.qos {
                0 => push(&mut bytes, &delivery, false),
                _ => push(&mut bytes, self.fly(delivery), false),
            }
            self.write(reactor, &bytes);
        }
    }

    /// The client has come again: sends what it did not acknowledge once more.
    pub fn redeliver(&mut self, reactor: &mut Context<Broker>) {
        let mut bytes = Vec::new();
        self.in_flight.iter().for_each(|delivery| push(&mut bytes, delivery, true));
        self.write(reactor, &bytes);
    }

    /// PUBACK or PUBCOMP: the message with this id is done.
    pub fn done(&mut self, id: u16, of: Qos) {
        let is_it = |one: &Delivery| one.id == id && one.qos == of;
        let has_come = |one: &Delivery| of == 1 || one.message.is_none();
        let at = self.in_flight.iter().position(|one| is_it(one) && has_come(one));
        if let Some(delivery) = at.and_then(|at| self.in_flight.remove(at)) {
            self.in_flight_bytes -= delivery.cost();
        }
    }

    /// PUBREC: a message of QoS 2 has come. What it costs is free; its id is in use until PUBCOMP.
    pub fn has_come(&mut self, id: u16) {
        let mut all = self.in_flight.iter_mut();
        if let Some(delivery) = all.find(|one| one.id == id && one.qos == 2) {
            self.in_flight_bytes -= delivery.cost();
            delivery.message = None;
        }
    }
}

/// Writes a message, or what releases it if it has come.
fn push(bytes: &mut Vec<u8>, delivery: &Delivery, dup: bool) {
    match delivery.packet() {
        Some(publish) => {
            push_publish(bytes, &Publish { dup, ..publish });
        }
        None => bytes.extend_from_slice(&ack(PUBREL, delivery.id)),
    }
}

/// A set of packet ids: 8 KiB, whatever is in it.
pub struct Ids {
    bits: [u64; 1024],
    _weight: Weight,
}

impl Ids {
    pub fn new(memory: &Memory) -> Option<Box<Ids>> {
        let _weight = memory.take(size_of::<Ids>())?;
        Some(Box::new(Ids { bits: [0; 1024], _weight }))
    }

    /// Returns true if it was not there.
    pub fn insert(&mut self, id: u16) -> bool {
        let (bits, bit) = (&mut self.bits[usize::from(id / 64)], 1 << (id % 64));
        let is_new = *bits & bit == 0;
        *bits |= bit;
        is_new
    }

    pub fn remove(&mut self, id: u16) {
        self.bits[usize::from(id / 64)] &= !(1 << (id % 64));
    }
}

//! The broker: sessions by their clients' names, and what a message does.
//!
//! Knows packets that are whole, and connections by their ids. All of it has a bound: each client's
//! queue, and a [`Memory`] each for sessions, subscriptions, what is retained, and what waits, so
//! that none of them can stop another.

use std::collections::HashMap;
use std::rc::Rc;

use slab::Slab;
use waterwheel::net::Conn;
use waterwheel::{Context, SourceId};

use super::memory::Memory;
use super::protocol::{Connect, Publish, Qos, ack, connack, is_shallow, suback};
use super::protocol::{PUBACK, PUBCOMP, PUBREC, PUBREL};
use super::session::{Ids, Outgoing, Room, Session};
use super::topics::{Message, Topics};

/// Of what waits, so much is free before a message is sent: it, and a place in each queue. 4 MiB.
const FREE_BYTES_MIN: usize = 4 * 1024 * 1024;
/// Clients, and sessions of clients that are gone. Of these, the one longest gone makes room.
pub const SESSIONS_MAX: usize = 10_000;
/// Filters of a client; a SUBACK refuses those beyond.
pub const SUBSCRIPTIONS_MAX: usize = 1000;
/// A client's name; MQTT asks for 23 at least.
pub const CLIENT_BYTES_MAX: usize = 256;
/// What a session is counted with, beside its client's name.
const SESSION_BYTES: usize = 512;
/// Packets, deliveries, and topics looked at, in one turn: some milliseconds. Then each client has
/// one packet done in a turn, whatever that asks for.
pub const WORK_MAX: usize = 20_000;
/// The same for the filters of one SUBSCRIBE; a SUBACK refuses those beyond.
const SUBSCRIBE_WORK_MAX: usize = 500_000;

/// Codes of a CONNACK, and that of a SUBACK.
pub const VERSION: u8 = 1;
const NAME: u8 = 2;
const UNAVAILABLE: u8 = 3;
const FAILURE: u8 = 0x80;

#[derive(Default)]
pub struct Broker {
    topics: Topics,
    pub sessions: Slab<Session>,
    by_client: HashMap<Rc<str>, usize>,
    /// For sessions and wills.
    set_up: Memory,
    /// For what waits.
    pub room: Room,
    /// Who gets the message that is being sent.
    hearers: Vec<(usize, Qos)>,
    /// Done in this turn, as [`WORK_MAX`] counts; and which turn that is.
    pub work: usize,
    pub turn: u64,
    leavings: u64,
}

/// A client's number, and its connection: if a newer one has its session, nobody is found.
pub type Who = (usize, SourceId<Conn>);

impl Broker {
    pub fn session(&mut self, (key, conn): Who) -> Option<&mut Session> {
        self.sessions.get_mut(key).filter(|session| session.conn == Some(conn))
    }

    /// Begins or continues a session, and takes it from the client that had it until now. An error is
    /// the code of the CONNACK.
    pub fn connect(
        &mut self,
        reactor: &mut Context<Broker>,
        conn: SourceId<Conn>,
        connect: &Connect<'_>,
    ) -> Result<usize, u8> {
        let name = connect.client;
        if name.len() > CLIENT_BYTES_MAX || (name.is_empty() && !connect.clean) {
            return Err(NAME);
        }
        let mut found = self.by_client.get(name).copied();
        if let Some(key) = found
            && let Some(other) = self.sessions[key].conn
        {
            log::info!("{name:?} has come again: its older connection is closed");
            other.close(reactor);
            self.lost(reactor, (key, other));
            found = self.by_client.get(name).copied();
        }
        if connect.clean {
            found.take().into_iter().for_each(|key| self.remove(key));
        }
        let will = match &connect.will {
            None => None,
            Some(will) => Some((Message::new(will, &self.set_up).ok_or(UNAVAILABLE)?, will.retain)),
        };
        let key = found.map_or_else(|| self.begin(name), Ok)?;
        let session = &mut self.sessions[key];
        (session.conn, session.clean, session.will) = (Some(conn), connect.clean, will);
        session.is_full = false;
        session.write(reactor, &connack(found.is_some(), 0));
        session.redeliver(reactor);
        session.pump(reactor);
        Ok(key)
    }

    fn begin(&mut self, name: &str) -> Result<usize, u8> {
        if self.sessions.len() >= SESSIONS_MAX {
            let gone = self.sessions.iter().filter(|(_, session)| session.conn.is_none());
            let longest = gone.min_by_key(|(_, session)| session.left).map(|(key, _)| key);
            self.remove(longest.ok_or(UNAVAILABLE)?);
        }
        let weight = self.set_up.take(SESSION_BYTES + name.len()).ok_or(UNAVAILABLE)?;
        let name = Rc::<str>::from(name);
        let key = self.sessions.insert(Session::new(name.clone(), weight));
        if !name.is_empty() {
            self.by_client.insert(name, key);
        }
        Ok(key)
    }

    fn remove(&mut self, key: usize) {
        let session = self.sessions.remove(key);
        self.by_client.remove(&session.client);
        for filter in &session.filters {
            self.topics.unsubscribe(filter, key);
        }
    }

    /// A client is gone, and if it has not said so its will is sent.
    pub fn lost(&mut self, reactor: &mut Context<Broker>, who: Who) {
        self.leavings += 1;
        let left = self.leavings;
        let Some(session) = self.session(who) else { return };
        (session.conn, session.left) = (None, left);
        let will = session.will.take();
        if session.clean {
            self.remove(who.0);
        }
        if let Some((will, retain)) = will {
            self.publish(reactor, &will.publish(retain));
        }
    }

    /// Sends a message to all who have subscribed to it.
    pub fn publish(&mut self, reactor: &mut Context<Broker>, publish: &Publish<'_>) {
        if publish.retain && !self.topics.retain(publish) {
            log::warn!("no memory to retain a message for {:?}", publish.topic);
        }
        self.make_room();
        let mut hearers = std::mem::take(&mut self.hearers);
        self.work += self.topics.hearers(publish.topic, &mut hearers) + hearers.len();
        let now = Publish { retain: false, dup: false, id: 0, ..*publish };
        let mut out = Outgoing::new(now, None);
        for (key, qos) in hearers.drain(..) {
            self.sessions[key].offer(reactor, &mut out, qos, &self.room);
        }
        self.hearers = hearers;
    }

    /// A few who are owed much do not keep others from theirs: the one that has most loses it.
    fn make_room(&mut self) {
        while self.room.memory.free() < FREE_BYTES_MIN {
            let most = self.sessions.iter_mut().map(|(_, session)| session);
            match most.max_by_key(|session| session.owed_bytes()) {
                Some(session) if session.owed_bytes() > 0 => session.forget(),
                _ => return,
            }
        }
    }

    /// A message from a client. Returns false if there is no memory to know it again.
    pub fn take(&mut self, reactor: &mut Context<Broker>, key: usize, new: &Publish<'_>) -> bool {
        let received = &mut self.sessions[key].received;
        if new.qos == 2 && received.is_none() {
            *received = Ids::new(&self.set_up);
        }
        let is_new = match received {
            _ if new.qos < 2 => true,
            Some(received) => received.insert(new.id),
            None => return false,
        };
        if is_new {
            self.publish(reactor, new);
        }
        if new.qos > 0 {
            let kind = if new.qos == 1 { PUBACK } else { PUBREC };
            self.sessions[key].write(reactor, &ack(kind, new.id));
        }
        true
    }

    /// An acknowledgement from a client, of either direction.
    pub fn acknowledged(
        &mut self,
        reactor: &mut Context<Broker>,
        key: usize,
        (kind, id): (u8, u16),
    ) {
        let session = &mut self.sessions[key];
        match kind {
            PUBACK => session.done(id, 1),
            PUBREC => {
                session.has_come(id);
                session.write(reactor, &ack(PUBREL, id));
            }
            PUBREL => {
                session.received.iter_mut().for_each(|ids| ids.remove(id));
                session.write(reactor, &ack(PUBCOMP, id));
            }
            _ => session.done(id, 2),
        }
        session.pump(reactor);
    }

    /// Adds subscriptions, acknowledges them, and sends what their topics have retained.
    pub fn subscribe(
        &mut self,
        reactor: &mut Context<Broker>,
        key: usize,
        (id, filters): (u16, &[(&str, Qos)]),
    ) {
        let session = &mut self.sessions[key];
        let (mut codes, mut found, mut work) = (Vec::new(), Vec::new(), 0);
        for &(filter, qos) in filters {
            let fits = session.filters.contains(filter)
                || session.filters.len() < SUBSCRIPTIONS_MAX && is_shallow(filter);
            if !fits || work > SUBSCRIBE_WORK_MAX || !self.topics.subscribe(filter, key, qos) {
                codes.push(FAILURE);
                continue;
            }
            session.filters.insert(filter.into());
            codes.push(qos);
            work += self.topics.retained(filter, &mut |message| found.push((message.clone(), qos)));
            work += found.len();
        }
        session.write(reactor, &suback(id, &codes));
        for (message, qos) in found {
            let mut out = Outgoing::new(message.publish(true), Some(message.clone()));
            session.offer(reactor, &mut out, qos, &self.room);
        }
        self.work += work;
    }

    pub fn unsubscribe(
        &mut self,
        reactor: &mut Context<Broker>,
        key: usize,
        (id, filters): (u16, &[&str]),
    ) {
        let session = &mut self.sessions[key];
        for filter in filters {
            if session.filters.remove(*filter) {
                self.topics.unsubscribe(filter, key);
            }
        }
        session.write(reactor, &suback(id, &[]));
        self.work += filters.len();
    }
}

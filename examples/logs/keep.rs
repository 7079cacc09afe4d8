//! Keeping: lines go to the disk in batches; messages and positions into the journal of the spool.
//!
//! A position follows its lines: with --forward in the same batch, so a crash parts none; with --output
//! behind them, so after a crash some may come again, and none is lost.
//!
//! The disk may refuse both. Then it is tried again every second, and meanwhile nobody is read.

use std::collections::HashMap;
use std::mem;

use waterwheel::Context;
use waterwheel::reactor::Priority;

use super::follow::Position;
use super::journal::{Journal, Snapshot, Stores};
use super::protocol::Head;
use super::server::{RETRY_EVERY, Server, To};
use super::spool::{Seen, Spool, hash, number, record};

impl Server {
    pub fn write(&mut self, reactor: &mut Context<Server>) {
        if self.batch.is_empty() || mem::replace(&mut self.is_writing, true) {
            return;
        }
        // Behind all that has arrived until then.
        reactor.enqueue(Priority::Low, |reactor, server: &mut Server| {
            if let To::Disk(disk) = &server.to {
                disk.clone()(reactor, mem::take(&mut server.batch), server.last);
            }
        });
    }

    /// A batch is on the disk; or it has refused these lines, which are tried again.
    pub fn written(
        &mut self,
        reactor: &mut Context<Server>,
        up_to: u64,
        result: Result<(), (Vec<u8>, String)>,
    ) {
        let Err((mut lines, error)) = result else {
            self.is_writing = false;
            self.release(reactor, up_to);
            return self.write(reactor);
        };
        (self.say)(&format!("cannot write: {error}"));
        lines.append(&mut self.batch);
        self.batch = lines;
        reactor.after(RETRY_EVERY, |reactor, server: &mut Server| {
            server.is_writing = false;
            server.write(reactor);
        });
    }

    pub fn log(&mut self, reactor: &mut Context<Server>, record: &[u8]) {
        let Some(journal) = &mut self.journal else { return };
        self.journaled.0 = journal.append(reactor, record);
        if let To::Next(_) = self.to {
            self.last = self.journaled.0;
        }
    }

    fn log_again(&mut self, reactor: &mut Context<Server>) {
        for (id, message) in self.spool.from(self.spool.stored).collect::<Vec<_>>() {
            self.log(reactor, &record(b'M', &[id], &message));
        }
        self.log(reactor, &record(b'N', &[self.spool.name, self.spool.first], b""));
        for at in 0..self.positions.len() {
            self.log(reactor, &position(&self.positions[at]));
        }
        self.retry = Some(self.journaled.0);
    }

    /// Messages that would be lost if it ended now.
    pub fn unsafe_messages(&self) -> u64 {
        match (&self.to, &self.journal) {
            (To::Next(_), None) => self.spool.next() - self.spool.first,
            (To::Next(_), Some(_)) => self.spool.next() - self.spool.stored,
            (To::Disk(_), _) => self.batch.iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }

    /// Ends when all is safe that was taken.
    pub fn end(&mut self, reactor: &mut Context<Server>) {
        self.is_ending = true;
        self.end_if_safe(reactor);
    }

    pub fn end_if_safe(&mut self, reactor: &mut Context<Server>) {
        if self.is_ending && self.last <= self.done && self.journaled.0 <= self.journaled.1 {
            reactor.stop();
        }
    }
}

impl Stores for Server {
    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().expect("only a journal calls this")
    }

    fn stored(&mut self, reactor: &mut Context<Self>, up_to: u64, result: Result<(), String>) {
        match result {
            Ok(()) if self.retry.is_some_and(|last| up_to < last) => return,
            Ok(()) => (self.retry, self.journaled.1) = (None, up_to),
            Err(error) => {
                (self.say)(&format!("cannot write to the spool: {error}"));
                if self.retry != Some(u64::MAX) {
                    self.retry = Some(u64::MAX);
                    reactor.after(RETRY_EVERY, |reactor, it: &mut Server| it.log_again(reactor));
                }
                return;
            }
        }
        match self.to {
            To::Next(_) => self.release(reactor, up_to),
            To::Disk(_) => self.end_if_safe(reactor),
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let mut records = vec![record(b'N', &[self.spool.name, self.spool.first], b"")];
        records.extend(self.positions.iter().map(position));
        for (sender, (_, ids)) in &self.seen.senders {
            let ids: Vec<u64> = [*sender].into_iter().chain(ids.iter().rev().copied()).collect();
            records.push(record(b'S', &ids, b""));
        }
        let messages: Vec<_> = self.spool.from(self.spool.first).collect();
        Box::new(move |write| {
            records.iter().for_each(|record| write(record));
            messages.iter().for_each(|(id, message)| write(&record(b'M', &[*id], message)));
        })
    }
}

pub fn position((path, Position { inode, at }): &(String, Position)) -> Vec<u8> {
    record(b'P', &[*inode, *at], path.as_bytes())
}

/// Remembers the id of a message that is safe, if it has one.
pub fn see(seen: &mut Seen, message: &[u8]) {
    if let Some((sender, id)) = Head::of(message).id {
        seen.is_new(hash(sender), hash(id));
    }
}

/// What a record of the spool says.
pub fn replay(
    (spool, seen, positions): (&mut Spool, &mut Seen, &mut HashMap<String, Position>),
    record: &[u8],
) -> Result<(), String> {
    let bad = || "a record is none of logs".to_owned();
    let (letter, rest) = record.split_first().ok_or_else(bad)?;
    let (one, rest) = number(rest).ok_or_else(bad)?;
    match letter {
        b'N' => {
            let (first, _) = number(rest).ok_or_else(bad)?;
            spool.name = one;
            spool.forget(first);
        }
        b'M' => {
            spool.push(one, rest);
            see(seen, rest);
        }
        b'A' => spool.forget(one),
        b'P' => {
            let (at, path) = number(rest).ok_or_else(bad)?;
            let path = String::from_utf8_lossy(path).into_owned();
            positions.insert(path, Position { inode: one, at });
        }
        b'S' => {
            let mut rest = rest;
            while let Some((id, others)) = number(rest) {
                seen.is_new(one, id);
                rest = others;
            }
        }
        _ => return Err(bad()),
    }
    Ok(())
}

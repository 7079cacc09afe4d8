//! Can the kernel wait for many? A table of sockets, and one call that sleeps until one is ready.
//!
//! # Contract
//! * `poll` asks with one entry for each token that is registered. It returns when the kernel has
//!   said something, or when the timeout is over: not before, and at most a millisecond after. It
//!   does not ask more often than it must. `None`: there is no timeout.
//! * Whatever the kernel has said of a socket is in one `Heard`: `hung_up` beside `readable`. A
//!   socket that has failed, or is unknown, counts as hung up. A socket of which nothing was said
//!   is not among them.
//! * A signal (`Interrupted`) ends no wait, and moves no deadline.
//! * `turn` waits once, asks each client that was heard, and forgets those that have ended. It gives
//!   what was heard. A client that is owed bytes waits for room to write; any other one waits for
//!   bytes to read.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::time::Duration;

use kit::{Entry, Heard, Interest, Kernel, Poll, Said};

use super::ask::{Client, State};

/// The table, and the token of each entry.
pub struct Wait<P> {
    pub poll: P,
    entries: Vec<Entry>,
    tokens: Vec<usize>,
}

impl<P: Poll> Wait<P> {
    pub fn new(poll: P) -> Wait<P> {
        Wait { poll, entries: Vec::new(), tokens: Vec::new() }
    }

    /// Waits for that socket, too, under a new token.
    pub fn register(&mut self, number: i32, token: usize, wants: Interest) {
        self.entries.push(Entry { number, wants, says: Said::default() });
        self.tokens.push(token);
    }

    /// Waits for something else from now on.
    pub fn change(&mut self, token: usize, wants: Interest) {
        if let Some(place) = self.tokens.iter().position(|other| *other == token) {
            self.entries[place].wants = wants;
        }
    }

    /// Does not wait for it any more.
    pub fn deregister(&mut self, token: usize) {
        if let Some(place) = self.tokens.iter().position(|other| *other == token) {
            self.entries.swap_remove(place);
            self.tokens.swap_remove(place);
        }
    }
}

/// Milliseconds as poll(2) takes them: rounded up, and -1 for no timeout.
fn milliseconds(left: Option<Duration>) -> i32 {
    // Yours: which way does it round? And how much fits into an i32?
    left.map_or(-1, |left| left.as_millis() as i32)
}

impl<P: Poll> Kernel for Wait<P> {
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Heard>) -> io::Result<()> {
        // Yours: a deadline, a signal, and all that an entry says. This one only passes it on.
        self.poll.poll(&mut self.entries, milliseconds(timeout))?;
        for (entry, token) in self.entries.iter().zip(&self.tokens) {
            if entry.says.readable {
                ready.push(Heard { token: *token, readable: true, ..Heard::default() });
            }
        }
        Ok(())
    }
}

/// Waits once, and asks the clients that were heard. A client's token is its key.
pub fn turn<P: Poll, S: Read + Write>(
    wait: &mut Wait<P>,
    clients: &mut BTreeMap<usize, Client<S>>,
    timeout: Option<Duration>,
) -> io::Result<Vec<Heard>> {
    let mut heard = Vec::new();
    wait.poll(timeout, &mut heard)?;
    for Heard { token, .. } in &heard {
        let Some(client) = clients.get_mut(token) else { continue }; // A listener, for instance.
        // Yours: ask it. Then either forget it, or say what it waits for from now on.
        let _ = (client, State::Ended);
    }
    Ok(heard)
}

//! Level or edge? The kernel reports each change once, and a loop must not forget what is left.
//!
//! # Contract
//! * `turn` waits once. Then it asks each client that was heard until it is idle, but at most
//!   `budget` times. A client that is still busy is resumed. One that has ended is forgotten. It
//!   gives what was heard.
//! * A hang-up ends no client: what it has sent before is read first, by asking.
//! * A token that was resumed is heard as readable in the next poll, in one `Heard` with what the
//!   kernel says of it, and not again after that.
//! * While a token is resumed, `poll` does not sleep. If the kernel gives an error, for instance
//!   because a signal came, the token stays resumed.
//! * A report of a token that nobody has, or of a client with nothing to read, does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::mem;
use std::time::Duration;

use kit::{Heard, Kernel};

use super::ask::{Client, State};

/// A kernel that reports changes, and the tokens that are to be heard again.
pub struct Edges<K> {
    pub kernel: K,
    resumed: BTreeSet<usize>,
}

impl<K: Kernel> Edges<K> {
    pub fn new(kernel: K) -> Edges<K> {
        Edges { kernel, resumed: BTreeSet::new() }
    }

    /// The next poll hears this token, whatever the kernel says.
    pub fn resume(&mut self, token: usize) {
        self.resumed.insert(token);
    }
}

impl<K: Kernel> Kernel for Edges<K> {
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Heard>) -> io::Result<()> {
        let timeout = if self.resumed.is_empty() { timeout } else { Some(Duration::ZERO) };
        self.kernel.poll(timeout, ready)?;
        for token in mem::take(&mut self.resumed) {
            match ready.iter_mut().find(|heard| heard.token == token) {
                Some(heard) => heard.readable = true,
                None => ready.push(Heard { token, readable: true, ..Heard::default() }),
            }
        }
        Ok(())
    }
}

/// Waits once, and asks the clients that were heard. A client's token is its key.
pub fn turn<K: Kernel, S: Read + Write>(
    edges: &mut Edges<K>,
    clients: &mut BTreeMap<usize, Client<S>>,
    budget: usize,
    timeout: Option<Duration>,
) -> io::Result<Vec<Heard>> {
    let mut heard = Vec::new();
    edges.poll(timeout, &mut heard)?;
    for Heard { token, .. } in &heard {
        let Some(client) = clients.get_mut(token) else { continue };
        let mut state = State::Busy;
        for _ in 0..budget {
            state = client.ask();
            if state != State::Busy {
                break;
            }
        }
        match state {
            State::Busy => edges.resume(*token),
            State::Idle => {}
            State::Ended => drop(clients.remove(token)),
        }
    }
    Ok(heard)
}

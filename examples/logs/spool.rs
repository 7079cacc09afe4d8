//! The spool: messages until the next collector has acknowledged them; and the ids that were seen.
//!
//! Plain data. Its records, in the journal, begin with a letter:
//!
//! ```text
//!   N name first     its name at the receiver, and the id of the first message
//!   M id message     taken                A first           acknowledged up to there
//!   P inode at path  how far a file is    S sender ids…     seen
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Messages that were sent and whose acknowledgement is not on the disk; after a crash they are sent
/// again. No more than the ids that are remembered of a sender.
pub const WINDOW: u64 = 1000;
const IDS_MAX: usize = 1024;
/// Senders with ids. One more, and that which was silent for longest is forgotten.
pub const SENDERS_MAX: usize = 1024;
/// What a message costs beside its bytes.
const OVERHEAD_BYTES: usize = 64;

#[derive(Default)]
pub struct Spool {
    /// Never used before: chosen at random, and kept with the file.
    pub name: u64,
    /// The id of the first message.
    pub first: u64,
    pub messages: VecDeque<Arc<[u8]>>,
    pub bytes: usize,
    /// Ids from here on are not on the disk; are not sent; are acknowledged, not for sure on the disk.
    pub stored: u64,
    pub sent: u64,
    pub settled: u64,
}

impl Spool {
    /// The id of the next message.
    pub fn next(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    /// Takes a message with its number; false if that is not the next one.
    pub fn push(&mut self, id: u64, message: &[u8]) -> bool {
        let is_next = id == self.next();
        if is_next {
            self.bytes += message.len() + OVERHEAD_BYTES;
            self.messages.push_back(message.into());
        }
        is_next
    }

    /// All before this one are acknowledged.
    pub fn forget(&mut self, first: u64) {
        while self.first < first
            && let Some(message) = self.messages.pop_front()
        {
            self.bytes -= message.len() + OVERHEAD_BYTES;
            self.first += 1;
        }
        self.first = self.first.max(first);
    }

    /// The next message to send, if one may be sent.
    pub fn to_send(&self) -> Option<&[u8]> {
        let may = self.sent < self.stored && self.sent < self.settled + WINDOW;
        self.messages.get((self.sent - self.first) as usize).filter(|_| may).map(|it| &it[..])
    }

    /// From this id on.
    pub fn from(&self, id: u64) -> impl Iterator<Item = (u64, Arc<[u8]>)> + use<'_> {
        let all = self.messages.iter().cloned();
        (self.first..).zip(all).skip(id.saturating_sub(self.first) as usize)
    }
}

/// A record: a letter, numbers, bytes.
pub fn record(letter: u8, numbers: &[u64], bytes: &[u8]) -> Vec<u8> {
    let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
    [letter].into_iter().chain(numbers).chain(bytes.iter().copied()).collect()
}

/// Its number, and the rest.
pub fn number(record: &[u8]) -> Option<(u64, &[u8])> {
    record.split_first_chunk().map(|(number, rest)| (u64::from_le_bytes(*number), rest))
}

/// The last ids of each sender. 8 MiB at most.
#[derive(Default)]
pub struct Seen {
    /// When a message of it came last, and its ids, by a hash.
    pub senders: BTreeMap<u64, (u64, VecDeque<u64>)>,
    came: u64,
}

impl Seen {
    /// Returns true if it was not among them. O(ids).
    pub fn is_new(&mut self, sender: u64, id: u64) -> bool {
        self.came += 1;
        if self.senders.len() == SENDERS_MAX && !self.senders.contains_key(&sender) {
            let oldest = self.senders.iter().min_by_key(|(_, (came, _))| *came);
            let oldest = oldest.map(|(sender, _)| *sender);
            oldest.and_then(|oldest| self.senders.remove(&oldest));
        }
        let (came, ids) = self.senders.entry(sender).or_default();
        *came = self.came;
        let is_new = !ids.contains(&id);
        if is_new {
            ids.truncate(IDS_MAX - 1);
            ids.push_front(id);
        }
        is_new
    }
}

/// FNV-1a: the same in each run.
pub fn hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

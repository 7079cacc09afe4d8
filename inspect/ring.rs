//! The ring: the latest records, written by the loop's thread and read by the page's.
//!
//! Knows records; takes no lock and never waits. A record is four words of an atomic each, so the
//! reader may find a record that is being overwritten. It copies the words first and looks at the
//! head afterwards: what the writer may have reached meanwhile is not used, and counts as lost. This
//! is the reader's side of a sequence lock (Boehm, "Can seqlocks get along with programming language
//! memory models?", 2012, section 4), with the head as the sequence.
//!
//! At the end of this file a model checker tries the orders in which the two may go.
//!
//! # Read next
//! `wire.rs`: how a record goes to the page.

use std::sync::OnceLock;

use crate::reactor::Kind;
use sync::{AtomicU64, Ordering, fence};

/// Types that the threads share: the standard library's, or those of a model checker that tries every
/// order: `RUSTFLAGS="--cfg loom" cargo test --lib model`.
mod sync {
    #[cfg(all(test, loom))]
    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
    #[cfg(not(all(test, loom)))]
    pub use std::sync::atomic::{AtomicU64, Ordering, fence};
}

/// Records that are kept. 65,536: half a minute of two thousand a second; 2 MiB.
pub const RECORDS_MAX: usize = 65_536;

/// A record in four words; places and names are numbers (`tables.rs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    pub nanos: u64,
    /// The number of the subject's kind: 0 none, 1 source, 2 timer, 3 deadline of a source.
    pub subject: u8,
    pub index: u32,
    pub generation: u32,
    /// How many records ago the cause was; 0 for none.
    pub cause: u32,
    pub argument: u32,
    pub kind: u8,
    pub place: u16,
}

impl Packed {
    fn words(self) -> [u64; 4] {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let marks = u32::from(self.kind) << 8 | u32::from(self.subject);
        [
            self.nanos,
            pair(self.index, self.generation),
            pair(self.cause, self.argument),
            pair(marks, self.place.into()),
        ]
    }

    fn from_words([nanos, id, numbers, last]: [u64; 4]) -> Packed {
        Packed {
            nanos,
            subject: (last >> 32) as u8,
            index: (id >> 32) as u32,
            generation: id as u32,
            cause: (numbers >> 32) as u32,
            argument: numbers as u32,
            kind: (last >> 40) as u8,
            place: last as u16,
        }
    }
}

/// Returns true if a record of this kind begins a callback.
pub fn begins(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::RunSource
            | Kind::RunTimer
            | Kind::RunDeferred
            | Kind::RunEnqueued
            | Kind::RunPosted
            | Kind::RunHook
            | Kind::RunNested
            | Kind::Flushed
    )
}

/// The ring. One thread writes, any may read.
#[derive(Debug)]
pub struct Ring {
    /// Made with the first record: a loop that no page has looked at needs no memory for it.
    words: OnceLock<Box<[[AtomicU64; 4]]>>,
    /// How many records it holds, a power of two.
    records: usize,
    /// The number of the last record; 0 before the first.
    head: AtomicU64,
    /// The number of the record that is being written, or was written last.
    begun: AtomicU64,
    /// The first number since which none is left out.
    start: AtomicU64,
}

impl Ring {
    /// A ring of so many records, rounded up to a power of two.
    pub fn new(records: usize) -> Ring {
        Ring {
            words: OnceLock::new(),
            records: records.next_power_of_two(),
            head: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            start: AtomicU64::new(1),
        }
    }

    fn slot(&self, sequence: u64) -> &[AtomicU64; 4] {
        let make = || (0..self.records).map(|_| Default::default()).collect();
        &self.words.get_or_init(make)[sequence as usize & (self.records - 1)]
    }

    /// The records up to this one were not written if they are later than the last: nobody looked. They,
    /// and those before them, cannot be read.
    pub fn skip_to(&self, sequence: u64) {
        if sequence > self.head.load(Ordering::Relaxed) {
            self.begun.store(sequence, Ordering::Relaxed);
            self.start.store(sequence + 1, Ordering::Relaxed);
            self.head.store(sequence, Ordering::Release);
        }
    }

    /// The number behind the last that was skipped; 1 if none was.
    pub fn start(&self) -> u64 {
        self.start.load(Ordering::Relaxed)
    }

    /// Writes the record of this number, the next one.
    pub fn write(&self, sequence: u64, record: Packed) {
        self.begun.store(sequence, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.slot(sequence).iter().zip(record.words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.head.store(sequence, Ordering::Release);
    }

    /// The number of the last record.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Reads the record of this number; `None` if it has not come yet, or was overwritten.
    pub fn read(&self, sequence: u64) -> Option<Packed> {
        // The head is read first: who sees it behind a gap sees where the gap ends.
        if sequence > self.head() || sequence < self.start() {
            return None;
        }
        let words = self.slot(sequence).each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let begun = self.begun.load(Ordering::Relaxed);
        (begun - sequence < self.records as u64).then(|| Packed::from_words(words))
    }

    /// The first number that can still be read, if no record is written meanwhile.
    pub fn oldest(&self) -> u64 {
        (self.head() + 1).saturating_sub(self.records as u64).max(self.start())
    }
}

/// A record whose words all differ from those of the others.
#[cfg(test)]
fn record(n: u64) -> Packed {
    Packed {
        nanos: n,
        subject: n as u8 % 4,
        index: n as u32,
        generation: !n as u32,
        cause: (n * 3) as u32,
        argument: (n * 7) as u32,
        kind: n as u8,
        place: n as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_comes_out_as_it_went_in_until_it_is_overwritten() {
        let ring = Ring::new(8);
        assert_eq!((ring.head(), ring.read(0), ring.read(1)), (0, None, None));
        for n in 1..=20 {
            ring.write(n, record(n));
            assert_eq!(ring.read(n), Some(record(n)));
            assert_eq!(ring.read(n + 1), None, "has not come");
            let oldest = ring.oldest();
            assert_eq!(oldest, n.saturating_sub(7).max(1));
            assert_eq!(ring.read(oldest), Some(record(oldest)));
            assert_eq!(ring.read(oldest - 1), None, "was overwritten");
        }
    }

    #[test]
    fn records_that_nobody_wrote_are_not_read() {
        let ring = Ring::new(8);
        ring.skip_to(0);
        (1..=3).for_each(|n| ring.write(n, record(n)));
        ring.skip_to(3);
        assert_eq!((ring.start(), ring.oldest(), ring.head()), (1, 1, 3), "there is no gap");
        ring.skip_to(6);
        assert_eq!((ring.start(), ring.oldest(), ring.head()), (7, 7, 6));
        ring.write(7, record(7));
        for n in 0..=8 {
            assert_eq!(ring.read(n), (n == 7).then(|| record(7)), "{n}");
        }
    }

    #[test]
    fn reader_on_another_thread_never_gets_a_mixture() {
        let ring = Ring::new(4);
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=200_000).for_each(|n| ring.write(n, record(n))));
            let mut read = 0;
            while ring.head() < 200_000 {
                for n in ring.oldest()..=ring.head() {
                    if let Some(found) = ring.read(n) {
                        assert_eq!(found, record(n));
                        read += 1;
                    }
                }
            }
            assert!(read > 0 || ring.read(200_000) == Some(record(200_000)));
        });
    }
}

/// The ring under a model checker. It lets a relaxed load return each value that the memory model
/// allows, older ones included. It moves no store in front of a load of the same thread, as the memory
/// model would: here the reader stores nothing, and the writer loads nothing that decides.
#[cfg(all(test, loom))]
mod model {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    const RECORDS: u64 = 4;
    /// The last two are written over the first two.
    const LAST: u64 = 6;

    /// A reader asks for one record, while the last two are written: in all orders, half a second's.
    fn read_one(sequence: u64) {
        loom::model(move || {
            let ring = Arc::new(Ring::new(RECORDS as usize));
            (1..=RECORDS).for_each(|n| ring.write(n, record(n)));
            let writes = ring.clone();
            let writer = thread::spawn(move || {
                (RECORDS + 1..=LAST).for_each(|n| writes.write(n, record(n)));
            });
            if let Some(found) = ring.read(sequence) {
                assert_eq!(found, record(sequence));
            }
            writer.join().unwrap();
            let expected = (sequence > LAST - RECORDS).then(|| record(sequence));
            assert_eq!(ring.read(sequence), expected);
        });
    }

    #[test]
    fn record_is_read_whole_or_not_at_all() {
        (1..=LAST).for_each(read_one);
    }

    #[test]
    fn record_that_nobody_wrote_is_not_read() {
        (1..=LAST).for_each(|sequence| {
            loom::model(move || {
                let ring = Arc::new(Ring::new(RECORDS as usize));
                (1..=2).for_each(|n| ring.write(n, record(n)));
                let writes = ring.clone();
                let writer = thread::spawn(move || {
                    writes.skip_to(LAST - 1);
                    writes.write(LAST, record(LAST));
                });
                let found = ring.read(sequence);
                assert!(found.is_none() || found == Some(record(sequence)));
                assert!(found.is_none() || !(3..LAST).contains(&sequence));
                writer.join().unwrap();
            });
        });
    }
}

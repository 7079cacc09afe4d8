//! poll(2), as a table of numbers: the real one, and one that does what a script says.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::Interest;

/// A line of the table: poll(2) calls it `struct pollfd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The number by which the kernel names the socket: `fd`.
    pub number: i32,
    /// What is asked: `events`.
    pub wants: Interest,
    /// What the kernel answers: `revents`. Each call writes it anew.
    pub says: Said,
}

/// What poll(2) says about a socket. The last three come whatever was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// `POLLIN`
    pub readable: bool,
    /// `POLLOUT`
    pub writable: bool,
    /// `POLLHUP`
    pub hung_up: bool,
    /// `POLLERR`
    pub failed: bool,
    /// `POLLNVAL`: no open socket has this number.
    pub unknown: bool,
}

/// What the kernel says to who wants only this.
fn cut(says: Said, wants: Interest) -> Said {
    let (readable, writable) = (says.readable && wants.readable, says.writable && wants.writable);
    Said { readable, writable, ..says }
}

/// The call, and a clock.
pub trait Poll {
    /// Waits until the kernel has something to say about an entry, or so many milliseconds have
    /// passed; -1 waits without end. Gives how many entries it says something about.
    ///
    /// # Errors
    /// `Interrupted`: a signal came first.
    fn poll(&mut self, entries: &mut [Entry], timeout_ms: i32) -> io::Result<usize>;

    /// The time now, since some moment that stays the same.
    fn now(&self) -> Duration;
}

/// The kernel's.
pub struct SystemPoll {
    start: Instant,
    files: BTreeMap<i32, Weak<dyn AsFd>>,
    /// Calls so far.
    pub polls: usize,
}

impl std::fmt::Debug for SystemPoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemPoll").field("polls", &self.polls).finish_non_exhaustive()
    }
}

impl Default for SystemPoll {
    fn default() -> SystemPoll {
        SystemPoll { start: Instant::now(), files: BTreeMap::new(), polls: 0 }
    }
}

impl SystemPoll {
    pub fn new() -> SystemPoll {
        SystemPoll::default()
    }

    /// The number of a socket. It may be in a table until the socket is dropped; from then on it is
    /// `unknown`. (Rust does not let a bare number be given to the kernel: it may name another
    /// socket by then.)
    pub fn number_of<T: AsFd + 'static>(&mut self, file: &Rc<T>) -> i32 {
        let number = file.as_fd().as_raw_fd();
        let file: Rc<dyn AsFd> = file.clone();
        self.files.insert(number, Rc::downgrade(&file));
        number
    }
}

impl Poll for SystemPoll {
    fn poll(&mut self, entries: &mut [Entry], timeout_ms: i32) -> io::Result<usize> {
        self.polls += 1;
        let files: Vec<Option<Rc<dyn AsFd>>> = entries
            .iter()
            .map(|entry| self.files.get(&entry.number).and_then(Weak::upgrade))
            .collect();
        let known = files.iter().zip(&*entries).filter_map(|(file, entry)| {
            let mut wants = PollFlags::empty();
            wants.set(PollFlags::IN, entry.wants.readable);
            wants.set(PollFlags::OUT, entry.wants.writable);
            Some(PollFd::from_borrowed_fd(file.as_ref()?.as_fd(), wants))
        });
        let mut table: Vec<PollFd<'_>> = known.collect();
        let unknown = table.len() < entries.len();
        let ms = if unknown { 0 } else { timeout_ms };
        let timeout = (ms >= 0).then(|| Timespec {
            tv_sec: i64::from(ms / 1000),
            tv_nsec: i64::from(ms % 1000) * 1_000_000,
        });
        rustix::event::poll(&mut table, timeout.as_ref())?;
        let mut answers = table.iter();
        for (file, entry) in files.iter().zip(&mut *entries) {
            entry.says = match file.as_ref().and_then(|_| answers.next()) {
                Some(answer) => said(answer.revents()),
                None => Said { unknown: true, ..Said::default() },
            };
        }
        Ok(entries.iter().filter(|entry| entry.says != Said::default()).count())
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

fn said(flags: PollFlags) -> Said {
    Said {
        readable: flags.contains(PollFlags::IN),
        writable: flags.contains(PollFlags::OUT),
        hung_up: flags.contains(PollFlags::HUP),
        failed: flags.contains(PollFlags::ERR),
        unknown: flags.contains(PollFlags::NVAL),
    }
}

/// A socket that a client keeps and that a table may look at. It does not block.
#[derive(Clone, Debug)]
pub struct Socket(pub Rc<TcpStream>);

impl Socket {
    /// # Errors
    /// If the mode cannot be set.
    pub fn new(stream: TcpStream) -> io::Result<Socket> {
        stream.set_nonblocking(true)?;
        Ok(Socket(Rc::new(stream)))
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(into)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the script says to one call.
#[derive(Clone, Debug)]
pub enum Polled {
    /// So long after it was asked, this was so; by number.
    Says(Duration, Vec<(i32, Said)>),
    /// So long after it was asked, a signal came.
    Interrupted(Duration),
}

/// The most calls that a script answers. 100,000: a loop without end fails in a second.
const POLLS_MAX: usize = 100_000;

/// A poll(2) that does what a script says, with a clock of its own. When the script is over, nothing
/// happens any more.
#[derive(Debug, Default)]
pub struct PollScript {
    says: VecDeque<Polled>,
    /// The time now, since the script began.
    pub now: Duration,
    /// The timeouts that it was asked with, in milliseconds.
    pub asked: Vec<i32>,
}

impl PollScript {
    pub fn new(says: impl IntoIterator<Item = Polled>) -> PollScript {
        PollScript { says: says.into_iter().collect(), ..PollScript::default() }
    }
}

impl Poll for PollScript {
    fn poll(&mut self, entries: &mut [Entry], timeout_ms: i32) -> io::Result<usize> {
        self.asked.push(timeout_ms);
        if self.asked.len() > POLLS_MAX {
            panic!("It asks {POLLS_MAX} times in a row, and does not wait.");
        }
        entries.iter_mut().for_each(|entry| entry.says = Said::default());
        let next = match self.says.front_mut() {
            Some(Polled::Says(after, _) | Polled::Interrupted(after)) => Some(after),
            None => None,
        };
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        match (next, timeout) {
            (Some(after), Some(timeout)) if timeout < *after => {
                *after -= timeout;
                self.now += timeout;
                return Ok(0);
            }
            (None, Some(timeout)) => {
                self.now += timeout;
                return Ok(0);
            }
            (None, None) => return Err(io::Error::other("it sleeps for ever: nothing comes")),
            _ => {}
        }
        match self.says.pop_front() {
            Some(Polled::Says(after, says)) => {
                self.now += after;
                for entry in &mut *entries {
                    let own = says.iter().find(|(number, _)| *number == entry.number);
                    entry.says = own.map_or(Said::default(), |(_, said)| cut(*said, entry.wants));
                }
                Ok(entries.iter().filter(|entry| entry.says != Said::default()).count())
            }
            Some(Polled::Interrupted(after)) => {
                self.now += after;
                Err(io::ErrorKind::Interrupted.into())
            }
            None => unreachable!("handled above"),
        }
    }

    fn now(&self) -> Duration {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_system_says_what_was_asked_and_a_hang_up_unasked() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (ours, mut poll) = (Rc::new(ours), SystemPoll::new());
        let number = poll.number_of(&ours);
        let wants = Interest { readable: true, writable: false };
        let mut table = [Entry { number, wants, ..Entry::default() }];
        assert_eq!(poll.poll(&mut table, 1).unwrap(), 0);
        theirs.write_all(b"x").unwrap();
        assert_eq!(poll.poll(&mut table, -1).unwrap(), 1);
        assert_eq!(table[0].says, Said { readable: true, ..Said::default() });
        drop(theirs);
        table[0].wants = Interest::default();
        assert_eq!(poll.poll(&mut table, -1).unwrap(), 1);
        assert_eq!(table[0].says, Said { hung_up: true, ..Said::default() });
        drop(ours);
        assert_eq!(poll.poll(&mut table, -1).unwrap(), 1);
        assert!(table[0].says.unknown);
    }

    #[test]
    fn a_script_has_its_own_time() {
        let second = Duration::from_secs(1);
        let readable = Said { readable: true, ..Said::default() };
        let says = vec![(7, Said { hung_up: true, ..readable }), (8, readable)];
        let mut poll = PollScript::new([Polled::Interrupted(second), Polled::Says(second, says)]);
        let wants = Interest { readable: false, writable: true };
        let mut table = [7, 8].map(|number| Entry { number, wants, ..Entry::default() });
        assert!(poll.poll(&mut table, -1).is_err());
        assert_eq!(poll.poll(&mut table, 400).unwrap(), 0);
        assert_eq!(poll.poll(&mut table, 600).unwrap(), 1);
        assert_eq!(table[0].says, Said { hung_up: true, ..Said::default() }, "not asked to read");
        assert_eq!((poll.now, poll.asked.len()), (2 * second, 3));
        assert!(poll.poll(&mut table, -1).is_err());
    }
}

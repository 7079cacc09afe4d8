//! The kernel's lists of what waits in the queues of sources, as Linux shows them to each process.
//!
//! Knows proc_pid_fdinfo(5) and proc_pid_net(5); never touches a descriptor of a source, and makes no
//! system call on the loop's thread.
//!
//! ```text
//!   /proc/self/fdinfo/N      tfd: 7 events: 80002019 data: 300000005 pos:0 ino:a33bc1 sdev:9
//!                                           for reading    the token       ─┬────
//!   /proc/thread-self/net/tcp   … 08 00000000:00000258 … 10697665           ┘ decimal there
//!                              state tx_queue:rx_queue   inode
//! ```
//!
//! A socket's queue is in bytes, a listener's in connections. The end of a stream counts as a byte. A
//! queue of datagrams is the memory that they take, which is more than their bytes.
//!
//! # Left out
//! Pipes and Unix sockets: no list has their queues. Linux before 4.13, which lists no inodes. Where
//! there are no such lists, nothing waits.
//!
//! # Read next
//! `unread.rs`: what is made of it.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Reactor;
use crate::reactor::RawId;

/// Index and generation of a source.
pub type Id = (u32, u32);

/// Of the events for which a descriptor is watched: EPOLLIN of epoll_ctl(2).
const READABLE: u32 = 1;
/// The kernel's tables of sockets, and the word for what waits in their queues.
const TABLES: [(&str, Of); 8] = [
    ("tcp", Input::Bytes),
    ("tcp6", Input::Bytes),
    ("udp", Input::Datagrams),
    ("udp6", Input::Datagrams),
    ("icmp", Input::Datagrams),
    ("icmp6", Input::Datagrams),
    ("raw", Input::Datagrams),
    ("raw6", Input::Datagrams),
];
type Of = fn(u64) -> Input;
/// The columns of these tables.
const STATE: usize = 3;
const QUEUES: usize = 4;
const INODE: usize = 9;
/// States of a stream, in hexadecimal digits: it listens; its peer has finished writing (CLOSE_WAIT,
/// LAST_ACK, CLOSING).
const LISTENS: &str = "0A";
const HAS_END: [&str; 3] = ["08", "09", "0B"];

/// What the kernel holds for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes of a stream.
    Bytes(u64),
    /// Connections that a listener has not accepted.
    Connections(u64),
    /// Bytes of the memory that datagrams take.
    Datagrams(u64),
}

impl Input {
    pub fn amount(self) -> u64 {
        let (Input::Bytes(amount) | Input::Connections(amount) | Input::Datagrams(amount)) = self;
        amount
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Bytes(1) => f.write_str("1 byte waits unread"),
            Input::Bytes(many) => write!(f, "{many} bytes wait unread"),
            Input::Connections(1) => f.write_str("1 connection waits to be accepted"),
            Input::Connections(many) => write!(f, "{many} connections wait to be accepted"),
            Input::Datagrams(bytes) => {
                write!(f, "datagrams wait unread, {bytes} bytes of the kernel's memory")
            }
        }
    }
}

/// A loop's selector, as another thread can look at it. It is a descriptor of the page's own, so its
/// number is not another's when the loop has gone.
#[derive(Debug, Default)]
pub struct Selector(Mutex<Option<Descriptor>>);

#[cfg(unix)]
type Descriptor = std::os::fd::OwnedFd;
#[cfg(not(unix))]
type Descriptor = ();

impl Selector {
    fn lock(&self) -> MutexGuard<'_, Option<Descriptor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this loop's. Without a descriptor to spare there is nothing to see.
    #[cfg(target_os = "linux")]
    pub fn open<S>(&self, reactor: &Reactor<S>) {
        use std::os::fd::AsFd;
        *self.lock() = reactor.as_fd().try_clone_to_owned().ok();
    }

    #[cfg(not(target_os = "linux"))]
    pub fn open<S>(&self, _: &Reactor<S>) {}

    /// The loop has gone.
    pub fn close(&self) {
        *self.lock() = None;
    }

    /// What the selector watches, a line each.
    #[cfg(unix)]
    fn list(&self) -> Option<String> {
        use std::os::fd::AsRawFd;
        let descriptor = self.lock();
        let number = descriptor.as_ref()?.as_raw_fd();
        fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()
    }

    #[cfg(not(unix))]
    fn list(&self) -> Option<String> {
        None
    }

    /// What waits for those of the sources that are wanted and have a descriptor. `None` if there are no
    /// such lists.
    ///
    /// # Cost
    /// O(descriptors of the loop), 1.5 µs each, in which the loop cannot poll: the kernel has a lock for
    /// the list. If one of these is watched for reading, O(sockets of the machine), 2 µs each.
    pub fn waiting(&self, is_wanted: &dyn Fn(Id) -> bool) -> Option<HashMap<Id, Input>> {
        let (mut waiting, mut inodes) = (HashMap::new(), HashMap::<u64, Vec<Id>>::new());
        let list = self.list()?;
        for target in list.lines().filter_map(target).filter(|target| is_wanted(target.id)) {
            waiting.insert(target.id, Input::Bytes(0));
            if target.events & READABLE != 0 {
                inodes.entry(target.inode).or_default().push(target.id);
            }
        }
        for (file, of) in TABLES {
            if inodes.is_empty() {
                break;
            }
            let table = fs::read_to_string(format!("/proc/thread-self/net/{file}"));
            for (inode, input) in table.unwrap_or_default().lines().filter_map(|line| row(line, of))
            {
                for id in inodes.remove(&inode).into_iter().flatten() {
                    waiting.insert(id, input);
                }
            }
        }
        Some(waiting)
    }
}

/// A descriptor that the selector watches.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    id: Id,
    events: u32,
    inode: u64,
}

fn target(line: &str) -> Option<Target> {
    let line = line.strip_prefix("tfd:")?;
    let after = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split_ascii_whitespace().next()
    };
    let token = usize::from_str_radix(after("data:")?, 16).ok()?;
    Some(Target {
        id: RawId::from_number(token).parts(),
        events: u32::from_str_radix(after("events:")?, 16).ok()?,
        inode: u64::from_str_radix(after("ino:")?, 16).ok()?,
    })
}

/// The inode in a line of a table, and what waits in its queue.
fn row(line: &str, of: Of) -> Option<(u64, Input)> {
    let mut columns = line.split_ascii_whitespace();
    let state = columns.nth(STATE)?;
    let (_, queue) = columns.next()?.split_once(':')?;
    let queue = u64::from_str_radix(queue, 16).ok()?;
    let inode = columns.nth(INODE - QUEUES - 1)?.parse().ok()?;
    let input = match of(queue) {
        Input::Bytes(connections) if state == LISTENS => Input::Connections(connections),
        Input::Bytes(bytes) if HAS_END.contains(&state) => Input::Bytes(bytes.saturating_sub(1)),
        input => input,
    };
    Some((inode, input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_of_the_selector_is_read_with_its_token() {
        let line = "tfd:       12 events: 80002019 data:         30000005  pos:0 ino:a33bc1 sdev:9";
        let id = RawId::from_number(0x3000_0005).parts();
        assert_eq!(target(line), Some(Target { id, events: 0x8000_2019, inode: 0xa3_3bc1 }));
        let old = "tfd:        7 events:       19 data: 74253d2500000007";
        for line in ["", "pos:\t0", "ino:\t1038", old, "tfd: 1 events: x data: 1 ino:1"] {
            assert_eq!(target(line), None, "{line}");
        }
    }

    #[test]
    fn queue_is_read_in_the_words_of_its_socket() {
        let line = |state: &str, queue: &str| {
            format!(
                " 1234: 0100007F:1B59 00000000:0000 {state} 0000000A:{queue} 00:00000000 00000000  \
                 1000        0 41 2 0000000000000000 100 0 0 10 0"
            )
        };
        let tcp = |state, queue| row(&line(state, queue), Input::Bytes);
        assert_eq!(tcp("01", "00000258"), Some((41, Input::Bytes(600))));
        assert_eq!(tcp("0A", "00000003"), Some((41, Input::Connections(3))));
        assert_eq!(tcp("08", "00000001"), Some((41, Input::Bytes(0))), "its end alone");
        assert_eq!(tcp("08", "00000000"), Some((41, Input::Bytes(0))));
        assert_eq!(tcp("08", "00000003"), Some((41, Input::Bytes(2))));
        let udp = row(&line("07", "00000340"), Input::Datagrams);
        assert_eq!(udp, Some((41, Input::Datagrams(832))));
        let head =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid";
        for line in [head, "", "1: 2 3 4", &line("01", "x")] {
            assert_eq!(row(line, Input::Bytes), None, "{line}");
        }
    }

    #[test]
    fn input_is_said_in_words() {
        let said = [
            Input::Bytes(1),
            Input::Bytes(600),
            Input::Connections(1),
            Input::Connections(2),
            Input::Datagrams(832),
        ]
        .map(|input| input.to_string());
        assert_eq!(said[..2], ["1 byte waits unread", "600 bytes wait unread"]);
        assert_eq!(said[2], "1 connection waits to be accepted");
        assert_eq!(said[3], "2 connections wait to be accepted");
        assert_eq!(said[4], "datagrams wait unread, 832 bytes of the kernel's memory");
    }
}

//! epoll(7) as it is: the kernel keeps the table, and reports states or changes. Linux has it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::{Heard, Interest, Kernel};

/// What the kernel reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The state: there are unread bytes. In each poll.
    Level,
    /// The change: bytes have come. Once.
    Edge,
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::OwnedFd;

    use rustix::buffer::spare_capacity;
    use rustix::event::Timespec;
    use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

    use super::{AsFd, Duration, Heard, Interest, Kernel, Trigger, io};

    /// The most events of one poll.
    const EVENTS_MAX: usize = 256;

    /// The kernel's table.
    #[derive(Debug)]
    pub struct Epoll {
        table: OwnedFd,
        trigger: Trigger,
        /// Polls so far.
        pub polls: usize,
    }

    impl Epoll {
        /// # Errors
        /// If there are no descriptors left.
        pub fn new(trigger: Trigger) -> io::Result<Epoll> {
            let table = epoll::create(CreateFlags::CLOEXEC)?;
            Ok(Epoll { table, trigger, polls: 0 })
        }

        /// Puts a source into the table, until it is closed.
        ///
        /// # Errors
        /// If it is there already, or cannot be waited for.
        pub fn register(
            &mut self,
            source: &impl AsFd,
            token: usize,
            interest: Interest,
        ) -> io::Result<()> {
            let mut flags = EventFlags::RDHUP;
            flags.set(EventFlags::IN, interest.readable);
            flags.set(EventFlags::OUT, interest.writable);
            flags.set(EventFlags::ET, self.trigger == Trigger::Edge);
            Ok(epoll::add(&self.table, source, EventData::new_u64(token as u64), flags)?)
        }
    }

    impl Kernel for Epoll {
        fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Heard>) -> io::Result<()> {
            self.polls += 1;
            let timeout = timeout.map(|timeout| Timespec {
                tv_sec: timeout.as_secs().min(i32::MAX as u64 / 1000) as i64,
                tv_nsec: i64::from(timeout.subsec_nanos()),
            });
            let mut events = Vec::with_capacity(EVENTS_MAX);
            epoll::wait(&self.table, spare_capacity(&mut events), timeout.as_ref())?;
            ready.extend(events.iter().map(|event| {
                let flags = event.flags;
                Heard {
                    token: event.data.u64() as usize,
                    readable: flags.contains(EventFlags::IN),
                    writable: flags.contains(EventFlags::OUT),
                    hung_up: flags
                        .intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
                }
            }));
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    use super::{AsFd, Duration, Heard, Interest, Kernel, Trigger, io};

    /// Only Linux has epoll.
    #[derive(Debug)]
    pub struct Epoll {
        pub polls: usize,
    }

    impl Epoll {
        /// # Errors
        /// Always, here.
        pub fn new(_: Trigger) -> io::Result<Epoll> {
            Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has epoll"))
        }

        /// # Errors
        /// Always, here.
        pub fn register(&mut self, _: &impl AsFd, _: usize, _: Interest) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    impl Kernel for Epoll {
        fn poll(&mut self, _: Option<Duration>, _: &mut Vec<Heard>) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

pub use linux::Epoll;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_level_is_reported_in_each_poll_and_an_edge_once() {
        for (trigger, again) in [(Trigger::Level, 1), (Trigger::Edge, 0)] {
            let (mut ours, mut theirs) = UnixStream::pair().unwrap();
            let mut kernel = Epoll::new(trigger).unwrap();
            let wants = Interest { readable: true, writable: false };
            kernel.register(&ours, 5, wants).unwrap();
            theirs.write_all(b"0123456789").unwrap();
            let mut ready = Vec::new();
            kernel.poll(None, &mut ready).unwrap();
            assert_eq!(ready, [Heard { token: 5, readable: true, ..Heard::default() }]);
            assert_eq!(ours.read(&mut [0; 4]).unwrap(), 4);
            kernel.poll(Some(Duration::ZERO), &mut ready).unwrap();
            assert_eq!(ready.len(), 1 + again, "{trigger:?}");
            drop(theirs);
            ready.clear();
            kernel.poll(None, &mut ready).unwrap();
            assert!(ready[0].hung_up && ready[0].readable);
        }
    }
}

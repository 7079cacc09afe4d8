//! The kernel as a loop sees it: it waits, and says which sources are ready.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// What a loop wants to know of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub readable: bool,
    pub writable: bool,
}

/// What the kernel has heard of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub token: usize,
    pub readable: bool,
    pub writable: bool,
    /// The peer is gone, or sends nothing more. There may still be bytes to read.
    pub hung_up: bool,
}

/// Waits until a source is ready, or the time is up; `None` waits without end.
pub trait Kernel {
    /// Appends what is ready. Nothing means that the time is up.
    ///
    /// # Errors
    /// `Interrupted`: a signal came first.
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Heard>) -> io::Result<()>;
}

/// What the script says to one `poll`.
#[derive(Clone, Debug)]
pub enum Waiting {
    /// So long after it was asked, these were ready.
    Ready(Duration, Vec<Heard>),
    /// So long after it was asked, a signal came.
    Interrupted(Duration),
}

/// A kernel that does what a script says, with a clock of its own. When the script is over, a wait
/// with a timeout takes that long, and one without is an error: the loop would sleep for ever.
#[derive(Debug, Default)]
pub struct Script {
    says: VecDeque<Waiting>,
    /// The time now, since the script began.
    pub now: Duration,
    /// The timeouts that it was asked with.
    pub asked: Vec<Option<Duration>>,
}

impl Script {
    pub fn new(says: impl IntoIterator<Item = Waiting>) -> Script {
        Script { says: says.into_iter().collect(), ..Script::default() }
    }

    /// How often it was asked.
    pub fn polls(&self) -> usize {
        self.asked.len()
    }
}

impl Kernel for Script {
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Heard>) -> io::Result<()> {
        self.asked.push(timeout);
        let after = match self.says.front() {
            Some(Waiting::Ready(after, _) | Waiting::Interrupted(after)) => *after,
            None => Duration::MAX,
        };
        if let Some(timeout) = timeout.filter(|timeout| *timeout < after) {
            self.now += timeout;
            match self.says.front_mut() {
                Some(Waiting::Ready(after, _) | Waiting::Interrupted(after)) => *after -= timeout,
                None => {}
            }
            return Ok(());
        }
        match self.says.pop_front() {
            Some(Waiting::Ready(after, heard)) => {
                self.now += after;
                ready.extend(heard);
                Ok(())
            }
            Some(Waiting::Interrupted(after)) => {
                self.now += after;
                Err(io::ErrorKind::Interrupted.into())
            }
            None => Err(io::Error::other("it sleeps for ever: no source, no timer, nothing to do")),
        }
    }
}

/// The real one, by mio: edge-triggered, as waterwheel's.
#[derive(Debug)]
pub struct Mio {
    poll: mio::Poll,
    events: mio::Events,
}

impl Mio {
    /// # Errors
    /// If there are no descriptors left.
    pub fn new() -> io::Result<Mio> {
        Ok(Mio { poll: mio::Poll::new()?, events: mio::Events::with_capacity(256) })
    }

    /// # Errors
    /// As the kernel gives them: for instance for a file that cannot be waited for.
    pub fn register(
        &mut self,
        source: &mut impl mio::event::Source,
        token: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let interest = match (interest.readable, interest.writable) {
            (true, true) => mio::Interest::READABLE | mio::Interest::WRITABLE,
            (_, false) => mio::Interest::READABLE,
            (false, true) => mio::Interest::WRITABLE,
        };
        self.poll.registry().register(source, mio::Token(token), interest)
    }

    /// What wakes a poll from another thread. The poll then hears this token.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn waker(&self, token: usize) -> io::Result<mio::Waker> {
        mio::Waker::new(self.poll.registry(), mio::Token(token))
    }

    /// # Errors
    /// If it was not registered.
    pub fn deregister(&mut self, source: &mut impl mio::event::Source) -> io::Result<()> {
        self.poll.registry().deregister(source)
    }
}

impl Kernel for Mio {
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Heard>) -> io::Result<()> {
        self.poll.poll(&mut self.events, timeout)?;
        ready.extend(self.events.iter().map(|event| Heard {
            token: event.token().0,
            readable: event.is_readable(),
            writable: event.is_writable(),
            hung_up: event.is_read_closed() || event.is_write_closed(),
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scripted_wait_takes_its_time_from_the_script() {
        let seconds = Duration::from_secs;
        let heard = Heard { token: 5, readable: true, ..Heard::default() };
        let mut kernel = Script::new([
            Waiting::Interrupted(seconds(1)),
            Waiting::Ready(seconds(9), vec![heard]),
        ]);
        let mut ready = Vec::new();
        assert!(kernel.poll(None, &mut ready).is_err());
        kernel.poll(Some(seconds(2)), &mut ready).unwrap();
        assert_eq!((kernel.now, ready.len()), (seconds(3), 0));
        kernel.poll(None, &mut ready).unwrap();
        assert_eq!((kernel.now, &*ready), (seconds(10), &[heard][..]));
        kernel.poll(Some(seconds(1)), &mut ready).unwrap();
        assert!(kernel.poll(None, &mut ready).is_err(), "it would sleep for ever");
        assert_eq!(kernel.polls(), 5);
    }
}

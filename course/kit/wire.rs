//! A stream that does what a script says, and counts the calls.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use crate::Duplex;

/// What the kernel says to one call of `read` or `write`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// To `read`: these bytes, or as many of them as fit. To `write` it is a mistake of the script.
    Bytes(Vec<u8>),
    /// To `write`: it takes at most so many bytes. To `read` it is a mistake of the script.
    Takes(usize),
    /// To `read`: the peer sends nothing more.
    End,
    /// Not now: `WouldBlock`.
    Later,
    /// A signal came first: `Interrupted`.
    Interrupted,
    /// The peer has reset the connection.
    Reset,
}

/// The calls so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub reads: usize,
    pub writes: usize,
    /// Reads that were made though the one before said `Later`, and nothing has been said since.
    pub reads_after_later: usize,
    /// Likewise writes.
    pub writes_after_later: usize,
}

#[derive(Debug, Default)]
struct State {
    input: VecDeque<Says>,
    room: VecDeque<Says>,
    written: Vec<u8>,
    /// True if it was finished: nothing more may be written.
    finished: bool,
    calls: Calls,
    read_later: bool,
    write_later: bool,
    arrivals: usize,
    rooms: usize,
    /// True if a kernel stands before it: a `Later` is over when time passes, not when it was said.
    has_kernel: bool,
}

/// One end of a stream whose other end is a script. Clones are the same stream, so a check keeps
/// one and gives one away.
///
/// When the script of the reads is over, `read` says `Later`; when that of the writes is over,
/// `write` takes everything.
#[derive(Clone, Debug, Default)]
pub struct Wire(Rc<RefCell<State>>);

impl Wire {
    pub fn new() -> Wire {
        Wire::default()
    }

    /// Adds what the next calls of `read` get. The stream is ready again.
    pub fn to_read(&self, says: impl IntoIterator<Item = Says>) {
        let mut state = self.0.borrow_mut();
        state.input.extend(says);
        state.read_later = false;
        state.arrivals += 1;
    }

    /// Adds what the next calls of `write` get. The stream is ready again.
    pub fn to_write(&self, says: impl IntoIterator<Item = Says>) {
        let mut state = self.0.borrow_mut();
        state.room.extend(says);
        state.write_later = false;
    }

    /// All that was written so far.
    pub fn written(&self) -> Vec<u8> {
        self.0.borrow().written.clone()
    }

    /// Returns true if it was finished. What is written after that fails, and is lost.
    pub fn is_finished(&self) -> bool {
        self.0.borrow().finished
    }

    pub fn calls(&self) -> Calls {
        self.0.borrow().calls
    }

    /// Begins a new round of asking: a call that follows is no call after `Later`.
    pub fn new_round(&self) {
        let mut state = self.0.borrow_mut();
        (state.read_later, state.write_later) = (false, false);
    }

    /// From now on a `Later` is said until time passes.
    pub(crate) fn has_kernel(&self) {
        self.0.borrow_mut().has_kernel = true;
    }

    /// Returns true if a read would not say `Later`.
    pub fn can_read(&self) -> bool {
        !matches!(self.0.borrow().input.front(), None | Some(Says::Later))
    }

    /// Returns true if a write would not say `Later`.
    pub fn can_write(&self) -> bool {
        self.0.borrow().room.front() != Some(&Says::Later)
    }

    /// Returns true if the peer has reset the connection.
    pub fn is_reset(&self) -> bool {
        self.0.borrow().input.front() == Some(&Says::Reset)
    }

    /// Returns true if the end can be read before a `Later`: it has arrived.
    pub fn has_end(&self) -> bool {
        let state = self.0.borrow();
        let arrived = state.input.iter().take_while(|says| **says != Says::Later);
        arrived.into_iter().any(|says| matches!(says, Says::End | Says::Reset))
    }

    /// How often something has come to be read: what stands behind a `Later` that is over.
    pub fn arrivals(&self) -> usize {
        self.0.borrow().arrivals
    }

    /// How often there has come room to be written into, behind a `Later` that is over.
    pub fn rooms(&self) -> usize {
        self.0.borrow().rooms
    }

    /// Time passes: a `Later` that the script has come to is over. Returns true if there was one.
    pub fn time_passes(&self) -> bool {
        let mut state = self.0.borrow_mut();
        let read = state.input.front() == Some(&Says::Later);
        let write = state.room.front() == Some(&Says::Later);
        if read {
            state.input.pop_front();
            state.read_later = false;
            state.arrivals += 1;
        }
        if write {
            state.room.pop_front();
            state.write_later = false;
            state.rooms += 1;
        }
        read || write
    }

    /// Returns true if the script of the reads is over.
    pub fn is_read_out(&self) -> bool {
        self.0.borrow().input.is_empty()
    }
}

fn error(kind: ErrorKind) -> io::Error {
    io::Error::from(kind)
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        state.calls.reads += 1;
        state.calls.reads_after_later += usize::from(state.read_later);
        match state.input.pop_front() {
            Some(Says::Bytes(mut bytes)) => {
                let count = bytes.len().min(into.len());
                into[..count].copy_from_slice(&bytes[..count]);
                if count < bytes.len() {
                    state.input.push_front(Says::Bytes(bytes.split_off(count)));
                }
                Ok(count)
            }
            Some(Says::End) => {
                state.input.push_front(Says::End); // An end stays one.
                Ok(0)
            }
            Some(Says::Interrupted) => Err(error(ErrorKind::Interrupted)),
            Some(Says::Reset) => Err(error(ErrorKind::ConnectionReset)),
            Some(Says::Takes(_)) => panic!("a mistake of this check: Takes is for writes"),
            later @ (Some(Says::Later) | None) => {
                if later.is_some() && state.has_kernel {
                    state.input.push_front(Says::Later);
                }
                state.read_later = true;
                Err(error(ErrorKind::WouldBlock))
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        state.calls.writes += 1;
        state.calls.writes_after_later += usize::from(state.write_later);
        if state.finished {
            return Err(error(ErrorKind::BrokenPipe));
        }
        let count = match state.room.pop_front() {
            None => bytes.len(),
            Some(Says::Takes(most)) => most.min(bytes.len()),
            Some(Says::Interrupted) => return Err(error(ErrorKind::Interrupted)),
            Some(Says::Reset) => return Err(error(ErrorKind::ConnectionReset)),
            Some(Says::Later) => {
                if state.has_kernel {
                    state.room.push_front(Says::Later);
                }
                state.write_later = true;
                return Err(error(ErrorKind::WouldBlock));
            }
            Some(Says::Bytes(_) | Says::End) => {
                panic!("a mistake of this check: that is for reads")
            }
        };
        state.written.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Duplex for Wire {
    fn finish(&mut self) -> io::Result<()> {
        self.0.borrow_mut().finished = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_does_what_its_script_says() {
        let wire = Wire::new();
        wire.to_read([Says::Bytes(b"hello".into()), Says::Later, Says::End]);
        wire.to_write([Says::Takes(2), Says::Reset]);
        let (mut ours, mut into) = (wire.clone(), [0; 3]);
        assert_eq!(ours.read(&mut into).unwrap(), 3);
        assert_eq!(ours.read(&mut into).unwrap(), 2);
        assert_eq!(ours.read(&mut into).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!((ours.read(&mut into).unwrap(), ours.read(&mut into).unwrap()), (0, 0));
        assert_eq!(ours.write(b"abc").unwrap(), 2);
        assert_eq!(ours.write(b"c").unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(ours.write(b"c").unwrap(), 1);
        assert_eq!(wire.written(), b"abc");
        assert_eq!(wire.calls().reads_after_later, 2, "two without a new round");
        ours.finish().unwrap();
        assert_eq!(ours.write(b"d").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert!(wire.is_finished() && wire.written() == b"abc");
    }

    #[test]
    fn a_later_is_over_when_time_passes() {
        let wire = Wire::new();
        assert!(!wire.can_read() && wire.can_write());
        wire.to_read([Says::Later, Says::Reset]);
        wire.to_write([Says::Later]);
        assert!(!wire.can_read() && !wire.can_write());
        assert!(wire.time_passes() && wire.can_read() && wire.can_write() && wire.is_reset());
        assert!(!wire.time_passes());
    }
}

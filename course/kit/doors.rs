//! Two doors: a real listener, and a script on a machine whose descriptors are counted.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use crate::Door;

impl Door for mio::net::TcpListener {
    type Socket = mio::net::TcpStream;
    type Spare = File;

    fn accept(&mut self) -> io::Result<mio::net::TcpStream> {
        mio::net::TcpListener::accept(self).map(|(stream, _)| stream)
    }

    fn spare(&mut self) -> io::Result<File> {
        File::open("/dev/null")
    }
}

#[derive(Debug, Default)]
struct State {
    /// Who waits; `None` is somebody who has gone in the meantime.
    waiting: VecDeque<Option<usize>>,
    next: usize,
    free: usize,
    calls: usize,
    closed: Vec<usize>,
}

/// A door on a machine with so many descriptors. Clones are the same door, so a check keeps one.
#[derive(Clone, Debug, Default)]
pub struct DoorScript(Rc<RefCell<State>>);

/// A descriptor of it, and its client, if it is one.
#[derive(Debug)]
pub struct Descriptor {
    client: Option<usize>,
    door: DoorScript,
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let mut state = self.door.0.borrow_mut();
        state.free += 1;
        state.closed.extend(self.client);
    }
}

impl DoorScript {
    /// A machine that has so many descriptors.
    pub fn new(descriptors: usize) -> DoorScript {
        DoorScript(Rc::new(RefCell::new(State { free: descriptors, ..State::default() })))
    }

    /// So many clients come. They have the numbers that follow those of the clients before.
    pub fn come(&self, count: usize) {
        let state = &mut *self.0.borrow_mut();
        state.waiting.extend((state.next..state.next + count).map(Some));
        state.next += count;
    }

    /// Somebody comes and goes before being accepted.
    pub fn come_and_go(&self) {
        self.0.borrow_mut().waiting.push_back(None);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.0.borrow().waiting.len()
    }

    /// How many descriptors are free.
    pub fn free(&self) -> usize {
        self.0.borrow().free
    }

    /// How often `accept` was called.
    pub fn calls(&self) -> usize {
        self.0.borrow().calls
    }

    /// The clients whose sockets were closed, in that order.
    pub fn closed(&self) -> Vec<usize> {
        self.0.borrow().closed.clone()
    }
}

/// EMFILE, in the words of this kit.
fn out_of_files() -> io::Error {
    io::Error::other("there are no descriptors left")
}

impl Door for DoorScript {
    type Socket = Descriptor;
    type Spare = Descriptor;

    fn accept(&mut self) -> io::Result<Descriptor> {
        let state = &mut *self.0.borrow_mut();
        state.calls += 1;
        // As accept(2): without a descriptor nobody leaves the queue.
        if state.free == 0 && !state.waiting.is_empty() {
            return Err(out_of_files());
        }
        match state.waiting.pop_front() {
            None => Err(ErrorKind::WouldBlock.into()),
            Some(None) => Err(ErrorKind::ConnectionAborted.into()),
            Some(client) => {
                state.free -= 1;
                Ok(Descriptor { client, door: self.clone() })
            }
        }
    }

    fn spare(&mut self) -> io::Result<Descriptor> {
        let state = &mut *self.0.borrow_mut();
        state.free = state.free.checked_sub(1).ok_or_else(out_of_files)?;
        Ok(Descriptor { client: None, door: self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_has_so_many_descriptors_and_no_more() {
        let mut door = DoorScript::new(2);
        assert_eq!(door.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        door.come(2);
        door.come_and_go();
        door.come(1);
        let (spare, first) = (door.spare().unwrap(), door.accept().unwrap());
        assert_eq!(door.accept().unwrap_err().kind(), ErrorKind::Other);
        drop((spare, first));
        assert_eq!((door.closed(), door.free(), door.waiting()), (vec![0], 2, 3));
        let _second = door.accept().unwrap();
        assert_eq!(door.accept().unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(door.accept().unwrap().client, Some(2));
        assert_eq!(door.calls(), 6);
    }
}

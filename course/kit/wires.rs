//! Many wires, and the kernel in front of them: it knows which of them are ready.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::{Entry, Heard, Kernel, Poll, Said, Wire};

/// How long a `Later` of a script takes, if the kernel is waited for.
const LATER: Duration = Duration::from_secs(1);

/// A kernel whose sockets are wires, each with a number. A wire is readable if the script of its
/// reads does not say `Later`, and writable likewise. While nothing is ready, time passes, and
/// a `Later` is over after a second; a call that is made before gets it again.
#[derive(Debug, Default)]
pub struct Wires {
    wires: BTreeMap<usize, Wire>,
    /// The time now, since the beginning.
    pub now: Duration,
    /// How often it was asked.
    pub polls: usize,
    /// True if it reports changes.
    is_edge: bool,
    /// For each wire: its arrivals, of bytes and of room, at the last report.
    seen: BTreeMap<usize, (usize, usize)>,
}

impl Wires {
    /// A kernel that reports states. The wires have the numbers 0, 1 and so on.
    pub fn level(wires: &[Wire]) -> Wires {
        wires.iter().for_each(Wire::has_kernel);
        Wires { wires: wires.iter().cloned().enumerate().collect(), ..Wires::default() }
    }

    /// A kernel that reports changes: a wire is heard once, when it becomes readable.
    pub fn edge(wires: &[Wire]) -> Wires {
        Wires { is_edge: true, ..Wires::level(wires) }
    }

    /// Waits until `ready` finds something, or the time is up.
    fn wait<T>(
        &mut self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(&mut Wires) -> Vec<T>,
    ) -> io::Result<Vec<T>> {
        self.polls += 1;
        let end = timeout.map(|timeout| self.now + timeout);
        loop {
            let found = ready(self);
            if !found.is_empty() {
                return Ok(found);
            }
            match end {
                Some(end) if end < self.now + LATER => {
                    self.now = end;
                    return Ok(found);
                }
                _ => self.now += LATER,
            }
            // All of them, not only the first.
            let passed = self.wires.values().filter(|wire| wire.time_passes()).count();
            if passed == 0 && end.is_none() {
                return Err(io::Error::other("it sleeps for ever: nothing comes any more"));
            }
        }
    }
}

impl Poll for Wires {
    fn poll(&mut self, entries: &mut [Entry], timeout_ms: i32) -> io::Result<usize> {
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let found = self.wait(timeout, |wires| {
            let mut said = Vec::new();
            for entry in &mut *entries {
                let wire = usize::try_from(entry.number).ok().and_then(|n| wires.wires.get(&n));
                entry.says = wire.map_or(Said { unknown: true, ..Said::default() }, |wire| Said {
                    readable: entry.wants.readable && wire.can_read(),
                    writable: entry.wants.writable && wire.can_write(),
                    hung_up: wire.is_reset(),
                    failed: wire.is_reset(),
                    unknown: false,
                });
                said.extend((entry.says != Said::default()).then_some(()));
            }
            said
        })?;
        Ok(found.len())
    }

    fn now(&self) -> Duration {
        self.now
    }
}

impl Kernel for Wires {
    /// Reports states of what can be read; or changes of what can be read or written. The first
    /// change is that a wire is there.
    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Heard>) -> io::Result<()> {
        let found = self.wait(timeout, |wires| {
            let mut heard = Vec::new();
            for (token, wire) in &wires.wires {
                let (readable, hung_up) = (wire.can_read(), wire.has_end());
                let writable = wires.is_edge && wire.can_write();
                let now = (wire.arrivals(), wire.rooms());
                let is_new = !wires.is_edge
                    || wires.seen.get(token).is_none_or(|(arrivals, rooms)| {
                        readable && *arrivals < now.0 || writable && *rooms < now.1
                    });
                if is_new && (readable || writable) {
                    wires.seen.insert(*token, now);
                    heard.push(Heard { token: *token, readable, writable, hung_up });
                }
            }
            heard
        })?;
        ready.extend(found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::slice;

    use super::*;
    use crate::{Interest, Says};

    #[test]
    fn a_level_is_reported_again_and_an_edge_is_not() {
        for (mut kernel, wire, edge) in [Wires::level, Wires::edge].map(|kernel| {
            let wire = Wire::new();
            wire.to_read([Says::Later, Says::Bytes(vec![7; 10]), Says::Later, Says::End]);
            (kernel(slice::from_ref(&wire)), wire, kernel(&[]).is_edge)
        }) {
            let mut ready = Vec::new();
            if edge {
                Kernel::poll(&mut kernel, None, &mut ready).unwrap();
                assert!(ready[0].writable && !ready[0].readable, "it is there, and has room");
                ready.clear();
            }
            Kernel::poll(&mut kernel, None, &mut ready).unwrap();
            assert_eq!((ready.len(), ready[0].hung_up, kernel.now), (1, false, LATER));
            assert_eq!(wire.clone().read(&mut [0; 4]).unwrap(), 4);
            Kernel::poll(&mut kernel, Some(Duration::ZERO), &mut ready).unwrap();
            assert_eq!(ready.len(), if edge { 1 } else { 2 });
            assert_eq!(wire.clone().read(&mut [0; 9]).unwrap(), 6);
            Kernel::poll(&mut kernel, Some(5 * LATER), &mut ready).unwrap();
            assert!(ready.last().unwrap().hung_up);
            assert_eq!(kernel.now, 2 * LATER);
        }
    }

    #[test]
    fn an_entry_says_what_its_wire_can_do() {
        let wire = Wire::new();
        wire.to_write([Says::Later, Says::Later]);
        let (mut kernel, wants) =
            (Wires::level(&[wire]), Interest { readable: true, writable: true });
        let mut table = [Entry { wants, ..Entry::default() }];
        assert_eq!(Poll::poll(&mut kernel, &mut table, 1500).unwrap(), 0);
        assert_eq!(Poll::poll(&mut kernel, &mut table, -1).unwrap(), 1);
        assert_eq!(table[0].says, Said { writable: true, ..Said::default() });
        assert_eq!(kernel.polls, 2);
    }
}

//! The bytes of a connection that have come and have not been read as messages yet.

/// Bytes, first in, first out. It counts how many it has looked at, so a check sees work that is
/// done twice.
#[derive(Clone, Debug, Default)]
pub struct Input {
    bytes: Vec<u8>,
    /// So many of them have been taken. They go when they are half of all: then each byte is moved
    /// at most once, on average.
    taken: usize,
    looked: usize,
}

impl Input {
    pub fn new() -> Input {
        Input::default()
    }

    /// Bytes have come: they stand behind all others.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where `what` begins for the first time, at the place `from` or behind it. The first byte that
    /// waits has the place 0. It looks at each byte from there to the end of what it finds.
    ///
    /// # Panics
    /// If `what` is empty.
    pub fn find(&mut self, what: &[u8], from: usize) -> Option<usize> {
        let rest = self.bytes[self.taken..].get(from..).unwrap_or_default();
        let found = rest.windows(what.len()).position(|window| window == what);
        self.looked += found.map_or(rest.len(), |at| at + what.len());
        Some(found? + from)
    }

    /// Takes the first bytes away: so many, or all if there are not so many.
    pub fn take(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.len());
        let bytes = self.bytes[self.taken..self.taken + count].to_vec();
        self.taken += count;
        self.looked += count;
        if 2 * self.taken >= self.bytes.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        bytes
    }

    /// How many bytes were looked at so far; one that was looked at twice counts twice.
    pub fn looked(&self) -> usize {
        self.looked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_and_taken_in_the_order_in_which_they_came() {
        let mut input = Input::new();
        input.push(b"one\r");
        assert_eq!((input.find(b"\r\n", 0), input.looked()), (None, 4));
        input.push(b"\ntwo");
        assert_eq!((input.find(b"\r\n", 3), input.looked()), (Some(3), 6));
        assert_eq!((input.find(b"o", 1), input.find(b"o", 99)), (Some(7), None));
        assert_eq!((input.take(5), input.len()), (b"one\r\n".to_vec(), 3));
        assert_eq!((input.find(b"o", 0), input.take(99)), (Some(2), b"two".to_vec()));
        assert!(input.is_empty() && input.take(1).is_empty());
    }
}

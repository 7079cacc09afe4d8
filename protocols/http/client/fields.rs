//! The header fields of a request that is being made: one buffer for all.
//!
//! Knows names and values as bytes. If they are valid is checked when the request is sent.
//!
//! # Read next
//! `client_request.rs`: the request that they belong to.

/// Names and values, in order. However many they are, that is three allocations, and three for a copy.
#[derive(Clone, Default)]
pub(super) struct Fields {
    names: String,
    values: Vec<u8>,
    /// Where the name, and the value, of each ends.
    ends: Vec<(usize, usize)>,
}

impl Fields {
    pub(super) fn push(&mut self, name: &str, value: &[u8]) {
        if self.ends.is_empty() {
            self.names.reserve(256);
            self.values.reserve(512);
            self.ends.reserve(12);
        }
        self.names.push_str(name);
        self.values.extend_from_slice(value);
        self.ends.push((self.names.len(), self.values.len()));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut begin = (0, 0);
        self.ends.iter().map(move |end| {
            let field = (&self.names[begin.0..end.0], &self.values[begin.1..end.1]);
            begin = *end;
            field
        })
    }

    /// Keeps the fields whose name `stays`.
    pub(super) fn retain(&mut self, stays: impl Fn(&str) -> bool) {
        let all = std::mem::take(self);
        for (name, value) in all.iter().filter(|(name, _)| stays(name)) {
            self.push(name, value);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }
}

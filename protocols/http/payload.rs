//! The bytes of a response's body, whether they are the program's own, static or shared.
//!
//! # Read next
//! `response.rs`: the response that it belongs to.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

/// The bytes of a body: static, owned or shared.
#[derive(Clone, Debug)]
pub struct Payload(Held);

#[derive(Clone, Debug)]
enum Held {
    Cow(Cow<'static, [u8]>),
    Shared(Rc<[u8]>),
}

impl Payload {
    pub(super) const EMPTY: Payload = Payload(Held::Cow(Cow::Borrowed(&[])));

    pub(super) fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Held::Cow(bytes) => bytes,
            Held::Shared(bytes) => bytes,
        }
    }

    /// A part of it; only that is kept.
    pub(super) fn part(self, part: Range<usize>) -> Payload {
        match self.0 {
            Held::Cow(Cow::Borrowed(bytes)) => bytes[part].into(),
            Held::Cow(Cow::Owned(mut bytes)) => {
                bytes.truncate(part.end);
                bytes.drain(..part.start);
                bytes.into()
            }
            Held::Shared(bytes) => bytes[part].to_vec().into(),
        }
    }

    /// Bytes of memory that go with it.
    pub(super) fn owned_bytes(&self) -> usize {
        match &self.0 {
            Held::Cow(Cow::Owned(bytes)) => bytes.capacity(),
            Held::Shared(bytes) if Rc::strong_count(bytes) == 1 => bytes.len(),
            Held::Cow(Cow::Borrowed(_)) | Held::Shared(_) => 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.as_slice().len()
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Payload {
        text.as_bytes().into()
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Payload {
        Payload(Held::Cow(Cow::Borrowed(bytes)))
    }
}

impl<const N: usize> From<&'static [u8; N]> for Payload {
    fn from(bytes: &'static [u8; N]) -> Payload {
        bytes.as_slice().into()
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Payload {
        text.into_bytes().into()
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload(Held::Cow(Cow::Owned(bytes)))
    }
}

/// One body for many responses, without a copy for each.
impl From<Rc<[u8]>> for Payload {
    fn from(bytes: Rc<[u8]>) -> Payload {
        Payload(Held::Shared(bytes))
    }
}

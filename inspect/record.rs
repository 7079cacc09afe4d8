//! Records for the program itself: the trace as the page has it.

use super::Inspect;
use crate::reactor::{Kind, LoopEvent, Subject};

/// A [`LoopEvent`] as the page has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counted from 1, without gaps.
    pub sequence: u64,
    /// Nanoseconds since the reactor was made, by its clock.
    pub nanos: u64,
    /// The number of the callback's record that asked for this; 0 for none.
    pub cause: u64,
    /// File and line.
    pub place: (&'static str, u32),
    /// Index and generation of the source or timer.
    pub id: Option<(u32, u32)>,
    /// What has happened.
    pub kind: Kind,
    /// A number; [`Kind`] gives its meaning.
    pub argument: u32,
}

impl From<&LoopEvent> for Record {
    fn from(event: &LoopEvent) -> Record {
        let id = match event.subject {
            Subject::None => None,
            Subject::Source(id) | Subject::Deadline(id) => Some(id.parts()),
            Subject::Timer(id) => Some(id.parts()),
        };
        Record {
            sequence: event.sequence,
            nanos: event.nanos,
            cause: event.cause,
            place: (event.place.file(), event.place.line()),
            id,
            kind: event.kind,
            argument: event.argument,
        }
    }
}

impl Inspect {
    /// The latest records of the loop that is shown, the oldest first; none while there is no page.
    pub fn records(&self) -> Vec<Record> {
        let Some(session) = self.shared.now().session.clone() else { return Vec::new() };
        // A copy: the loop's thread must not wait for the tables meanwhile.
        let places = self.shared.tables.lock().places.clone();
        let all = session.ring.oldest()..=session.ring.head();
        let record = |sequence| {
            let packed = session.ring.read(sequence)?;
            let kind = *Kind::ALL.get(usize::from(packed.kind))?;
            Some(Record {
                sequence,
                nanos: packed.nanos,
                cause: match packed.cause {
                    0 => 0,
                    ago => sequence - u64::from(ago),
                },
                place: *places.get(usize::from(packed.place))?,
                id: (packed.subject > 0).then_some((packed.index, packed.generation)),
                kind,
                argument: packed.argument,
            })
        };
        all.filter_map(record).collect()
    }
}

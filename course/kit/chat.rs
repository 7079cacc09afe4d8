//! A chat that does not know its network, mistakes that can be planted into it, and a judge who says
//! whether people have heard what they should.

use std::collections::BTreeMap;

use crate::{Arrival, End, Network, Seed};

/// Arrivals of one run, at most. More are a network that sends by itself.
const ARRIVALS_MAX: usize = 100_000;

/// A mistake in the chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// There is one buffer for unfinished lines, and not one for each person.
    OneBuffer,
    /// If a piece begins with the end of a line, the line is lost.
    LostLine,
    /// Who has been reset stays in the list, and nobody hears of it.
    Ghost,
}

/// What the chat sends: to whom, and what.
pub type Letters = Vec<(usize, String)>;

/// A chat: each line goes to all others, and so does the news that somebody has left.
#[derive(Clone, Debug, Default)]
pub struct Chat {
    pub bug: Option<Bug>,
    /// For each person the beginning of a line.
    people: BTreeMap<usize, Vec<u8>>,
    /// The one buffer of [`Bug::OneBuffer`].
    shared: Vec<u8>,
}

impl Chat {
    pub fn new(bug: Option<Bug>) -> Chat {
        Chat { bug, ..Chat::default() }
    }

    /// Somebody has come.
    pub fn come(&mut self, who: usize) {
        self.people.insert(who, Vec::new());
    }

    /// Somebody has sent bytes.
    pub fn hear(&mut self, who: usize, mut bytes: &[u8]) -> Letters {
        let Some(own) = self.people.get_mut(&who) else { return Letters::new() };
        let rest = if self.bug == Some(Bug::OneBuffer) { &mut self.shared } else { own };
        if self.bug == Some(Bug::LostLine) && bytes.starts_with(b"\n") {
            rest.clear();
            bytes = &bytes[1..];
        }
        rest.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            lines.push(format!("{who}: {}", String::from_utf8_lossy(&line)));
        }
        lines.iter().flat_map(|line| self.to_others(who, line)).collect()
    }

    /// Somebody has left, or was reset.
    pub fn leave(&mut self, who: usize, by_reset: bool) -> Letters {
        if by_reset && self.bug == Some(Bug::Ghost) || self.people.remove(&who).is_none() {
            return Letters::new();
        }
        self.to_others(who, &format!("{who} has left\n"))
    }

    fn to_others(&self, who: usize, line: &str) -> Letters {
        let others = self.people.keys().filter(|other| **other != who);
        others.map(|other| (*other, line.to_owned())).collect()
    }
}

/// What a person does. Person 0 only listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Says(usize, String),
    Leaves(usize),
}

/// Acts of so many people, from a seed.
pub fn acts(seed: &mut Seed, people: usize, count: usize) -> Vec<Act> {
    let act = |number| {
        let who = 1 + seed.below(people as u64 - 1) as usize;
        if seed.once_in(10) { Act::Leaves(who) } else { Act::Says(who, format!("word {number}")) }
    };
    (0..count).map(act).collect()
}

/// A run: what has arrived, and what is wrong with it, if something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talk {
    pub trace: Vec<(u64, End, Arrival)>,
    pub wrong: Option<String>,
}

/// A person, as the judge knows it.
#[derive(Clone, Debug, Default)]
struct Person {
    said: Vec<String>,
    heard: Vec<u8>,
    has_left: bool,
    was_reset: bool,
}

/// Lets people talk: they do all acts at once, and then the network decides. At the end all but
/// person 0 leave.
///
/// # Panics
/// If the network numbers its connections otherwise than from 0 on, or does not come to an end.
pub fn talk(net: &mut dyn Network, bug: Option<Bug>, people: usize, acts: &[Act]) -> Talk {
    let (mut chat, mut all) = (Chat::new(bug), vec![Person::default(); people]);
    for who in 0..people {
        crate::same(net.connect(), who, "The connections are numbered from 0 on.");
        chat.come(who);
    }
    let ends = (1..people).map(Act::Leaves);
    for act in acts.iter().cloned().chain(ends) {
        let (Act::Says(who, _) | Act::Leaves(who)) = act;
        let end = End { line: who, side: 0 };
        match act {
            _ if all[who].has_left => {}
            Act::Leaves(_) => {
                all[who].has_left = true;
                net.close(end);
            }
            Act::Says(_, text) => {
                net.send(end, format!("{text}\n").as_bytes());
                all[who].said.push(text);
            }
        }
    }
    let mut trace = Vec::new();
    while let Some((now, end, arrival)) = net.next() {
        crate::expect(trace.len() < ARRIVALS_MAX, "The network does not come to an end.");
        trace.push((now, end, arrival.clone()));
        let who = end.line;
        all[who].was_reset |= arrival == Arrival::Reset;
        let letters = match arrival {
            Arrival::Bytes(bytes) if end.side == 1 => chat.hear(who, &bytes),
            Arrival::Bytes(bytes) => {
                all[who].heard.extend(bytes);
                continue;
            }
            _ if end.side == 0 => continue,
            Arrival::Reset => chat.leave(who, true),
            Arrival::Finished => {
                net.close(end);
                chat.leave(who, false)
            }
        };
        for (to, text) in letters {
            net.send(End { line: to, side: 1 }, text.as_bytes());
        }
    }
    let judged = (0..people).flat_map(|who| (0..people).map(move |other| (who, other)));
    let wrong = judged.filter(|(who, other)| who != other);
    let wrong = wrong.filter_map(|(who, other)| judge(&all, who, other)).next();
    Talk { trace, wrong }
}

/// What is wrong with what one person has heard of another. Lines come in order; to person 0, who
/// stays, all of them come, and at last the news that the other one has left.
fn judge(all: &[Person], who: usize, other: usize) -> Option<String> {
    let (said, heard) = (&all[other].said, String::from_utf8_lossy(&all[who].heard));
    let whole = heard.rfind('\n').map_or("", |end| &heard[..=end]);
    let (from, left) = (format!("{other}: "), format!("{other} has left"));
    let mut next = 0;
    let mut has_left = false;
    for line in whole.lines() {
        if line == left {
            has_left = true;
        } else if let Some(text) = line.strip_prefix(&from) {
            if has_left || said.get(next).is_none_or(|said| said != text) {
                let said = said.get(next).map_or("nothing more", |said| said);
                return Some(format!("{who} heard {line:?}, and {other} said {said:?}"));
            }
            next += 1;
        }
    }
    if who > 0 || all[who].was_reset {
        return None;
    }
    if !all[other].was_reset && next < said.len() {
        return Some(format!("{who} has not heard that {other} said {:?}", said[next]));
    }
    (!has_left).then(|| format!("{who} has not heard that {other} has left"))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Everything arrives at once, whole, in the order in which it was sent; or each byte alone.
    #[derive(Default)]
    struct Plain {
        lines: usize,
        under_way: VecDeque<(End, Arrival)>,
        is_cut: bool,
    }

    impl Network for Plain {
        fn connect(&mut self) -> usize {
            self.lines += 1;
            self.lines - 1
        }

        fn send(&mut self, from: End, bytes: &[u8]) {
            let size = if self.is_cut { 1 } else { bytes.len() };
            let pieces = bytes.chunks(size).map(|piece| Arrival::Bytes(piece.to_vec()));
            self.under_way.extend(pieces.map(|piece| (from.other(), piece)));
        }

        fn close(&mut self, from: End) {
            self.under_way.push_back((from.other(), Arrival::Finished));
        }

        fn next(&mut self) -> Option<(u64, End, Arrival)> {
            let (end, arrival) = self.under_way.pop_front()?;
            Some((0, end, arrival))
        }
    }

    #[test]
    fn a_plain_network_shows_no_bug_and_one_that_cuts_shows_one() {
        let acts = acts(&mut Seed::new(1), 4, 30);
        for bug in [None, Some(Bug::OneBuffer), Some(Bug::LostLine), Some(Bug::Ghost)] {
            let run = talk(&mut Plain::default(), bug, 4, &acts);
            assert_eq!(run.wrong, None, "{bug:?}");
            assert!(run.trace.len() > 60, "{}", run.trace.len());
        }
        let wrong =
            |bug| talk(&mut Plain { is_cut: true, ..Plain::default() }, bug, 4, &acts).wrong;
        assert_eq!(wrong(None), None);
        let lost = wrong(Some(Bug::LostLine)).expect("the ends of lines come alone");
        assert!(lost.starts_with("0 has not heard that "), "{lost}");
    }

    #[test]
    fn one_buffer_mixes_two_people_and_a_ghost_stays() {
        let mut chat = Chat::new(Some(Bug::OneBuffer));
        (0..3).for_each(|who| chat.come(who));
        assert!(chat.hear(1, b"hel").is_empty());
        assert_eq!(chat.hear(2, b"oh\n")[0], (0, "2: heloh\n".to_owned()));
        let mut chat = Chat::new(Some(Bug::Ghost));
        (0..3).for_each(|who| chat.come(who));
        assert!(chat.leave(1, true).is_empty());
        assert_eq!(chat.leave(2, false).len(), 2);
        assert_eq!(chat.leave(2, false).len(), 0);
    }
}

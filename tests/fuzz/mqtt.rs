//! The example `mqtt` without its sockets: packets are the same wherever they are cut, and the tree of
//! topics says what a list of filters says that is asked one by one.
//!
//! The first two bytes choose the cuts; the rest is the stream. A packet's client is one of four, by
//! its id.

use std::collections::BTreeMap;

#[allow(dead_code, unused_imports)] // Its other part is the program's.
#[path = "../../examples/mqtt"]
mod example {
    pub mod memory;
    pub mod protocol;
    pub mod topics;
}

use example::protocol::{Malformed, Packet, Publish, is_shallow, next, push_publish};
use example::topics::Topics;
use support::Rng;

use super::cut;

pub fn mqtt(bytes: &[u8]) {
    let (head, stream) = bytes.split_at(bytes.len().min(2));
    let mut cuts = Rng::from_bytes(head);
    let (whole, wrong) = packets([stream]);
    assert_eq!(packets(cut(stream, &mut cuts)), (whole.clone(), wrong), "in pieces");
    let mut model = Model::default();
    let mut topics = Topics::default();
    for packet in &whole {
        match next(packet).expect("as before").expect("all of it").0 {
            Packet::Publish(publish) => {
                let mut again = Vec::new();
                push_publish(&mut again, &publish);
                let again = next(&again).expect("a packet").expect("all of it").0;
                assert_eq!(again, Packet::Publish(publish));
                model.publish(&mut topics, &publish);
            }
            Packet::Subscribe(id, filters) => {
                for (filter, qos) in filters.into_iter().filter(|(filter, _)| is_shallow(filter)) {
                    assert!(topics.subscribe(filter, usize::from(id % 4), qos));
                    model.filters.insert((filter.to_owned(), usize::from(id % 4)), qos);
                    let mut found = Vec::new();
                    topics.retained(filter, &mut |message| {
                        let Publish { topic, payload, .. } = message.publish(true);
                        found.push((topic.to_owned(), payload.to_vec()));
                    });
                    found.sort();
                    let is_asked = |(topic, _): &(&String, _)| matches(filter, topic);
                    let expected = model.retained.iter().filter(is_asked);
                    let expected: Vec<_> = expected.map(|(t, p)| (t.clone(), p.clone())).collect();
                    assert_eq!(found, expected, "{filter:?}");
                }
            }
            Packet::Unsubscribe(id, filters) => {
                for filter in filters {
                    topics.unsubscribe(filter, usize::from(id % 4));
                    model.filters.remove(&(filter.to_owned(), usize::from(id % 4)));
                }
            }
            _ => {}
        }
    }
    // What is taken back leaves nothing behind.
    for (filter, session) in model.filters.keys() {
        topics.unsubscribe(filter, *session);
    }
    for topic in model.retained.keys() {
        let publish = Publish { topic, payload: &[], qos: 0, retain: true, dup: false, id: 0 };
        assert!(topics.retain(&publish));
    }
    assert_eq!(topics.retained("#", &mut |_| panic!("it was taken back")), 1, "the root");
    assert_eq!(topics.retained("$x/#", &mut |_| panic!("it was taken back")), 0);
}

/// Filters and messages, each as it is.
#[derive(Default)]
struct Model {
    filters: BTreeMap<(String, usize), u8>,
    retained: BTreeMap<String, Vec<u8>>,
}

impl Model {
    fn publish(&mut self, topics: &mut Topics, publish: &Publish<'_>) {
        let Publish { topic, payload, retain, .. } = *publish;
        let mut hearers = Vec::new();
        topics.hearers(topic, &mut hearers);
        let mut expected = BTreeMap::new();
        for ((filter, session), qos) in &self.filters {
            if matches(filter, topic) {
                let most = expected.entry(*session).or_insert(*qos);
                *most = (*most).max(*qos);
            }
        }
        assert_eq!(hearers, expected.into_iter().collect::<Vec<_>>(), "{topic:?}");
        if retain {
            assert!(topics.retain(publish));
            self.retained.remove(topic);
            if !payload.is_empty() {
                self.retained.insert(topic.to_owned(), payload.to_vec());
            }
        }
    }
}

/// As the standard says it, for one filter and one topic.
fn matches(filter: &str, topic: &str) -> bool {
    let (filters, levels): (Vec<_>, Vec<_>) =
        (filter.split('/').collect(), topic.split('/').collect());
    if topic.starts_with('$') && ["+", "#"].contains(&filters[0]) {
        return false;
    }
    let (head, goes_on) = match filters.split_last() {
        Some((&"#", head)) => (head, true),
        _ => (&filters[..], false),
    };
    let is_long = if goes_on { levels.len() >= head.len() } else { levels.len() == head.len() };
    is_long && head.iter().zip(&levels).all(|(filter, level)| *filter == "+" || filter == level)
}

/// The packets of a stream that comes in these pieces.
fn packets<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<Malformed>) {
    let (mut input, mut all) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut used = 0;
        loop {
            match next(&input[used..]) {
                Ok(None) => break,
                Ok(Some((packet, length))) => {
                    check(&packet);
                    all.push(input[used..used + length].to_vec());
                    used += length;
                }
                Err(wrong) => return (all, Some(wrong)),
            }
        }
        input.drain(..used);
    }
    (all, None)
}

/// What holds of any packet that is one.
fn check(packet: &Packet<'_>) {
    let topic = |topic: &str| {
        let fine = !topic.is_empty() && !topic.contains(['+', '#', '\0']);
        assert!(fine && is_shallow(topic), "{topic:?}");
    };
    let filter = |filter: &str| {
        let levels: Vec<&str> = filter.split('/').collect();
        let wrong = levels.iter().enumerate().any(|(at, level)| match *level {
            "+" => false,
            "#" => at + 1 < levels.len(),
            level => level.contains(['+', '#', '\0']),
        });
        assert!(!filter.is_empty() && !wrong, "{filter:?}");
    };
    match packet {
        Packet::Connect(connect) => {
            connect.will.iter().for_each(|will| topic(will.topic));
            assert!(!connect.client.contains('\0'));
        }
        Packet::Publish(publish) => {
            topic(publish.topic);
            assert_eq!(publish.qos > 0, publish.id > 0);
            assert!(publish.qos <= 2 && (publish.qos > 0 || !publish.dup));
        }
        Packet::Subscribe(id, filters) => {
            filters.iter().for_each(|(text, _)| filter(text));
            assert!(*id > 0 && !filters.is_empty() && filters.iter().all(|(_, qos)| *qos <= 2));
        }
        Packet::Unsubscribe(id, filters) => {
            filters.iter().for_each(|text| filter(text));
            assert!(*id > 0 && !filters.is_empty());
        }
        Packet::Ack(_, id) => assert!(*id > 0),
        Packet::OtherVersion | Packet::Ping | Packet::Disconnect => {}
    }
}

/// Streams of packets that are ones, of few topics so that they meet: bytes from a seed find none.
pub fn mqtt_stream(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![rng.below(256) as u8, rng.below(256) as u8];
    let levels = ["a", "b", "", "$x", "+", "#"];
    let path = |rng: &mut Rng, kinds: u64| {
        let count = 1 + rng.below(4);
        let all: Vec<&str> = (0..count).map(|_| levels[rng.below(kinds) as usize]).collect();
        let text = all.join("/").replace("#/", "b/");
        if text.is_empty() { "/".to_owned() } else { text }
    };
    for _ in 0..rng.below(60) {
        let id = 1 + rng.below(4) as u8;
        let (first, mut body) = match rng.below(5) {
            0 | 1 => (0x82, vec![0, id]),
            2 => (0xa2, vec![0, id]),
            _ => (0x30 | rng.below(2) as u8, vec![]),
        };
        let text = path(rng, if first < 0x40 { 4 } else { 6 });
        body.extend([0, text.len() as u8]);
        body.extend(text.bytes());
        match first {
            0x82 => body.push(rng.below(3) as u8),
            0xa2 => {}
            _ => body.extend((0..rng.below(3)).map(|_| b'x')),
        }
        bytes.extend([first, body.len() as u8]);
        bytes.extend(body);
    }
    bytes
}

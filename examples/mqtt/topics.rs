//! The tree of topics: who gets a message, and the message that a topic retains.
//!
//! Knows sessions as numbers; never mentions a connection. A level of a topic is a node, and `+` and
//! `#` are nodes beside the others. So a message goes down at most three ways from each node, and
//! every node is met at most once: however many filters there are, a message costs no more than the
//! nodes that it may match.
//!
//! ```text
//!   sport/+/score  sport/#      sport ─┬─ + ── score ● 1
//!                                      └─ # ● 2
//! ```

use std::collections::BTreeMap;
use std::rc::Rc;

use super::memory::{Memory, Weight};
use super::protocol::{Publish, Qos};

/// What a node is counted with, beside its name: it, and its place in the node above.
const NODE_BYTES: usize = 400;
/// What a message is counted with, beside its topic and payload: three places of the heap.
const MESSAGE_BYTES: usize = 128;
/// What a subscription is counted with, beside its filter.
const HEARER_BYTES: usize = 64;

/// A message that is kept: in the tree, or until somebody has it.
#[derive(Debug)]
pub struct Message {
    topic: Box<str>,
    payload: Box<[u8]>,
    qos: Qos,
    _weight: Weight,
}

impl Message {
    pub fn new(publish: &Publish<'_>, memory: &Memory) -> Option<Rc<Message>> {
        let Publish { topic, payload, qos, .. } = *publish;
        let _weight = memory.take(MESSAGE_BYTES + topic.len() + payload.len())?;
        Some(Rc::new(Message { topic: topic.into(), payload: payload.into(), qos, _weight }))
    }

    /// It, as a packet.
    pub fn publish(&self, retain: bool) -> Publish<'_> {
        let Message { topic, payload, qos, .. } = self;
        Publish { topic, payload, qos: *qos, retain, dup: false, id: 0 }
    }
}

#[derive(Default)]
pub struct Topics {
    root: Node,
    /// For subscriptions, and for what is retained: neither can stop the other.
    heard: Memory,
    retained: Memory,
}

#[derive(Default)]
struct Node {
    below: BTreeMap<Box<str>, Box<Node>>,
    /// The sessions that have subscribed with this path as their filter, in order.
    hearers: Vec<Hearer>,
    retained: Option<Rc<Message>>,
    _weight: Option<Weight>,
}

struct Hearer {
    session: usize,
    qos: Qos,
    _weight: Weight,
}

impl Topics {
    /// Adds a subscription, or changes its QoS. Returns false if there is no memory for it.
    pub fn subscribe(&mut self, filter: &str, session: usize, qos: Qos) -> bool {
        let memory = &self.heard;
        self.root.change(filter, Some(memory), |node| {
            match node.hearers.binary_search_by_key(&session, |hearer| hearer.session) {
                Ok(at) => node.hearers[at].qos = qos,
                Err(at) => {
                    let _weight = memory.take(HEARER_BYTES + filter.len())?;
                    node.hearers.insert(at, Hearer { session, qos, _weight });
                }
            }
            Some(())
        })
    }

    pub fn unsubscribe(&mut self, filter: &str, session: usize) {
        self.root.change(filter, None, |node| {
            let at = node.hearers.binary_search_by_key(&session, |hearer| hearer.session).ok()?;
            node.hearers.remove(at);
            Some(())
        });
    }

    /// Keeps a message for those who will subscribe; an empty one only removes the one before it.
    /// Returns false if there is no memory for it. The one before it is gone, too.
    pub fn retain(&mut self, publish: &Publish<'_>) -> bool {
        self.root.change(publish.topic, None, |node| {
            node.retained = None;
            Some(())
        });
        let memory = &self.retained;
        publish.payload.is_empty()
            || self.root.change(publish.topic, Some(memory), |node| {
                node.retained = Some(Message::new(publish, memory)?);
                Some(())
            })
    }

    /// Appends who gets a message with this topic, and by which QoS at most: each session once, by
    /// the highest of its filters that match. Returns how many nodes it has met.
    pub fn hearers(&self, topic: &str, to: &mut Vec<(usize, Qos)>) -> usize {
        let begin = to.len();
        let mut lists = 0;
        let met = self.root.hear(topic.split('/'), true, &mut |node| {
            lists += usize::from(!node.hearers.is_empty());
            to.extend(node.hearers.iter().map(|hearer| (hearer.session, hearer.qos)));
        });
        if lists > 1 {
            to[begin..].sort_unstable_by_key(|&(session, qos)| (session, u8::MAX - qos));
            to.dedup_by_key(|(session, _)| *session);
        }
        met
    }

    /// Calls `each` with the messages that are retained where this filter matches. Returns how many
    /// nodes it has met.
    pub fn retained(&self, filter: &str, each: &mut impl FnMut(&Rc<Message>)) -> usize {
        let mut met = 0;
        self.root.search(filter.split('/'), true, &mut |node: &Node| {
            met += 1;
            node.retained.iter().for_each(&mut *each);
        });
        met
    }
}

type Levels<'a> = std::str::Split<'a, char>;

impl Node {
    /// Changes a node below, which is made first if there is memory to do so; removes it and those
    /// above if they are of no use then.
    fn change(
        &mut self,
        path: &str,
        memory: Option<&Memory>,
        change: impl FnOnce(&mut Node) -> Option<()>,
    ) -> bool {
        let done = self.at(path, memory).and_then(change).is_some();
        self.prune(path.split('/'));
        done
    }

    fn at(&mut self, path: &str, memory: Option<&Memory>) -> Option<&mut Node> {
        let mut node = self;
        for name in path.split('/') {
            if !node.below.contains_key(name) {
                let _weight = Some(memory?.take(NODE_BYTES + name.len())?);
                node.below.insert(name.into(), Box::new(Node { _weight, ..Node::default() }));
            }
            node = node.below.get_mut(name)?;
        }
        Some(node)
    }

    fn prune(&mut self, mut levels: Levels<'_>) {
        if let Some(name) = levels.next()
            && let Some(node) = self.below.get_mut(name)
        {
            node.prune(levels);
            if node.below.is_empty() && node.hearers.is_empty() && node.retained.is_none() {
                self.below.remove(name);
            }
        }
    }

    fn hear(&self, mut levels: Levels<'_>, is_first: bool, each: &mut impl FnMut(&Node)) -> usize {
        let name = levels.next();
        // Wildcards at the front do not match what belongs to the server.
        let is_hidden = is_first && name.is_some_and(|name| name.starts_with('$'));
        if let Some(rest) = self.below.get("#").filter(|_| !is_hidden) {
            each(rest); // It matches this level, too: `a/#` has `a`.
        }
        let Some(name) = name else {
            each(self);
            return 1;
        };
        let ways = [(!is_hidden).then_some("+"), Some(name)];
        let nodes = ways.into_iter().flatten().filter_map(|name| self.below.get(name));
        nodes.fold(1, |met, node| met + node.hear(levels.clone(), false, each))
    }

    fn search(&self, mut levels: Levels<'_>, is_first: bool, each: &mut impl FnMut(&Node)) {
        let below = || self.below.iter().filter(|(name, _)| !(is_first && name.starts_with('$')));
        match levels.next() {
            None => each(self),
            Some("#") => {
                each(self);
                below().for_each(|(_, node)| node.search("#".split('/'), false, each));
            }
            Some("+") => below().for_each(|(_, node)| node.search(levels.clone(), false, each)),
            Some(name) => {
                if let Some(node) = self.below.get(name) {
                    node.search(levels, false, each);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(bytes_max: usize) -> Topics {
        let [heard, retained] = [bytes_max; 2].map(Memory::new);
        Topics { root: Node::default(), heard, retained }
    }

    fn hearers(topics: &Topics, topic: &str) -> Vec<(usize, Qos)> {
        let mut all = Vec::new();
        topics.hearers(topic, &mut all);
        all
    }

    fn says<'a>(topic: &'a str, text: &'a str) -> Publish<'a> {
        Publish { topic, payload: text.as_bytes(), qos: 1, retain: true, dup: false, id: 0 }
    }

    fn retained(topics: &Topics, filter: &str) -> Vec<String> {
        let mut all = Vec::new();
        topics.retained(filter, &mut |message| all.push(message.topic.to_string()));
        all
    }

    fn is_empty(topics: &Topics) -> bool {
        topics.root.below.is_empty()
            && topics.heard.take(1024 * 1024).is_some()
            && topics.retained.take(1024 * 1024).is_some()
    }

    #[test]
    fn wildcards_match_as_the_standard_has_it() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "a/b/c", true),
            ("#", "/", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("+/#", "$SYS", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/+", "$SYS/x", true),
            ("a/#", "a/$x", true),
            ("a/+", "a/$x", true),
            ("ACCOUNTS", "accounts", false),
            ("a//c", "a//c", true),
            ("a/+/c", "a//c", true),
        ];
        for (filter, topic, matches) in cases {
            let mut topics = tree(1024 * 1024);
            assert!(topics.subscribe(filter, 7, 1));
            let expected = if matches { vec![(7, 1)] } else { vec![] };
            assert_eq!(hearers(&topics, topic), expected, "{filter} {topic}");
            topics.unsubscribe(filter, 7);
            assert!(is_empty(&topics));
            assert!(topics.retain(&says(topic, "text")));
            let expected = if matches { vec![topic.to_owned()] } else { vec![] };
            assert_eq!(retained(&topics, filter), expected, "{filter} {topic}");
            assert!(topics.retain(&says(topic, "")));
            assert!(is_empty(&topics));
        }
    }

    #[test]
    fn session_whose_filters_overlap_hears_once_by_the_highest_qos() {
        let mut topics = tree(1024 * 1024);
        for (filter, qos) in [("a/#", 0), ("a/+", 2), ("a/b", 1), ("#", 1)] {
            assert!(topics.subscribe(filter, 3, qos));
        }
        assert!(topics.subscribe("a/b", 1, 0) && topics.subscribe("a/b", 5, 1));
        assert_eq!(hearers(&topics, "a/b"), [(1, 0), (3, 2), (5, 1)]);
        // The same filter again changes its QoS.
        assert!(topics.subscribe("a/+", 3, 0));
        assert_eq!(hearers(&topics, "a/b"), [(1, 0), (3, 1), (5, 1)]);
        for filter in ["a/#", "a/+", "a/b", "#"] {
            topics.unsubscribe(filter, 3);
            topics.unsubscribe(filter, 4);
        }
        assert_eq!(hearers(&topics, "a/b"), [(1, 0), (5, 1)]);
    }

    #[test]
    fn newest_message_is_retained_and_an_empty_one_removes_it() {
        let mut topics = tree(1024 * 1024);
        for topic in ["a/b", "a/c", "a", "$x/a", "b"] {
            assert!(topics.retain(&says(topic, "old")) && topics.retain(&says(topic, "new")));
        }
        assert_eq!(retained(&topics, "#"), ["a", "a/b", "a/c", "b"]);
        assert_eq!(retained(&topics, "+/+"), ["a/b", "a/c"]);
        let mut texts = Vec::new();
        topics.retained("a/b", &mut |message| texts.push(message.publish(true).payload.to_vec()));
        assert_eq!(texts, [b"new"]);
        assert!(topics.retain(&says("a/b", "")) && topics.retain(&says("never/there", "")));
        assert_eq!(retained(&topics, "a/#"), ["a", "a/c"]);
    }

    #[test]
    fn what_has_no_room_is_refused_and_leaves_nothing_behind() {
        let mut topics = tree(3000);
        assert!(topics.subscribe("a/b", 1, 0));
        let deep = "x/".repeat(20);
        assert!(!topics.subscribe(&deep, 1, 0) && !topics.retain(&says(&deep, "text")));
        assert!(!topics.retain(&says("a/b/c", &"x".repeat(3000))));
        assert_eq!(retained(&topics, "#"), [""; 0]);
        // Each of the two has its own memory.
        let mut count = 0;
        while topics.subscribe(&count.to_string(), 1, 0) {
            count += 1;
        }
        assert!((3..10).contains(&count));
        assert!(topics.retain(&says("a/b/c", "text")));
        (0..count).for_each(|name| topics.unsubscribe(&name.to_string(), 1));
        topics.unsubscribe("a/b", 1);
        assert!(topics.retain(&says("a/b/c", "")) && topics.root.below.is_empty());
        assert!(topics.heard.take(3000).is_some() && topics.retained.take(3000).is_some());
    }

    /// However the filters are, a message meets each node once.
    #[test]
    fn wildcards_everywhere_cost_no_more_than_the_nodes_there_are() {
        let mut topics = tree(usize::MAX);
        let levels = 12;
        for bits in 0..1_u32 << levels {
            let level = |at| if bits >> at & 1 == 0 { "a" } else { "+" };
            let filter: Vec<&str> = (0..levels).map(level).collect();
            assert!(topics.subscribe(&filter.join("/"), bits as usize, 0));
        }
        let (topic, mut all) = (vec!["a"; levels].join("/"), Vec::new());
        assert_eq!(topics.hearers(&topic, &mut all), (2 << levels) - 1);
        assert_eq!(all.len(), 1 << levels);
    }
}

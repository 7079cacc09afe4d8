//! The history: the last of the news, and each reader's place in it.
//!
//! A place is the id up to which a reader has got the news. Ids begin with 1 and have no gaps.

use std::collections::VecDeque;

use serde_json::json;
use waterwheel::protocols::http::SseEvent;

/// News that are kept, for readers that are slow or come back.
pub const KEPT_MAX: usize = 100;

#[derive(Default)]
pub struct History {
    /// The oldest first.
    kept: VecDeque<News>,
    last: u64,
}

/// One piece of news in both forms in which it is sent. Each is made once, for all readers.
struct News {
    json: String,
    event: Vec<u8>,
}

impl History {
    pub fn push(&mut self, kind: &str, text: &str) {
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.last += 1;
        let json = json!({ "id": self.last, "kind": kind, "text": text }).to_string();
        let mut event = Vec::new();
        SseEvent::data(&json).id(&self.last.to_string()).write(&mut event);
        self.kept.push_back(News { json, event });
    }

    /// The id of the latest: the place of a reader that has got all. 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The place of a reader that names the last news it has. A new reader, or one that has its
    /// news from an earlier run of the server, begins with the oldest that is kept.
    pub fn place(&self, heard: Option<u64>) -> u64 {
        heard.filter(|id| *id <= self.last).unwrap_or(self.forgotten())
    }

    /// The news behind a place: the number of those not kept, and then the others with their ids.
    pub fn since(&self, place: u64) -> (u64, impl Iterator<Item = (u64, &str)>) {
        let (missed, news) = self.news(place);
        (missed, (place + missed + 1..).zip(news.map(|news| &*news.json)))
    }

    /// [`since`](History::since) as server-sent events.
    pub fn events(&self, place: u64) -> (u64, impl Iterator<Item = &[u8]>) {
        let (missed, news) = self.news(place);
        (missed, news.map(|news| &*news.event))
    }

    fn news(&self, place: u64) -> (u64, impl Iterator<Item = &News>) {
        let missed = self.forgotten().saturating_sub(place);
        let known = (place + missed - self.forgotten()) as usize;
        (missed, self.kept.iter().skip(known))
    }

    /// [`since`](History::since) as JSON.
    pub fn json(&self, place: u64) -> String {
        let (missed, news) = self.since(place);
        let news: Vec<&str> = news.map(|(_, item)| item).collect();
        format!("{{\"missed\":{missed},\"news\":[{}]}}\n", news.join(","))
    }

    fn forgotten(&self) -> u64 {
        self.last - self.kept.len() as u64
    }
}

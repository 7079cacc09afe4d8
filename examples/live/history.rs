//! The history: the last of the news, and each reader's place in it.
//!
//! A place is the id up to which a reader has heard. Ids begin with 1 and have no gaps.

use std::collections::VecDeque;

use serde_json::json;

/// News that are kept, for who is slow or comes back.
pub const KEPT_MAX: usize = 100;

#[derive(Default)]
pub struct History {
    /// As JSON, the oldest first.
    kept: VecDeque<String>,
    last: u64,
}

impl History {
    pub fn push(&mut self, kind: &str, text: &str) {
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.last += 1;
        self.kept.push_back(json!({ "id": self.last, "kind": kind, "text": text }).to_string());
    }

    /// The id of the latest: the place of a reader that has heard all. 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The place of a reader that says what it has heard. One that is new, or has heard it from a
    /// server that is no more, begins with the oldest that is kept.
    pub fn place(&self, heard: Option<u64>) -> u64 {
        heard.filter(|id| *id <= self.last).unwrap_or(self.forgotten())
    }

    /// What follows a place: how many are forgotten, and then the others with their ids.
    pub fn since(&self, place: u64) -> (u64, impl Iterator<Item = (u64, &str)>) {
        let missed = self.forgotten().saturating_sub(place);
        let first = place + missed;
        let known = (first - self.forgotten()) as usize;
        let news = self.kept.iter().skip(known).map(String::as_str);
        (missed, (first + 1..).zip(news))
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

//! A reader: a client, and its place in the history.
//!
//! Only the place is kept for it. There is no queue, so a slow reader costs no memory.

use waterwheel::Context;
use waterwheel::protocols::http::{Reply, Response, Sender, SseEvent};

use crate::history::History;

pub struct Reader<To> {
    /// The id of the latest news that was sent to it.
    pub place: u64,
    pub to: To,
}

impl Reader<Reply> {
    /// Answers a long poll with all that is new.
    pub fn answer<S: 'static>(self, reactor: &mut Context<S>, history: &History) {
        let news = Response::json(history.json(self.place));
        self.to.send(reactor, news.header("Cache-Control", "no-store"));
    }
}

impl Reader<Sender> {
    /// Sends all that is new; if too many earlier bytes are still unsent, it does so later.
    pub fn catch_up<S: 'static>(&mut self, reactor: &mut Context<S>, history: &History) {
        if self.to.is_above_high(reactor) {
            return; // `on_drained` calls when there is room.
        }
        let (missed, events) = history.events(self.place);
        if missed > 0 {
            let _ = self.to.event(reactor, &SseEvent::data(&missed.to_string()).event("missed"));
        }
        for event in events {
            // A refusal here loses nothing: the client has gone.
            let _ = self.to.write(reactor, event);
        }
        self.place = history.last();
    }
}

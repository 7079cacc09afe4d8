//! Channels: a message goes to all that have subscribed, and a subscriber that does not read is
//! closed.

use waterwheel::SourceId;
use waterwheel::net::Conn;

use super::commands::{SYNTAX, matches, pattern};
use super::db::{Bytes, Done};
use super::resp::Replies;
use super::server::Server;
use super::session::{Session, Turn};

/// Unsent bytes above which a subscriber is closed: it does not read.
pub const SUBSCRIBER_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Clone, Copy)]
pub struct Subscriber {
    pub conn: SourceId<Conn>,
    pub resp3: bool,
}

pub fn subscribe(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    let is_pattern = turn.args[0].len() == "psubscribe".len();
    for name in &turn.args[1..] {
        if is_pattern {
            pattern(name)?;
        }
        let names = if is_pattern { &session.patterns } else { &session.channels };
        if !names.iter().any(|known| &known[..] == *name) {
            session.keep(name.len())?;
            let names = if is_pattern { &mut session.patterns } else { &mut session.channels };
            names.push((*name).into());
            let subscriber = Subscriber { conn: turn.conn, resp3: session.resp3 };
            turn.server.hear(name, is_pattern, subscriber);
        }
        session.reply_subscribed(
            turn,
            if is_pattern { "psubscribe" } else { "subscribe" },
            Some(name),
        );
    }
    Ok(())
}

pub fn unsubscribe(session: &mut Session, turn: &mut Turn<'_>) -> Done {
    let is_pattern = turn.args[0].len() == "punsubscribe".len();
    let kind = if is_pattern { "punsubscribe" } else { "unsubscribe" };
    let names = if is_pattern { &mut session.patterns } else { &mut session.channels };
    let all: Vec<Bytes> = match &turn.args[1..] {
        [] => names.clone(),
        some => some.iter().map(|name| (*name).into()).collect(),
    };
    if all.is_empty() {
        session.reply_subscribed(turn, kind, None);
    }
    for name in &all {
        let names = if is_pattern { &mut session.patterns } else { &mut session.channels };
        if let Some(at) = names.iter().position(|known| known == name) {
            names.swap_remove(at);
            session.kept_bytes -= name.len() + super::db::COST_BYTES;
            turn.server.leave(name, is_pattern, turn.conn);
        }
        session.reply_subscribed(turn, kind, Some(name));
    }
    Ok(())
}

impl Session {
    fn reply_subscribed(&self, turn: &mut Turn<'_>, kind: &str, name: Option<&[u8]>) {
        let replies = &mut turn.server.replies;
        replies.push(3);
        replies.string(kind.as_bytes());
        replies.optional(name);
        replies.integer((self.channels.len() + self.patterns.len()) as i64);
    }
}
impl Server {
    pub fn hear(&mut self, name: &[u8], is_pattern: bool, subscriber: Subscriber) {
        if is_pattern {
            self.patterns.push((name.into(), subscriber));
        } else {
            self.channels.entry(name.into()).or_default().push(subscriber);
        }
    }

    pub fn leave(&mut self, name: &[u8], is_pattern: bool, conn: SourceId<Conn>) {
        if is_pattern {
            self.patterns.retain(|(known, subscriber)| &**known != name || subscriber.conn != conn);
        } else if let Some(subscribers) = self.channels.get_mut(name) {
            subscribers.retain(|subscriber| subscriber.conn != conn);
            if subscribers.is_empty() {
                self.channels.remove(name);
            }
        }
    }
}

/// Sends a message to all subscribers of the channel. One that does not read is closed, and the
/// others go on.
pub fn publish(_: &mut Session, turn: &mut Turn<'_>) -> Done {
    let &[_, channel, text] = turn.args else { return Err(SYNTAX) };
    let Turn { reactor, server, .. } = turn;
    let direct = server.channels.get(channel).into_iter().flatten().map(|to| (None, to));
    let matching = server.patterns.iter().filter(|(pattern, _)| matches(pattern, channel));
    let all = direct.chain(matching.map(|(name, to)| (Some(name), to)));
    let (mut count, mut message) = (0, Replies::default());
    for (pattern, &Subscriber { conn, resp3 }) in all {
        message.bytes.clear();
        message.resp3 = resp3;
        message.push(if pattern.is_some() { 4 } else { 3 });
        message.string(if pattern.is_some() { b"pmessage" } else { b"message" });
        pattern.iter().for_each(|pattern| message.string(pattern));
        message.string(channel);
        message.string(text);
        if conn.unsent(reactor).unwrap_or(0) + message.bytes.len() > SUBSCRIBER_BYTES_MAX {
            log::warn!("a subscriber left {SUBSCRIBER_BYTES_MAX} bytes unread: closed");
            conn.abort(reactor);
        }
        count += i64::from(conn.write(reactor, &message.bytes).is_taken());
    }
    server.replies.integer(count);
    Ok(())
}

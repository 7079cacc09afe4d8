//! The commands on keys and strings, and the table of all commands on values.
//!
//! Each is a function: it has the strings of the request, changes the database, and appends its
//! reply. Those that are about a client or the server are in `session.rs` and `server.rs`.

use super::collections as of;
use super::db::{Db, Done, Value};
use super::resp::{Replies, integer};
use super::session::{self, Session, Turn};
use super::{channels, sorted, waiting};

pub const SYNTAX: &str = "ERR syntax error";
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const OVERFLOW: &str = "ERR increment or decrement would overflow";
const BAD_END: &str = "ERR invalid expire time";

/// The longest pattern: matching may cost its length for each byte of a name.
pub const PATTERN_BYTES_MAX: usize = 256;
const LONG_PATTERN: &str = "ERR a pattern has 256 bytes at most";

/// A command that is to be done.
pub struct Call<'a> {
    pub db: &'a mut Db,
    /// The strings of the request, its name the first.
    pub args: &'a [&'a [u8]],
    pub replies: &'a mut Replies,
}

pub struct Command {
    pub name: &'static str,
    /// How many strings it has, its name included; negative: at least so many.
    pub arity: i32,
    /// True if it may need more memory, and is refused when there is no more.
    pub grows: bool,
    pub run: Run,
}

pub enum Run {
    /// A command on values.
    Value(fn(&mut Call<'_>) -> Done),
    /// A command on a client, or on the server.
    Client(fn(&mut Session, &mut Turn<'_>) -> Done),
}

const fn command(name: &'static str, arity: i32, run: fn(&mut Call<'_>) -> Done) -> Command {
    Command { name, arity, grows: false, run: Run::Value(run) }
}

const fn grows(name: &'static str, arity: i32, run: fn(&mut Call<'_>) -> Done) -> Command {
    Command { name, arity, grows: true, run: Run::Value(run) }
}

const fn client(
    name: &'static str,
    arity: i32,
    run: fn(&mut Session, &mut Turn<'_>) -> Done,
) -> Command {
    Command { name, arity, grows: false, run: Run::Client(run) }
}

#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    // Keys.
    command("del", -2, delete), command("unlink", -2, delete), command("exists", -2, exists),
    command("type", 2, kind), command("keys", 2, keys), command("scan", -2, scan),
    command("dbsize", 1, size), command("flushall", -1, clear), command("flushdb", -1, clear),
    command("expire", 3, expire), command("pexpire", 3, expire), command("pexpireat", 3, expire),
    command("expireat", 3, expire), command("ttl", 2, ttl), command("pttl", 2, ttl),
    command("persist", 2, persist), grows("rename", 3, rename),
    // Strings.
    command("get", 2, get), grows("set", -3, set), command("mget", -2, mget),
    grows("mset", -3, mset), grows("setex", 4, set_with_end), grows("psetex", 4, set_with_end),
    grows("setnx", 3, setnx), command("getdel", 2, getdel), command("strlen", 2, length),
    grows("append", 3, append), grows("incr", 2, add), grows("decr", 2, add),
    grows("incrby", 3, add), grows("decrby", 3, add),
    // Lists.
    grows("lpush", -3, of::push), grows("rpush", -3, of::push), command("lpop", -2, of::pop),
    command("rpop", -2, of::pop), command("llen", 2, of::count), command("lrange", 4, of::range),
    command("lindex", 3, of::index), command("ltrim", 4, of::trim),
    command("lrem", 4, of::remove_equal),
    // Hashes.
    grows("hset", -4, of::hset), grows("hmset", -4, of::hset), command("hget", 3, of::hget),
    command("hmget", -3, of::hget), command("hdel", -3, of::hdel), command("hlen", 2, of::count),
    command("hexists", 3, of::contains), command("hgetall", 2, of::hall),
    command("hkeys", 2, of::hall), command("hvals", 2, of::hall), grows("hincrby", 4, of::hincrby),
    // Sets.
    grows("sadd", -3, of::sadd), command("srem", -3, of::srem),
    command("sismember", 3, of::contains), command("scard", 2, of::count),
    command("smembers", 2, of::members), command("spop", -2, of::spop),
    command("sinter", -2, of::combine), command("sunion", -2, of::combine),
    command("sdiff", -2, of::combine),
    // Sorted sets.
    grows("zadd", -4, sorted::zadd), grows("zincrby", 4, sorted::zadd),
    command("zrem", -3, sorted::zrem), command("zscore", 3, sorted::zscore),
    command("zcard", 2, of::count), command("zrank", 3, sorted::zrank),
    command("zrange", -4, sorted::zrange), command("zrevrange", -4, sorted::zrange),
    command("zcount", 4, sorted::zscores), command("zrangebyscore", -4, sorted::zscores),
    command("zremrangebyscore", 4, sorted::zscores), command("zpopmin", -2, sorted::zpop),
    command("zpopmax", -2, sorted::zpop),
    // Clients and the server.
    client("ping", -1, session::ping), client("echo", 2, session::echo),
    client("hello", -1, session::hello), client("select", 2, session::select),
    client("quit", -1, session::quit), client("reset", 1, session::reset),
    client("client", -2, session::client), client("multi", 1, session::multi),
    client("exec", 1, session::exec), client("discard", 1, session::discard),
    client("watch", -2, session::watch), client("unwatch", 1, session::unwatch),
    client("blpop", -3, waiting::await_list), client("brpop", -3, waiting::await_list),
    client("subscribe", -2, channels::subscribe), client("psubscribe", -2, channels::subscribe),
    client("unsubscribe", -1, channels::unsubscribe),
    client("punsubscribe", -1, channels::unsubscribe), client("publish", 3, channels::publish),
    client("info", -1, |_, turn| turn.server.info(turn.reactor)),
    client("config", -2, |_, turn| turn.server.config(turn.args)),
    client("command", -1, |_, turn| turn.server.describe(turn.args)),
    client("save", 1, session::save),
    client("bgsave", -1, |_, turn| turn.server.save(turn.reactor, None)),
];

impl<'a> Call<'a> {
    pub fn key(&self) -> &'a [u8] {
        self.args[1]
    }

    /// Returns true if this is the command of that name. One function may serve several.
    pub fn is(&self, name: &str) -> bool {
        self.args[0].eq_ignore_ascii_case(name.as_bytes())
    }

    pub fn integer(&self, at: usize) -> Done<i64> {
        integer(self.args[at]).ok_or(NOT_AN_INTEGER)
    }

    pub fn ok(&mut self) -> Done {
        self.replies.simple("OK");
        Ok(())
    }

    pub fn count(&mut self, count: usize) -> Done {
        self.replies.integer(count as i64);
        Ok(())
    }

    /// Does something with each string from this one on, and replies how often it returned true.
    pub fn count_each(&mut self, from: usize, mut act: impl FnMut(&mut Db, &[u8]) -> bool) -> Done {
        let count = self.args[from..].iter().filter(|arg| act(self.db, arg)).count();
        self.count(count)
    }

    /// The strings from this one on, two by two.
    pub fn pairs(&self, from: usize) -> Done<&'a [[&'a [u8]; 2]]> {
        match self.args[from..].as_chunks() {
            (pairs, []) => Ok(pairs),
            _ => Err("ERR wrong number of arguments"),
        }
    }

    /// The end that a number at this place stands for: from now on, or since 1970.
    fn end(&self, at: usize, unit_ms: i64, is_absolute: bool) -> Done<i64> {
        let ms = self.integer(at)?.checked_mul(unit_ms).ok_or(BAD_END)?;
        if is_absolute { Ok(ms) } else { self.db.now_ms.checked_add(ms).ok_or(BAD_END) }
    }
}

fn delete(call: &mut Call<'_>) -> Done {
    call.count_each(1, |db, key| db.remove(key))
}

fn exists(call: &mut Call<'_>) -> Done {
    call.count_each(1, |db, key| db.value(key).is_some())
}

fn kind(call: &mut Call<'_>) -> Done {
    let name = call.db.value(call.key()).map_or("none", Value::name);
    call.replies.simple(name);
    Ok(())
}

/// A pattern, if it is not too long.
pub fn pattern(text: &[u8]) -> Done<&[u8]> {
    if text.len() > PATTERN_BYTES_MAX { Err(LONG_PATTERN) } else { Ok(text) }
}

fn keys(call: &mut Call<'_>) -> Done {
    let wanted = pattern(call.key())?;
    let (mut keys, _) = call.db.scan(0, usize::MAX);
    keys.retain(|key| matches(wanted, key));
    call.replies.array(keys.len());
    keys.iter().for_each(|key| call.replies.string(key));
    Ok(())
}

fn scan(call: &mut Call<'_>) -> Done {
    let from = usize::try_from(call.integer(1)?).map_err(|_| "ERR invalid cursor")?;
    let (mut count, mut wanted, mut kind) = (10, &b"*"[..], None);
    for (at, [option, value]) in call.pairs(2)?.iter().enumerate() {
        match option.to_ascii_uppercase().as_slice() {
            b"COUNT" => count = call.integer(3 + 2 * at)?.clamp(1, 10_000) as usize,
            b"MATCH" => wanted = pattern(value)?,
            b"TYPE" => kind = Some(value.to_ascii_lowercase()),
            _ => return Err(SYNTAX),
        }
    }
    let (mut keys, next) = call.db.scan(from, count);
    keys.retain(|key| matches(wanted, key));
    if let Some(kind) = kind {
        keys.retain(|key| call.db.value(key).is_some_and(|value| value.name().as_bytes() == kind));
    }
    call.replies.array(2);
    call.replies.string(next.to_string().as_bytes());
    call.replies.array(keys.len());
    keys.iter().for_each(|key| call.replies.string(key));
    Ok(())
}

/// Returns true if a text is of a pattern: `*` stands for any bytes, `?` for one, `[a-z]` and
/// `[^a-z]` for one of those named, and a backslash takes the meaning of what follows.
///
/// Only the last `*` is tried again, so the cost is the product of the lengths at most.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if let Some(length) = one(&pattern[p..], text[t]) {
            (p, t) = (p + length, t + 1);
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            (p, t) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// How many bytes of the pattern stand for this byte; `None` if they do not.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', plain, ..] => (*plain == byte).then_some(2),
        [b'[', class @ ..] => {
            let end = class.iter().position(|byte| *byte == b']').unwrap_or(class.len());
            let (mut class, mut found) = (&class[..end], false);
            let not = class.strip_prefix(b"^").inspect(|rest| class = rest).is_some();
            while let Some((low, rest)) = class.split_first() {
                let (high, rest) = match rest {
                    [b'-', high, rest @ ..] => (high, rest),
                    _ => (low, rest),
                };
                found |= (*low.min(high)..=*low.max(high)).contains(&byte);
                class = rest;
            }
            (found != not).then_some((end + 2).min(pattern.len()))
        }
        [plain, ..] => (*plain == byte).then_some(1),
    }
}

fn size(call: &mut Call<'_>) -> Done {
    call.count(call.db.len())
}

fn clear(call: &mut Call<'_>) -> Done {
    call.db.clear();
    call.ok()
}

fn rename(call: &mut Call<'_>) -> Done {
    call.db.rename(call.key(), call.args[2])?;
    call.ok()
}

fn expire(call: &mut Call<'_>) -> Done {
    let unit_ms = if call.is("expire") || call.is("expireat") { 1000 } else { 1 };
    let is_absolute = call.is("expireat") || call.is("pexpireat");
    let end = call.end(2, unit_ms, is_absolute)?;
    let is_there = call.db.end_at(call.key(), Some(end));
    call.count(is_there.into())
}

fn ttl(call: &mut Call<'_>) -> Done {
    let unit_ms = if call.is("ttl") { 1000 } else { 1 };
    let left = match call.db.end_of(call.key()) {
        None => -2,
        Some(None) => -1,
        Some(Some(end)) => (end - call.db.now_ms + unit_ms / 2) / unit_ms,
    };
    call.replies.integer(left);
    Ok(())
}

fn persist(call: &mut Call<'_>) -> Done {
    let had_end = call.db.end_of(call.key()).flatten().is_some();
    call.db.end_at(call.key(), None);
    call.count(had_end.into())
}

fn get(call: &mut Call<'_>) -> Done {
    let text = call.db.string(call.key())?;
    call.replies.optional(text.map(|text| &text[..]));
    Ok(())
}

fn set(call: &mut Call<'_>) -> Done {
    let (mut end, mut only, mut keeps_end, mut wants_old) = (None, None, false, false);
    let mut at = 3;
    while let Some(option) = call.args.get(at).map(|option| option.to_ascii_uppercase()) {
        let takes_value = matches!(&option[..], b"EX" | b"PX" | b"EXAT" | b"PXAT");
        match &option[..] {
            b"NX" | b"XX" if only.is_none() => only = Some(option == b"XX"),
            b"KEEPTTL" => keeps_end = true,
            b"GET" => wants_old = true,
            _ if takes_value && end.is_none() && at + 1 < call.args.len() => {
                let unit_ms = if option.starts_with(b"P") { 1 } else { 1000 };
                if call.integer(at + 1)? <= 0 {
                    return Err("ERR invalid expire time in 'set' command");
                }
                end = Some(call.end(at + 1, unit_ms, option.ends_with(b"AT"))?);
            }
            _ => return Err(SYNTAX),
        }
        at += if takes_value { 2 } else { 1 };
    }
    if keeps_end && end.is_some() {
        return Err(SYNTAX);
    }
    if wants_old {
        get(call)?;
    }
    let is_there = only.is_some() && call.db.value(call.key()).is_some();
    let sets = only.is_none_or(|only_old| only_old == is_there);
    if sets {
        call.db.set_string(call.key(), call.args[2], keeps_end);
        if end.is_some() {
            call.db.end_at(call.key(), end);
        }
    }
    match (wants_old, sets) {
        (true, _) => Ok(()),
        (_, true) => call.ok(),
        (_, false) => {
            call.replies.null();
            Ok(())
        }
    }
}

fn set_with_end(call: &mut Call<'_>) -> Done {
    let end = call.end(2, if call.is("setex") { 1000 } else { 1 }, false)?;
    if call.integer(2)? <= 0 {
        return Err(BAD_END);
    }
    call.db.set_string(call.key(), call.args[3], false);
    call.db.end_at(call.key(), Some(end));
    call.ok()
}

fn setnx(call: &mut Call<'_>) -> Done {
    let is_new = call.db.value(call.key()).is_none();
    if is_new {
        call.db.set_string(call.key(), call.args[2], false);
    }
    call.count(is_new.into())
}

fn mget(call: &mut Call<'_>) -> Done {
    call.replies.array(call.args.len() - 1);
    for key in &call.args[1..] {
        let text = call.db.string(key).ok().flatten();
        call.replies.optional(text.map(|text| &text[..]));
    }
    Ok(())
}

fn mset(call: &mut Call<'_>) -> Done {
    for [key, text] in call.pairs(1)? {
        call.db.set_string(key, text, false);
    }
    call.ok()
}

fn getdel(call: &mut Call<'_>) -> Done {
    get(call)?;
    call.db.remove(call.key());
    Ok(())
}

fn length(call: &mut Call<'_>) -> Done {
    let text = call.db.string(call.key())?;
    let length = text.map_or(0, |text| text.len());
    call.count(length)
}

fn append(call: &mut Call<'_>) -> Done {
    let more = call.args[2];
    let length = call.db.edit_string(call.key(), |text, change| {
        text.extend_from_slice(more);
        change.resized(0, more.len());
        Ok(text.len())
    })?;
    call.count(length)
}

fn add(call: &mut Call<'_>) -> Done {
    let by = if call.args.len() == 3 { call.integer(2)? } else { 1 };
    let is_less = call.is("decr") || call.is("decrby");
    let by = if is_less { by.checked_neg().ok_or(OVERFLOW)? } else { by };
    let sum = call.db.edit_string(call.key(), |text, change| {
        let before = text.len();
        let sum = sum((!change.is_new).then_some(text), by)?;
        sum.to_string().as_bytes().clone_into(text);
        change.resized(before, text.len());
        Ok(sum)
    })?;
    call.replies.integer(sum);
    Ok(())
}

/// A text as a number, and some more; no text is zero.
pub fn sum(text: Option<&[u8]>, more: i64) -> Done<i64> {
    let number = text.map_or(Some(0), integer).ok_or(NOT_AN_INTEGER)?;
    number.checked_add(more).ok_or(OVERFLOW)
}

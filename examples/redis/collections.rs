//! The commands on lists, hashes and sets.

use super::commands::{Call, NOT_AN_INTEGER, sum};
use super::db::{Bytes, Done, Value, WRONG_TYPE};
use super::resp::Replies;

/// LLEN, HLEN, SCARD and ZCARD.
pub fn count(call: &mut Call<'_>) -> Done {
    let is_of = |kind: u8| call.args[0][0].eq_ignore_ascii_case(&kind);
    let count = match call.db.value(call.key()) {
        None => 0,
        Some(Value::List(list)) if is_of(b'l') => list.len(),
        Some(Value::Hash(hash)) if is_of(b'h') => hash.len(),
        Some(Value::Set(set)) if is_of(b's') => set.len(),
        Some(Value::Sorted(sorted)) if is_of(b'z') => sorted.len(),
        Some(_) => return Err(WRONG_TYPE),
    };
    call.count(count)
}

/// HEXISTS and SISMEMBER.
pub fn contains(call: &mut Call<'_>) -> Done {
    let item = call.args[2];
    let is_there = match call.is("hexists") {
        true => call.db.hash(call.key())?.is_some_and(|hash| hash.contains_key(item)),
        false => call.db.set(call.key())?.is_some_and(|set| set.contains(item)),
    };
    call.count(is_there.into())
}

pub fn push(call: &mut Call<'_>) -> Done {
    let (items, at_front) = (&call.args[2..], call.is("lpush"));
    let length = call.db.edit_list(call.key(), |list, change| {
        for item in items {
            change.added(item.len());
            if at_front { list.push_front((*item).into()) } else { list.push_back((*item).into()) }
        }
        Ok(list.len())
    })?;
    call.count(length)
}

/// How many elements a POP is to take; `None` if it takes one, and replies without an array.
pub fn pop_count(call: &Call<'_>) -> Done<Option<usize>> {
    let count = (call.args.len() > 2).then(|| call.integer(2)).transpose()?;
    let out_of_range = "ERR value is out of range, must be positive";
    count.map(|count| usize::try_from(count).map_err(|_| out_of_range)).transpose()
}

pub fn pop(call: &mut Call<'_>) -> Done {
    let (count, at_front) = (pop_count(call)?, call.is("lpop"));
    let Some(list) = call.db.list(call.key())? else {
        if count.is_some() {
            call.replies.null_array()
        } else {
            call.replies.null()
        }
        return Ok(());
    };
    if let Some(count) = count {
        call.replies.array(count.min(list.len()));
    }
    call.db.edit_list(call.key(), |list, change| {
        for _ in 0..count.unwrap_or(1) {
            let item = if at_front { list.pop_front() } else { list.pop_back() };
            let Some(item) = item else { break };
            change.removed(item.len());
            call.replies.string(&item);
        }
        Ok(())
    })
}

/// The part of a row between two places; those that are negative count from its end.
pub fn slice(length: usize, first: i64, last: i64) -> (usize, usize) {
    let length = length as i64;
    let place = |at: i64| if at < 0 { at.saturating_add(length).max(0) } else { at.min(length) };
    let last = if last < -length { 0 } else { place(last).saturating_add(1).min(length) };
    (place(first).min(last) as usize, last as usize)
}

pub fn range(call: &mut Call<'_>) -> Done {
    let (first, last) = (call.integer(2)?, call.integer(3)?);
    let Some(list) = call.db.list(call.key())? else {
        call.replies.array(0);
        return Ok(());
    };
    let (begin, end) = slice(list.len(), first, last);
    call.replies.array(end - begin);
    list.range(begin..end).for_each(|item| call.replies.string(item));
    Ok(())
}

pub fn index(call: &mut Call<'_>) -> Done {
    let at = call.integer(2);
    let Some(list) = call.db.list(call.key())? else {
        call.replies.null();
        return Ok(());
    };
    let at = at.map(|at| if at < 0 { at.saturating_add(list.len() as i64) } else { at })?;
    let item = usize::try_from(at).ok().and_then(|at| list.get(at));
    call.replies.optional(item.map(|item| &item[..]));
    Ok(())
}

pub fn trim(call: &mut Call<'_>) -> Done {
    let (first, last) = (call.integer(2)?, call.integer(3)?);
    call.db.edit_list(call.key(), |list, change| {
        let (begin, end) = slice(list.len(), first, last);
        list.drain(end..).for_each(|item| change.removed(item.len()));
        list.drain(..begin).for_each(|item| change.removed(item.len()));
        Ok(())
    })?;
    call.ok()
}

pub fn remove_equal(call: &mut Call<'_>) -> Done {
    let (count, item) = (call.integer(2)?, call.args[3]);
    let most = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let removed = call.db.edit_list(call.key(), |list, change| {
        let found =
            list.iter().enumerate().filter(|(_, other)| &other[..] == item).map(|(at, _)| at);
        let found: Vec<usize> = found.collect();
        let most = most.min(found.len());
        let chosen = if count < 0 { &found[found.len() - most..] } else { &found[..most] };
        let mut at = 0;
        list.retain(|_| {
            at += 1;
            chosen.binary_search(&(at - 1)).is_err()
        });
        chosen.iter().for_each(|_| change.removed(item.len()));
        Ok(chosen.len())
    })?;
    call.count(removed)
}

pub fn hset(call: &mut Call<'_>) -> Done {
    let pairs = call.pairs(2)?;
    let added = call.db.edit_hash(call.key(), |hash, change| {
        let before = hash.len();
        for [field, value] in pairs {
            match hash.insert((*field).into(), (*value).into()) {
                Some(old) => change.resized(old.len(), value.len()),
                None => change.added(field.len() + value.len()),
            }
        }
        Ok(hash.len() - before)
    })?;
    if call.is("hmset") { call.ok() } else { call.count(added) }
}

pub fn hget(call: &mut Call<'_>) -> Done {
    if call.is("hmget") {
        call.replies.array(call.args.len() - 2);
    }
    let hash = call.db.hash(call.key())?.map(|hash| &*hash);
    for field in &call.args[2..] {
        call.replies.optional(hash.and_then(|hash| hash.get(*field)).map(|value| &value[..]));
    }
    Ok(())
}

pub fn hdel(call: &mut Call<'_>) -> Done {
    let fields = &call.args[2..];
    let removed = call.db.edit_hash(call.key(), |hash, change| {
        let gone = fields.iter().filter_map(|field| hash.remove_entry(*field));
        Ok(gone.map(|(field, value)| change.removed(field.len() + value.len())).count())
    })?;
    call.count(removed)
}

/// HGETALL, HKEYS and HVALS.
pub fn hall(call: &mut Call<'_>) -> Done {
    let (keys, values) = (!call.is("hvals"), !call.is("hkeys"));
    let empty = Default::default();
    let hash = call.db.hash(call.key())?.map_or(&empty, |hash| hash);
    if keys && values {
        call.replies.map(hash.len())
    } else {
        call.replies.array(hash.len())
    }
    for (field, value) in hash {
        if keys {
            call.replies.string(field);
        }
        if values {
            call.replies.string(value);
        }
    }
    Ok(())
}

pub fn hincrby(call: &mut Call<'_>) -> Done {
    let (field, by) = (call.args[2], call.integer(3)?);
    let sum = call.db.edit_hash(call.key(), |hash, change| {
        let old = hash.get(field).map(|old| &old[..]);
        let sum = sum(old, by).map_err(|error| match error {
            NOT_AN_INTEGER => "ERR hash value is not an integer",
            other => other,
        })?;
        let text: Bytes = sum.to_string().into_bytes().into();
        match old {
            Some(old) => change.resized(old.len(), text.len()),
            None => change.added(field.len() + text.len()),
        }
        hash.insert(field.into(), text);
        Ok(sum)
    })?;
    call.replies.integer(sum);
    Ok(())
}

pub fn sadd(call: &mut Call<'_>) -> Done {
    let members = &call.args[2..];
    let added = call.db.edit_set(call.key(), |set, change| {
        let new = members
            .iter()
            .filter(|member| !set.contains(**member) && set.insert((**member).into()));
        Ok(new.map(|member| change.added(member.len())).count())
    })?;
    call.count(added)
}

pub fn srem(call: &mut Call<'_>) -> Done {
    let members = &call.args[2..];
    let removed = call.db.edit_set(call.key(), |set, change| {
        let gone = members.iter().filter(|member| set.remove(**member));
        Ok(gone.map(|member| change.removed(member.len())).count())
    })?;
    call.count(removed)
}

fn reply_set<'a>(replies: &mut Replies, members: impl ExactSizeIterator<Item = &'a Bytes>) -> Done {
    replies.set(members.len());
    members.for_each(|member| replies.string(member));
    Ok(())
}

pub fn members(call: &mut Call<'_>) -> Done {
    match call.db.set(call.key())? {
        Some(set) => reply_set(call.replies, set.iter()),
        None => reply_set(call.replies, [].iter()),
    }
}

/// Any member, in the order of the table: std keeps no row from which one could be drawn.
pub fn spop(call: &mut Call<'_>) -> Done {
    let count = pop_count(call)?;
    let Some(set) = call.db.set(call.key())? else {
        if count.is_some() {
            call.replies.set(0)
        } else {
            call.replies.null()
        }
        return Ok(());
    };
    if let Some(count) = count {
        call.replies.set(count.min(set.len()));
    }
    call.db.edit_set(call.key(), |set, change| {
        for _ in 0..count.unwrap_or(1) {
            let Some(member) = set.iter().next().cloned() else { break };
            set.remove(&member);
            change.removed(member.len());
            call.replies.string(&member);
        }
        if set.capacity() > 4 * set.len() {
            set.shrink_to(2 * set.len()); // Or the first would be further away each time.
        }
        Ok(())
    })
}

/// SINTER, SUNION and SDIFF.
pub fn combine(call: &mut Call<'_>) -> Done {
    let mut all = call.db.set(call.key())?.map_or_else(Default::default, |set| set.clone());
    for key in &call.args[2..] {
        let empty = Default::default();
        let other = call.db.set(key)?.map_or(&empty, |set| set);
        match call.args[0][1].to_ascii_lowercase() {
            b'u' => all.extend(other.iter().cloned()),
            b'i' => all.retain(|member| other.contains(member)),
            _ => all.retain(|member| !other.contains(member)),
        }
    }
    reply_set(call.replies, all.iter())
}

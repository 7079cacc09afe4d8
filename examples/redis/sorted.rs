//! Sorted sets: members in the order of their scores, and the commands on them.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use super::collections::{pop_count, slice};
use super::commands::{Call, SYNTAX};
use super::db::{Done, Key};
use super::resp::Replies;

const NOT_A_FLOAT: &str = "ERR value is not a valid float";

/// A score; never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score(pub f64);

impl Eq for Score {}

impl Ord for Score {
    fn cmp(&self, other: &Score) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Score) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Members in the order of their scores, and of their bytes where scores are equal.
///
/// Redis keeps a skip list that counts, and finds the member at a rank in O(log n). A tree of std
/// does not count: here a rank costs O(n).
#[derive(Debug, Default)]
pub struct Sorted {
    scores: HashMap<Key, f64>,
    order: BTreeSet<(Score, Key)>,
}

impl Sorted {
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).copied()
    }

    pub fn set(&mut self, member: &[u8], score: f64) {
        let score = score + 0.0; // There is one zero.
        let (member, old) = match self.scores.get_key_value(member) {
            Some((member, old)) => (member.clone(), Some(*old)),
            None => (Key::from(member), None),
        };
        if let Some(old) = old {
            self.order.remove(&(Score(old), member.clone()));
        }
        self.order.insert((Score(score), member.clone()));
        self.scores.insert(member, score);
    }

    pub fn remove(&mut self, member: &[u8]) -> bool {
        let Some((member, score)) = self.scores.remove_entry(member) else { return false };
        self.order.remove(&(Score(score), member))
    }

    /// How many members stand before this one.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        let (member, score) = self.scores.get_key_value(member)?;
        Some(self.order.range(..&(Score(*score), member.clone())).count())
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (f64, &Key)> {
        self.order.iter().map(|(score, member)| (score.0, member))
    }

    /// The members whose scores are between two bounds.
    pub fn between(
        &self,
        low: Bound<f64>,
        high: Bound<f64>,
    ) -> impl DoubleEndedIterator<Item = (f64, &Key)> {
        // No member is before the empty one: a bound that excludes its score begins at the next
        // score.
        let least = |score: f64| (Score(score), Key::from(&b""[..]));
        let low_bound = low;
        let low = match low {
            Bound::Included(score) => Bound::Included(least(score)),
            Bound::Excluded(score) => Bound::Included(least(score.next_up())),
            Bound::Unbounded => Bound::Unbounded,
        };
        let high = match high {
            Bound::Included(score) if score < f64::INFINITY => {
                Bound::Excluded(least(score.next_up()))
            }
            Bound::Excluded(score) => Bound::Excluded(least(score)),
            _ => Bound::Unbounded,
        };
        // Behind the highest score there is none, and no next one to begin at.
        let is_behind_all = low_bound == Bound::Excluded(f64::INFINITY);
        let is_empty = match (&low, &high) {
            _ if is_behind_all => true,
            (Bound::Included(low), Bound::Excluded(high)) => low >= high,
            _ => false,
        };
        let range = (!is_empty).then(|| self.order.range((low, high)));
        range.into_iter().flatten().map(|(score, member)| (score.0, member))
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

fn float(text: &[u8]) -> Done<f64> {
    let value = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    value.filter(|value| !value.is_nan()).map(|value| value + 0.0).ok_or(NOT_A_FLOAT) // One zero.
}

/// ZADD with NX, XX, GT, LT, CH and INCR; ZINCRBY is ZADD INCR.
pub fn zadd(call: &mut Call<'_>) -> Done {
    let (mut at, mut options) = (2, Vec::new());
    while let Some(option) = call.args.get(at).map(|option| option.to_ascii_uppercase())
        && matches!(&option[..], b"NX" | b"XX" | b"GT" | b"LT" | b"CH" | b"INCR")
    {
        options.push(option);
        at += 1;
    }
    let has = |name: &[u8]| options.iter().any(|option| option == name);
    let pairs = call.pairs(at).map_err(|_| SYNTAX)?;
    let increments = has(b"INCR") || call.is("zincrby");
    let alone = usize::from(has(b"NX")) + usize::from(has(b"GT")) + usize::from(has(b"LT"));
    if pairs.is_empty() || alone > 1 || has(b"NX") && has(b"XX") || increments && pairs.len() > 1 {
        return Err(SYNTAX);
    }
    let scores = pairs.iter().map(|[score, _]| float(score)).collect::<Done<Vec<f64>>>()?;
    let (mut added, mut changed, mut last) = (0, 0, None);
    call.db.edit_sorted(call.key(), |sorted, change| {
        for (mut score, [_, member]) in scores.into_iter().zip(pairs) {
            let old = sorted.score(member);
            if increments {
                score += old.unwrap_or(0.0);
            }
            if score.is_nan() {
                return Err("ERR resulting score is not a number (NaN)");
            }
            let refused = match old {
                None => has(b"XX"),
                Some(old) => has(b"NX") || has(b"GT") && score <= old || has(b"LT") && score >= old,
            };
            if refused {
                continue;
            }
            last = Some(score);
            match old {
                None => change.added(member.len()),
                Some(old) if old == score => continue,
                Some(_) => change.resized(0, 0),
            }
            added += usize::from(old.is_none());
            changed += 1;
            sorted.set(member, score);
        }
        Ok(())
    })?;
    match (increments, last) {
        (true, Some(score)) => call.replies.double(score),
        (true, None) => call.replies.null(),
        _ => return call.count(if has(b"CH") { changed } else { added }),
    }
    Ok(())
}

pub fn zrem(call: &mut Call<'_>) -> Done {
    let members = &call.args[2..];
    let removed = call.db.edit_sorted(call.key(), |sorted, change| {
        let gone = members.iter().filter(|member| sorted.remove(member));
        Ok(gone.map(|member| change.removed(member.len())).count())
    })?;
    call.count(removed)
}

pub fn zscore(call: &mut Call<'_>) -> Done {
    match call.db.sorted(call.key())?.and_then(|sorted| sorted.score(call.args[2])) {
        Some(score) => call.replies.double(score),
        None => call.replies.null(),
    }
    Ok(())
}

pub fn zrank(call: &mut Call<'_>) -> Done {
    match call.db.sorted(call.key())?.and_then(|sorted| sorted.rank(call.args[2])) {
        Some(rank) => call.replies.integer(rank as i64),
        None => call.replies.null(),
    }
    Ok(())
}

/// Members with their scores, if those are wanted: in RESP3 as pairs.
fn reply_sorted(replies: &mut Replies, found: &[(f64, &[u8])], with_scores: bool) {
    let pairs = with_scores && replies.resp3;
    replies.array(found.len() * if with_scores && !pairs { 2 } else { 1 });
    for (score, member) in found {
        if pairs {
            replies.array(2);
        }
        replies.string(member);
        if with_scores {
            replies.double(*score);
        }
    }
}

/// The options behind a range: WITHSCORES, REV, BYSCORE, and LIMIT with its two numbers.
#[derive(Default)]
struct Options {
    with_scores: bool,
    reverse: bool,
    by_score: bool,
    limit: Option<(usize, usize)>,
}

fn options(call: &Call<'_>) -> Done<Options> {
    let (mut options, mut at) = (Options::default(), 4);
    while let Some(option) = call.args.get(at) {
        match option.to_ascii_uppercase().as_slice() {
            b"WITHSCORES" => options.with_scores = true,
            b"REV" => options.reverse = true,
            b"BYSCORE" => options.by_score = true,
            b"LIMIT" if at + 2 < call.args.len() => {
                let number =
                    |at| Ok::<_, &str>(usize::try_from(call.integer(at)?).unwrap_or(usize::MAX));
                options.limit = Some((number(at + 1)?, number(at + 2)?));
                at += 2;
            }
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    Ok(options)
}

/// ZRANGE and ZREVRANGE: by places, or by scores.
pub fn zrange(call: &mut Call<'_>) -> Done {
    let options = options(call)?;
    if options.by_score {
        return reply_scores(call, options);
    }
    if options.limit.is_some() {
        return Err(SYNTAX);
    }
    let (first, last) = (call.integer(2)?, call.integer(3)?);
    let reverse = options.reverse || call.is("zrevrange");
    let Some(sorted) = call.db.sorted(call.key())? else {
        call.replies.array(0);
        return Ok(());
    };
    let (begin, end) = slice(sorted.len(), first, last);
    let members = sorted.iter().map(|(score, member)| (score, &member[..]));
    let found: Vec<_> = match reverse {
        true => members.rev().skip(begin).take(end - begin).collect(),
        false => members.skip(begin).take(end - begin).collect(),
    };
    reply_sorted(call.replies, &found, options.with_scores);
    Ok(())
}

/// A bound of a range of scores: `1.5`, `(1.5` without it, `-inf`, `+inf`.
fn bound(text: &[u8]) -> Done<Bound<f64>> {
    let value = float(text.strip_prefix(b"(").unwrap_or(text));
    let value = value.map_err(|_| "ERR min or max is not a float")?;
    Ok(if text.starts_with(b"(") { Bound::Excluded(value) } else { Bound::Included(value) })
}

/// ZCOUNT, ZRANGEBYSCORE and ZREMRANGEBYSCORE.
pub fn zscores(call: &mut Call<'_>) -> Done {
    if call.is("zrangebyscore") {
        let options = options(call)?;
        return reply_scores(call, options);
    }
    let (low, high) = (bound(call.args[2])?, bound(call.args[3])?);
    let removes = call.is("zremrangebyscore");
    let count = call.db.edit_sorted(call.key(), |sorted, change| {
        if !removes {
            return Ok(sorted.between(low, high).count());
        }
        let found: Vec<_> = sorted.between(low, high).map(|(_, member)| member.clone()).collect();
        for member in &found {
            sorted.remove(member);
            change.removed(member.len());
        }
        Ok(found.len())
    })?;
    call.count(count)
}

fn reply_scores(call: &mut Call<'_>, options: Options) -> Done {
    let (first, last) = if options.reverse { (3, 2) } else { (2, 3) };
    let (low, high) = (bound(call.args[first])?, bound(call.args[last])?);
    let (skip, take) = options.limit.unwrap_or((0, usize::MAX));
    let Some(sorted) = call.db.sorted(call.key())? else {
        call.replies.array(0);
        return Ok(());
    };
    let members = sorted.between(low, high).map(|(score, member)| (score, &member[..]));
    let found: Vec<_> = match options.reverse {
        true => members.rev().skip(skip).take(take).collect(),
        false => members.skip(skip).take(take).collect(),
    };
    reply_sorted(call.replies, &found, options.with_scores);
    Ok(())
}

pub fn zpop(call: &mut Call<'_>) -> Done {
    let (count, is_least) = (pop_count(call)?, call.is("zpopmin"));
    let found: Vec<_> = match call.db.sorted(call.key())? {
        None => Vec::new(),
        Some(sorted) => {
            let members = sorted.iter().map(|(score, member)| (score, member.clone()));
            let count = count.unwrap_or(1);
            if is_least {
                members.take(count).collect()
            } else {
                members.rev().take(count).collect()
            }
        }
    };
    let shown: Vec<_> = found.iter().map(|(score, member)| (*score, &member[..])).collect();
    if call.replies.resp3 && count.is_none() && !shown.is_empty() {
        call.replies.array(2); // One, without an array around it.
        call.replies.string(shown[0].1);
        call.replies.double(shown[0].0);
    } else {
        reply_sorted(call.replies, &shown, true);
    }
    call.db.edit_sorted(call.key(), |sorted, change| {
        for (_, member) in &found {
            sorted.remove(member);
            change.removed(member.len());
        }
        Ok(())
    })
}

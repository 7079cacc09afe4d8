//! The methods: what they want, and when they answer.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use waterwheel::Context;

use super::protocol::{INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND};
use super::session::{Server, Session, Waits};

/// The longest `sleep`.
const SLEEP_MS_MAX: u64 = 60_000;
/// Bytes that a `hash` goes over, all its rounds together: a part of a second.
const HASH_BYTES_MAX: u64 = 100_000_000;

pub enum Begun {
    Done(Value),
    /// `Session::end` is called when there is a result.
    Waits(Waits),
}

/// Begins the call of this number.
pub fn run(
    reactor: &mut Context<Server>,
    session: &Rc<Session>,
    number: u64,
    method: &str,
    params: Value,
) -> Result<Begun, (i32, &'static str)> {
    let caller = session.clone();
    Ok(match method {
        "echo" => Begun::Done(params),
        "add" => {
            let (a, b) = (param(&params, 0, "a"), param(&params, 1, "b"));
            let whole = a.as_i64().zip(b.as_i64()).and_then(|(a, b)| a.checked_add(b));
            let sum = a.as_f64().zip(b.as_f64()).map(|(a, b)| a + b).filter(|sum| sum.is_finite());
            let whole = whole.map(Value::from);
            Begun::Done(whole.or(sum.map(Value::from)).ok_or(INVALID_PARAMS)?)
        }
        "sleep" => {
            let ms = param(&params, 0, "ms").as_u64().filter(|ms| *ms <= SLEEP_MS_MAX);
            let ms = ms.ok_or(INVALID_PARAMS)?;
            let timer = reactor.after(Duration::from_millis(ms), move |reactor, _| {
                caller.end(reactor, number, Ok(json!(ms)));
            });
            Begun::Waits(Waits::Timer(timer))
        }
        "hash" => {
            let text = param(&params, 0, "text").as_str().ok_or(INVALID_PARAMS)?.to_owned();
            let rounds = param(&params, 1, "rounds").as_u64().ok_or(INVALID_PARAMS)?;
            if rounds.saturating_mul(text.len() as u64) > HASH_BYTES_MAX {
                return Err(INVALID_PARAMS);
            }
            let done = move |reactor: &mut Context<_>, _: &mut _, result: Result<u64, _>| {
                let result = result.map(|hash| json!(format!("{hash:016x}")));
                caller.end(reactor, number, result.map_err(|_| INTERNAL_ERROR));
            };
            Begun::Waits(Waits::Job(reactor.offload(move || hash(&text, rounds), done)))
        }
        "ask" => {
            let question = param(&params, 0, "question").as_str().ok_or(INVALID_PARAMS)?;
            let params = json!({"question": question});
            Begun::Waits(session.call_back(reactor, number, "confirm", params)?)
        }
        _ => return Err(METHOD_NOT_FOUND),
    })
}

/// A parameter, by its place or by its name.
fn param<'a>(params: &'a Value, at: usize, name: &str) -> &'a Value {
    params.get(at).or_else(|| params.get(name)).unwrap_or(&Value::Null)
}

/// FNV-1a, over the text again and again.
fn hash(text: &str, rounds: u64) -> u64 {
    let bytes = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    (0..rounds).fold(0xcbf2_9ce4_8422_2325, |hash, _| text.bytes().fold(hash, bytes))
}

//! The commands: what a page has the loop do, carried out on the loop's own thread.
//!
//! Knows the context, as any callback does. Each takes effect at once: at the gate, or in a callback
//! that was posted if the loop does not stand there.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::control::{Session, store_key};
use super::doctor::TIMERS_ALIKE_MAX;
use super::ring::Packed;
use super::tables::{Numbers, SharedTables};
use crate::Context;
use crate::reactor::{Kind, LoopEvent, Missed, Observer, Subject};
use crate::timers::Clock;

/// A command that is carried out on the loop's thread, between two callbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Records are wanted from now on, or not any more.
    Observe(bool),
    /// A keyframe is wanted.
    Key,
    /// Arms a timer that does nothing, after so long.
    Timer(Duration),
    /// Computes for so long, and lets nothing else run.
    Block(Duration),
    /// Defers a callback that defers itself, so many times.
    Defer(u32),
    /// Arms repeating timers that nobody cancels.
    Leak,
}

/// Carries out what waits.
pub fn carry_out<S: 'static>(
    session: &Arc<Session>,
    tables: &SharedTables,
    numbers: &mut Numbers,
    context: &mut Context<S>,
) {
    // One at a time: the lock is not held while a command is carried out.
    loop {
        let Some(command) = session.next_command() else { return };
        match command {
            Command::Observe(true) => {
                observe(session.clone(), Numbers::new(tables.clone()), context);
                let latest = store_key(session, numbers, context);
                session.ring.skip_to(latest); // The program's own observer has had some.
            }
            Command::Observe(false) => {
                let own = context.extension::<ProgramsOwn>().0.take();
                context.set_observer(own.and_then(|own| own.take()));
            }
            Command::Key => {
                store_key(session, numbers, context);
            }
            Command::Timer(delay) => drop(context.after(delay, |_, _| {})),
            Command::Block(long) => {
                context.enqueue(Default::default(), move |context, _| block(context, long));
            }
            Command::Defer(times) => defer_again(context, times),
            Command::Leak => {
                let often = Duration::from_millis(200);
                for _ in 0..TIMERS_ALIKE_MAX {
                    context.every(often, Missed::Skip, |_, _, _| {});
                }
            }
        }
    }
}

/// Computes, as a callback must not: nothing else runs meanwhile.
fn block<S: 'static>(context: &mut Context<S>, long: Duration) {
    let (began, real) = (context.stamp(), Clock::Monotonic.now());
    // By the loop's clock; but that stands if the loop is stopped.
    let passed = |context: &Context<S>| {
        let nanos = context.stamp().nanos().saturating_sub(began.nanos());
        Duration::from_nanos(nanos).max(Clock::Monotonic.now() - real)
    };
    while passed(context) < long {
        std::hint::spin_loop();
    }
}

fn defer_again<S: 'static>(context: &mut Context<S>, times: u32) {
    if times > 0 {
        context.defer(move |context, _| defer_again(context, times - 1));
    }
}

/// The program's own observer, while a page looks: it receives the records, too.
#[derive(Default)]
struct ProgramsOwn(Option<Rc<RefCell<Option<Observer>>>>);

/// Has each record written into the ring, and handed on to the observer that was there before.
fn observe<S: 'static>(session: Arc<Session>, numbers: Numbers, context: &mut Context<S>) {
    let own = Rc::new(RefCell::new(None::<Observer>));
    let (mut write, next) = (observer(session, numbers), own.clone());
    let before = context.set_observer(Some(Box::new(move |event| {
        write(event);
        if let Some(own) = &mut *next.borrow_mut() {
            own(event);
        }
    })));
    *own.borrow_mut() = before;
    context.extension::<ProgramsOwn>().0 = Some(own);
}

/// Writes each record into the ring.
fn observer(session: Arc<Session>, mut numbers: Numbers) -> impl FnMut(&LoopEvent) {
    move |event| {
        let (subject, (index, generation)) = match event.subject {
            Subject::None => (0, (0, 0)),
            Subject::Source(id) => (1, id.parts()),
            Subject::Timer(id) => (2, id.parts()),
            Subject::Deadline(id) => (3, id.parts()),
        };
        let ago = if event.cause == 0 { 0 } else { event.sequence - event.cause };
        let argument = match event.kind {
            Kind::Registered => numbers.of_name(event.what).into(),
            _ => event.argument,
        };
        let record = Packed {
            nanos: event.nanos,
            subject,
            index,
            generation,
            cause: u32::try_from(ago).unwrap_or(0),
            argument,
            kind: event.kind as u8,
            place: numbers.of_place(event.place),
        };
        match event.kind {
            Kind::Wait => session.set_asleep(event.argument > 0),
            Kind::Polled => session.set_asleep(false),
            _ => {}
        }
        session.ring.write(event.sequence, record);
    }
}

/// The longest callback that a page can ask for, in ms.
const BLOCK_MS_MAX: u64 = 10_000;
/// How often the callback of a defer storm defers itself: three turns' worth.
const STORM: u32 = 3 * crate::reactor::DEFERRED_PER_TURN as u32;

/// The command that a fault is, as a page asks for it; or why it is none, in one sentence.
pub fn fault(
    command: &Value,
    number: impl Fn(&str, u64) -> Result<u64, String>,
) -> Result<Command, String> {
    match command["what"].as_str() {
        Some("block") => Ok(Command::Block(Duration::from_millis(number("ms", BLOCK_MS_MAX)?))),
        Some("defer") => Ok(Command::Defer(STORM)),
        Some("leak") => Ok(Command::Leak),
        _ => Err("\"what\" is \"block\", \"defer\" or \"leak\".".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fault_is_read_up_to_the_longest_callback() {
        let read = |command: Value| {
            let number = |name: &str, most: u64| {
                let number = command[name].as_u64().filter(|number| *number <= most);
                number.ok_or(format!("at most {most}"))
            };
            fault(&command, number)
        };
        let block = |ms: u64| read(json!({ "what": "block", "ms": ms }));
        assert_eq!(block(BLOCK_MS_MAX), Ok(Command::Block(Duration::from_secs(10))));
        assert_eq!(block(BLOCK_MS_MAX + 1), Err("at most 10000".to_owned()));
        assert_eq!(read(json!({ "what": "defer" })), Ok(Command::Defer(STORM)));
        assert_eq!(read(json!({ "what": "leak" })), Ok(Command::Leak));
    }
}

//! How a check says that something is not as it should be.

use std::fmt::Debug;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Fails with the sentence unless the condition holds.
///
/// # Panics
/// If it does not.
#[track_caller]
pub fn expect(condition: bool, sentence: &str) {
    if !condition {
        panic!("{sentence}");
    }
}

/// Fails with the sentence, what was expected and what came, unless both are equal.
///
/// # Panics
/// If they are not.
#[track_caller]
pub fn same<T: PartialEq<U> + Debug, U: Debug>(got: T, expected: U, sentence: &str) {
    if got != expected {
        panic!("{sentence}\n  expected: {}\n  got:      {}", short(&expected), short(&got));
    }
}

/// Fails with the sentence.
///
/// # Panics
/// Always.
#[track_caller]
pub fn refuse(sentence: &str) -> ! {
    panic!("{sentence}")
}

/// The most characters of a value that a failure shows. 300: four lines.
const SHOWN_MAX: usize = 300;

fn short(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => {
            format!("{} … ({} characters in all)", &text[..end], text.chars().count())
        }
        None => text,
    }
}

/// The ceiling of a wait after another one has expired in this process. 1 s: the check has failed
/// by then, and ten ceilings in a row would keep the student waiting.
const CEILING_THEN: Duration = Duration::from_secs(1);

/// True when a ceiling of this process has expired.
static EXPIRED: AtomicBool = AtomicBool::new(false);

/// How long a wait may take, if it may take so long the first time.
pub(crate) fn ceiling(first: Duration) -> Duration {
    if EXPIRED.load(Ordering::Relaxed) { first.min(CEILING_THEN) } else { first }
}

/// Makes the ceilings of this process short from now on.
pub(crate) fn has_expired() {
    EXPIRED.store(true, Ordering::Relaxed);
}

/// Runs `work` on a thread of its own and gives what it returns, or fails with the sentence after
/// so many seconds. A thread cannot be ended from outside: it goes on until the check's process
/// ends.
///
/// # Panics
/// If the time is up; and as `work` does.
#[track_caller]
pub fn within<T: Send + 'static>(
    seconds: u64,
    sentence: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (send, receive) = channel();
    let worker = thread::spawn(move || send.send(work()));
    let ceiling = ceiling(Duration::from_secs(seconds));
    match receive.recv_timeout(ceiling) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => {
            has_expired();
            panic!("{sentence} (after {} s)", ceiling.as_secs())
        }
        Err(RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panic) => panic::resume_unwind(panic),
            Ok(_) => unreachable!("it has sent nothing"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(check: impl FnOnce() + panic::UnwindSafe) -> String {
        let panic = panic::catch_unwind(check).expect_err("it passed");
        panic.downcast_ref::<String>().cloned().expect("a sentence")
    }

    #[test]
    fn a_failure_is_a_sentence_with_both_values() {
        let text = said(|| same(2, 3, "Two and one are three."));
        assert_eq!(text, "Two and one are three.\n  expected: 3\n  got:      2");
        let text = said(|| same(vec![7; 1000], vec![7; 999], "Not one too many."));
        assert!(text.len() < 800, "{text}");
    }

    #[test]
    fn work_that_does_not_end_is_left_behind() {
        let (_keep, wait) = channel::<()>();
        let text = said(panic::AssertUnwindSafe(|| {
            within(1, "It waits.", move || {
                let _ = wait.recv();
            })
        }));
        assert_eq!(text, "It waits. (after 1 s)");
        assert_eq!(ceiling(Duration::from_secs(60)), CEILING_THEN, "the next waits are short");
        assert_eq!(said(|| within(60, "It waits.", || panic!("{}", "no"))), "no");
    }
}

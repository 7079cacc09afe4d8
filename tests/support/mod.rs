//! What the tests share: chance, a ceiling on time, and traces as text.
#![allow(dead_code, unused_imports, unused_macros)] // Each test file uses its own part of it.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use waterwheel::reactor::{Kind, LoopEvent, Recorder};

pub mod browser;
pub mod clients;
pub mod curl;
pub mod host;
pub mod process;
mod rng;

pub use rng::Rng;

/// Ends the process if the test is still running after `limit`: a hang must fail, not hang CI.
/// Keep the guard alive for the length of the test.
pub fn ceiling(limit: Duration) -> impl Drop {
    struct Guard(Option<std::sync::mpsc::Sender<()>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.take();
        }
    }
    let (running, ended) = std::sync::mpsc::channel::<()>();
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    std::thread::spawn(move || {
        if ended.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("test {name} is still running after {limit:?}");
            std::process::abort();
        }
    });
    Guard(Some(running))
}

/// Lets this process have as many descriptors as it may: the usual soft limit is 1,024.
pub fn raise_open_files() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}

/// Set for a test that another program runs alone, in a process of its own.
pub const ALONE: &str = "WATERWHEEL_TEST_ALONE";

pub const MS: Duration = Duration::from_millis(1);

/// The kinds of what was recorded, without the bookkeeping of turns.
pub fn kinds(recorder: &Recorder) -> Vec<Kind> {
    let housekeeping = [Kind::Wait, Kind::Polled, Kind::Returned];
    let events = recorder.take();
    events.iter().map(|event| event.kind).filter(|kind| !housekeeping.contains(kind)).collect()
}

/// Only the records of these kinds.
pub fn only(events: &[LoopEvent], kinds: &[Kind]) -> Vec<LoopEvent> {
    events.iter().copied().filter(|event| kinds.contains(&event.kind)).collect()
}

/// Each record names a file of this package: of the program that was run, or of the crate.
pub fn assert_at_home(events: &[LoopEvent]) {
    let home = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(!events.is_empty());
    for event in events {
        // The compiler is given paths from here; one that is absolute stays as it is.
        let file = home.join(event.place.file());
        assert!(file.starts_with(home) && file.exists(), "{event} names {}", event.place);
    }
}

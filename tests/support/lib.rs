//! What the tests share: chance, a ceiling on time, and traces as text.

use std::panic::Location;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use waterwheel::reactor::{Kind, LoopEvent, Recorder};

#[cfg(feature = "http")]
pub mod browser;
pub mod clients;
pub mod curl;
pub mod decode;
pub mod faults;
pub mod host;
pub mod hosts;
#[cfg(feature = "http")]
pub mod http;
pub mod process;
pub mod promises;
mod rng;
#[cfg(feature = "http")]
pub mod siege;
pub mod sim;
pub mod tasks;
pub mod tcp;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tls")]
pub mod tls_peer;
#[cfg(feature = "http")]
pub mod web;
pub mod wheel;
#[cfg(feature = "ws")]
pub mod ws;

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

/// What the callbacks of a chaos panic with, by the thousand.
pub const CHAOS: &str = "chaos";

/// From now on a panic with [`CHAOS`] says nothing; any other is why a test fails, and does.
pub fn hush_chaos() {
    static HUSHED: Once = Once::new();
    HUSHED.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref::<&str>() != Some(&CHAOS) {
                usual(panic);
            }
        }));
    });
}

/// The kinds of what was recorded, without the bookkeeping of turns.
pub fn kinds(recorder: &Recorder) -> Vec<Kind> {
    let housekeeping = [Kind::Wait, Kind::Polled, Kind::Stamped, Kind::Dispatch, Kind::Returned];
    let events = recorder.take();
    events.iter().map(|event| event.kind).filter(|kind| !housekeeping.contains(kind)).collect()
}

/// Only the records of these kinds.
pub fn only(events: &[LoopEvent], kinds: &[Kind]) -> Vec<LoopEvent> {
    events.iter().copied().filter(|event| kinds.contains(&event.kind)).collect()
}

/// The folder of the library, to which the paths of all files of the sources are relative.
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of it")
}

/// A test of the calling file: its program, and its name there, which begins with the file's.
#[track_caller]
pub fn named(test: &str) -> (String, String) {
    let file = Path::new(Location::caller().file()).with_extension("");
    // As `tests/net/tcp`; or `tests/net/main`, and `tests/contract`.
    let mut parts = file.iter().map(|part| part.to_str().expect("a name in ASCII"));
    let program = parts.by_ref().skip_while(|part| *part != "tests").nth(1).expect("a test");
    let modules = parts.filter(|part| *part != "main");
    let name = modules.chain([test]).collect::<Vec<_>>().join("::");
    (program.to_owned(), name)
}

/// Each record names a file of this package: of the program that was run, or of the crate.
pub fn assert_at_home(events: &[LoopEvent]) {
    let home = home();
    assert!(!events.is_empty());
    for event in events {
        // The compiler is given paths from here; one that is absolute stays as it is.
        let file = home.join(event.place.file());
        assert!(file.starts_with(home) && file.exists(), "{event} names {}", event.place);
    }
}

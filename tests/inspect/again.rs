//! The page loses its program, and comes back: it lacks nothing, and has nothing twice.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::browser::Browser;
use support::ceiling;
use waterwheel::inspect::Inspect;
use waterwheel::reactor::Missed;

use super::browser::{LIMIT, STANDING, text};
use super::client::Program;
use super::own::look;

/// Stands between the page and its program, and can cut what is between them.
struct Between {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    program: SocketAddr,
    cuts: AtomicBool,
    is_over: AtomicBool,
    /// Requests that name the last event that the page has.
    returns: AtomicUsize,
}

impl Between {
    fn open(program: SocketAddr) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { program, cuts: false.into(), is_over: false.into(), returns: 0.into() };
        let state = Arc::new(state);
        let shared = state.clone();
        thread::spawn(move || {
            for page in listener.incoming() {
                let Ok(page) = page else { return };
                if shared.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(program) = TcpStream::connect(shared.program) else { return };
                let (state, ends) = (shared.clone(), [&page, &program].map(TcpStream::try_clone));
                let [Ok(to_page), Ok(from_program)] = ends else { return };
                thread::spawn(move || forth(page, program, address, &state));
                let state = shared.clone();
                thread::spawn(move || back(from_program, to_page, &state));
            }
        });
        Between { address, state }
    }

    /// Passes on half of what comes next from the program, and cuts there: most of the time within
    /// an event.
    fn cut(&self) {
        self.state.cuts.store(true, Ordering::Relaxed);
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Requests, as if they were for the program's own address: it answers to no other.
fn forth(mut page: TcpStream, mut program: TcpStream, ours: SocketAddr, state: &State) {
    let mut buffer = [0; 1 << 16];
    while let Ok(count @ 1..) = page.read(&mut buffer) {
        let request = String::from_utf8_lossy(&buffer[..count]);
        if request.contains("\r\nLast-Event-ID: ") {
            state.returns.fetch_add(1, Ordering::Relaxed);
        }
        let request = request.replace(&ours.to_string(), &state.program.to_string());
        if program.write_all(request.as_bytes()).is_err() {
            break;
        }
    }
    let _ = program.shutdown(Shutdown::Both);
}

fn back(mut program: TcpStream, mut page: TcpStream, state: &State) {
    let mut buffer = [0; 1 << 16];
    while let Ok(count @ 1..) = program.read(&mut buffer) {
        let cuts = state.cuts.swap(false, Ordering::Relaxed);
        let passed = if cuts { count / 2 } else { count };
        if page.write_all(&buffer[..passed]).is_err() || cuts {
            break;
        }
    }
    [program, page].iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
}

/// True if each record of the page is the one after the one before it.
const WHOLE: &str =
    "waterwheel.tape.records.every((r, at, all) => !at || r.n === all[at - 1].n + 1)";

#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_that_was_cut_off_comes_back_and_lacks_no_record() {
    let _ceiling = ceiling(LIMIT);
    // Slow enough for a pause of some seconds: the program keeps 16,000 records for one that is late.
    let program = Program::of(Inspect::setup().control(), |reactor| {
        let often = Duration::from_millis(10);
        reactor.every(often, Missed::Skip, |reactor, count: &mut u64, _| {
            *count += 1;
            let late = reactor.after(Duration::from_millis(300), |_, _| {});
            if count.is_multiple_of(2) {
                reactor.cancel(late);
            }
            reactor.enqueue(Default::default(), |_, _| {});
        });
    });
    // While one page is open the records go on.
    let other = program.page();
    let between = Between::open(program.address());
    let url = program.url.replace(&program.address().to_string(), &between.address.to_string());
    let page = look(&Browser::start(), &url);
    for cut in 1..=3 {
        page.wait_for("waterwheel.tape.end > 50 && !waterwheel.view.lag");
        let first = page.evaluate("waterwheel.tape.records[0].n");
        between.cut();
        page.wait_for("waterwheel.state === 'ended'");
        page.wait_for("document.getElementById('say').textContent.includes('does not answer')");
        let seen = page.evaluate("waterwheel.tape.live.n");
        page.wait_for(&format!(
            "waterwheel.state === 'live' && waterwheel.tape.live.n > {seen} + 100"
        ));
        page.wait_for("document.getElementById('badge').textContent === '● live · running'");
        assert!(!text(&page, "say").contains("does not answer"), "cut {cut}");
        assert_eq!(page.evaluate("waterwheel.tape.records[0].n"), first, "it has what it had");
        assert_eq!(page.evaluate("waterwheel.data.chapters.length"), 1, "it goes on");
        assert_eq!(page.evaluate(WHOLE), true, "cut {cut}");
        assert_eq!(page.evaluate("waterwheel.tape.dropped"), 0, "cut {cut}");
        assert_eq!(between.state.returns.load(Ordering::Relaxed), cut, "it says what it has");
    }
    // The fold is what the loop says of itself.
    program.command(json!({ "do": "step", "what": "event" }));
    page.wait_for(STANDING);
    assert_eq!(page.evaluate("waterwheel.data.differs"), "");
    let both = page.wait_for(
        "(() => { const key = tape.lines.findLast(line => line.name === 'key').text; \
         return JSON.parse(key).sequence === waterwheel.view.fold.n && [key, dump()]; })()",
    );
    let [loops, pages] =
        [0, 1].map(|at| serde_json::from_str::<Value>(both[at].as_str().unwrap()).unwrap());
    for part in ["sequence", "turn", "hand", "sources", "lanes", "deferred"] {
        assert_eq!(pages[part], loops[part], "{part}");
    }
    assert!(loops["totals"]["timers"].as_u64() > Some(1));
    // What a browser itself writes of a stream that was cut is no fault of the page.
    let problems = page.problems();
    let is_ours = |problem: &&String| !problem.contains("net::ERR_");
    assert_eq!(problems.iter().find(is_ours), None);
    drop(other);
    program.end();
}

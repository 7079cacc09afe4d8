//! The live page of a program of one's own, in a browser: steps, the fold, the end, a flood.

use std::time::Duration;

use serde_json::{Value, json};
use support::browser::{Browser, Page};
use support::{Rng, ceiling};
use waterwheel::inspect::Inspect;
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor};

use super::browser::{LIMIT, STANDING, text};
use super::client::Program;

/// A page that shows a program of one's own, at once.
pub fn look(browser: &Browser, url: &str) -> Page {
    let page = browser.blank();
    page.size(1280, 800);
    page.media(false, true);
    page.go(url);
    page.wait_for("waterwheel.tape?.end > 0");
    page
}

#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_steps_to_the_chip_that_it_has_marked_and_back_to_what_was_seen() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::of(Inspect::setup().control(), |reactor| {
        reactor.every(Duration::from_millis(1), Missed::Skip, |reactor, count: &mut u64, _| {
            *count += 1;
            reactor.enqueue(Default::default(), |_, _| {});
            reactor.defer(|reactor, _| reactor.enqueue(Default::default(), |_, _| {}));
        });
    });
    let page = look(&Browser::start(), &program.url);
    page.press(" ");
    page.wait_for("waterwheel.data.loop.mode === 'stopped'");
    // If that was while it slept, its time stands as well; a step brings it to a callback.
    program.command(json!({ "do": "step", "what": "event" }));
    page.wait_for(STANDING);
    // It stands, and the page's own loop goes on: a timer is armed at the gate, within this turn.
    let turn = page.evaluate("waterwheel.view.fold.turn");
    page.click("#faults button");
    page.wait_for(
        "waterwheel.view.fold.wheel.timers.size === 2 && document.getElementById('pane').of",
    );
    page.evaluate("new Promise(done => setTimeout(done, 300))"); // So long it must stand.
    assert_eq!(page.evaluate("waterwheel.view.fold.turn"), turn);
    assert_the_wheel_shows_each_timer(&page);

    let picture = "['phases', 'until', 'say', 'lanes', 'next', 'now', 'code', 'did', 'pane']\
                   .map(id => document.getElementById(id).outerHTML).join()";
    for step in 0..12 {
        let marked = "document.querySelector('.chip.next')?.chip.id";
        let next = page.wait_for(&format!("{STANDING} && {marked}"));
        let at = page.evaluate("waterwheel.tape.end");
        page.press("ArrowRight");
        page.wait_for(&format!("waterwheel.tape.end > {at} && {STANDING} && {marked}"));
        let ran = page.evaluate(&format!(
            "tape.records.slice({at} - tape.from).filter(r => GATED.has(r.kind)).map(r => r.n)"
        ));
        assert_eq!(ran.as_array().unwrap().len(), 1, "step {step}: one callback");
        assert_eq!(page.evaluate("waterwheel.view.fold.was.chip.id"), next, "step {step}");
    }
    page.press("ArrowLeft");
    let drawn = "!waterwheel.view.changed && new Promise(requestAnimationFrame)";
    page.wait_for(drawn);
    let before = page.evaluate(picture);
    for (there, back) in [("ArrowLeft", "ArrowRight"), ("Shift+ArrowLeft", ""), (",", ".")] {
        let at = page.evaluate("waterwheel.view.at");
        page.press(there);
        page.wait_for(&format!("waterwheel.view.at < {at} && {drawn}"));
        assert_ne!(page.evaluate(picture), before, "{there}");
        match back {
            "" => drop(page.evaluate(&format!("waterwheel.view.look({at})"))),
            back => page.press(back),
        }
        page.wait_for(&format!("waterwheel.view.at === {at} && {drawn}"));
        assert_eq!(page.evaluate(picture), before, "{there} and back");
    }
    page.press("End");
    page.wait_for("waterwheel.view.follow");
    assert_eq!(page.evaluate("waterwheel.differs"), false);
    assert_eq!(page.problems(), [""; 0]);
    program.end();
}

/// Where each timer is, by the header of `timers/wheel.rs`: its level is the highest digit in base 64
/// in which its deadline differs from the hand.
fn assert_the_wheel_shows_each_timer(page: &Page) {
    page.wait_for("document.querySelectorAll('#pane tbody tr').length === 2");
    let key: Value = serde_json::from_str(page.evaluate("dump()").as_str().unwrap()).unwrap();
    let hand = key["hand"].as_u64().unwrap();
    for timer in key["timers"].as_array().unwrap().iter().filter(|timer| timer[5] == false) {
        let deadline = timer[2].as_u64().unwrap();
        let digit = |tick: u64, level: u32| tick / 64u64.pow(level) % 64;
        let level = (0..6).rev().find(|level| digit(deadline, *level) != digit(hand, *level));
        let (level, slot) = (level.unwrap_or(0), digit(deadline, level.unwrap_or(0)));
        let cell = format!("document.querySelectorAll('.ring')[{level}].children[{}]", slot + 1);
        let shown = page.evaluate(&format!("{cell}.textContent"));
        assert!(shown != "", "{key}: nothing at ring {level}, slot {slot}");
        let row = format!("ring {level}, slot {slot}");
        let rows = text(page, "pane");
        assert!(rows.contains(&row), "{row}: {rows}");
    }
}

/// The page's fold, in JavaScript, against the loop's own snapshots.
#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_folds_the_records_into_what_the_loop_says_it_is() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::of(Inspect::setup().control(), talk);
    let page = look(&Browser::start(), &program.url);
    let mut rng = Rng::new();
    for round in 0..300 {
        let command = match rng.below(8) {
            0 => json!({ "do": "run" }),
            1 => json!({ "do": "stop" }),
            2..=4 => json!({ "do": "step", "what": "event" }),
            5 => json!({ "do": "step", "what": "turn" }),
            6 => json!({ "do": "timer", "ms": rng.below(300_000) }),
            _ => json!({ "do": "timer", "ms": rng.below(70) }),
        };
        assert_eq!(program.command(command.clone()).0, 204, "{round}: {command}");
        if round % 25 == 24 {
            // A step, as a loop that is stopped while it sleeps has no time and no timers.
            program.command(json!({ "do": "step", "what": "event" }));
            page.wait_for(STANDING);
            assert_eq!(page.evaluate("waterwheel.data.differs"), "", "after {round} commands");
            let both = page.wait_for(
                "(() => { const key = tape.lines.findLast(line => line.name === 'key').text; \
                 return JSON.parse(key).sequence === waterwheel.view.fold.n && [key, dump()]; })()",
            );
            let [loops, mut pages] = [&both[0], &both[1]]
                .map(|text| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap());
            for timer in pages["timers"].as_array_mut().unwrap() {
                timer.as_array_mut().unwrap().truncate(6); // That it repeats, the page alone knows.
            }
            let parts = ["sequence", "turn", "hand", "sources", "timers", "lanes", "deferred"];
            for part in parts {
                assert_eq!(pages[part], loops[part], "{part} after {round} commands");
            }
        }
    }
    assert_eq!(page.problems(), [""; 0]);
    program.end();
}

/// Connections to itself that come, talk and go, timers of several kinds, and calls in each lane.
pub fn talk(reactor: &mut Context<u64>) {
    use waterwheel::net::{Event, tcp};
    use waterwheel::reactor::Priority;
    let listener = tcp::listen(reactor, "127.0.0.1:0", |reactor, _: &mut u64, stream| {
        stream.open(reactor, |reactor, _, conn, event| {
            if let Event::Data(bytes) = event {
                let _ = conn.write(reactor, bytes);
                reactor.defer(|_, _| {});
                reactor.enqueue(Priority::Low, |_, _| {});
            }
        });
    });
    let address = listener.and_then(|id| id.local_addr(reactor)).unwrap();
    let often = Duration::from_millis(7);
    reactor.every(often, Missed::Skip, move |reactor, count: &mut u64, _| {
        *count += 1;
        let patience = Duration::from_secs(5);
        let _ = tcp::connect(reactor, address, patience, |reactor, _, stream| {
            let Ok(stream) = stream else { return };
            let conn = stream.open(reactor, |reactor, _, conn, event| {
                if let Event::Data(_) = event {
                    conn.close(reactor);
                }
            });
            let _ = conn.write(reactor, b"hello");
        });
        let once = reactor.after(Duration::from_millis(90), |_, _| {});
        if count.is_multiple_of(3) {
            reactor.cancel(once);
        }
        reactor.enqueue(Priority::High, |_, _| {});
    });
}

#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_says_why_run_has_returned_and_shows_the_next_loop() {
    let _ceiling = ceiling(LIMIT);
    let inspect = Inspect::setup().quiet().control().open("127.0.0.1:0").unwrap();
    let browser = Browser::start();
    let page = browser.open(&inspect.url());
    for count in 1..=2 {
        let (go, gone) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut reactor = inspect.watch(Reactor::<u64>::builder()).unwrap();
                let remote = reactor.remote();
                std::thread::spawn(move || {
                    let _ = gone.recv();
                    drop(remote); // And then nothing holds the loop.
                });
                reactor.run(&mut 0).unwrap();
            });
            page.wait_for(&format!(
                "waterwheel.data.chapters.length === {count} && tape?.copies.length && \
                 waterwheel.state === 'live'"
            ));
            go.send(()).unwrap();
            let say = "document.getElementById('say').textContent";
            page.wait_for(&format!("{say}.includes('run has returned')"));
        });
    }
    assert_eq!(page.problems(), [""; 0]);
}

#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_lives_through_a_flood_of_records() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::of(Inspect::setup().control(), |reactor| {
        fn again(reactor: &mut Context<u64>, count: &mut u64) {
            *count += 1;
            reactor.enqueue(Default::default(), again);
        }
        reactor.enqueue(Default::default(), again);
    });
    let page = look(&Browser::start(), &program.url);
    page.wait_for("/records dropped/.test(document.getElementById('badge').textContent)");
    page.wait_for("waterwheel.tape.end > 150000"); // As many as it keeps, and more.
    // In the best of some seconds: a machine that is busy with other things shows fewer.
    let second = "new Promise(done => { let frames = 0; const end = performance.now() + 1000; \
                  const count = now => { frames++; \
                  now > end ? done(frames) : requestAnimationFrame(count); }; \
                  requestAnimationFrame(count); })";
    let enough = (0..8).any(|_| page.evaluate(second).as_u64() >= Some(20));
    assert!(enough, "fewer than 20 frames a second");
    let heap = page.evaluate("performance.memory.usedJSHeapSize / 1e6").as_f64().unwrap();
    assert!(heap < 100.0, "{heap} MB");
    assert_eq!(page.problems(), [""; 0]);
    program.end();
}

//! The live page in a browser: what it shows, and what its keys and buttons do.
//!
//! The tests named `tour` are driven against that example, the others against a loop of their own.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use support::browser::{Browser, Page};
use support::process::{Process, example};
use support::{Rng, ceiling};
use waterwheel::inspect::Inspect;
use waterwheel::reactor::Missed;
use waterwheel::{Context, Reactor};

use super::client::Program;

pub const LIMIT: Duration = Duration::from_secs(60);

/// The tour, and a page that shows it.
pub struct Tour {
    pub page: Page,
    pub url: String,
    server: Process,
}

impl Tour {
    /// Begins with this scene. With less motion the page shows all at once.
    pub fn begin(browser: &Browser, scene: u32, is_calm: bool) -> Tour {
        let mut server = Process::start(example("tour").arg(scene.to_string()));
        let url = server.line().split_once(": ").expect("an address").1.to_owned();
        let page = browser.blank();
        page.size(1280, 800);
        page.media(false, is_calm);
        page.go(&url);
        page.wait_for("document.querySelectorAll('#peers input:not([hidden])').length === 3");
        let tour = Tour { page, url, server };
        // All three have connected, and the loop has nothing left to do.
        tour.until("tape.end === waterwheel.view.at && waterwheel.data.loop.asleep");
        tour
    }

    /// Begins another scene, or the same one anew, and waits until all three have connected.
    pub fn go_to(&self, scene: u64) {
        self.page.evaluate("window.before = waterwheel.tape");
        self.command(&json!({ "do": "scene", "n": scene }));
        self.until(&format!(
            "tape !== before && tape.scene === {scene} && tape.copies.length && \
             tape.world(1e9).length === 3 && tape.world(1e9).every(peer => peer.open) && \
             document.getElementById('title').textContent.startsWith('Scene {scene}:')"
        ));
    }

    fn until(&self, what: &str) {
        self.page.wait_for(&format!("waterwheel.tape && {what}"));
    }

    fn command(&self, command: &Value) {
        let status = self.page.evaluate(&format!(
            "fetch('ctl', {{ method: 'POST', headers: {{ 'Content-Type': 'application/json' }},
                             body: JSON.stringify({command}) }}).then(answer => answer.status)"
        ));
        assert_eq!(status, 204, "{command}");
    }

    fn say(&self, name: &str, text: &str) {
        self.command(&json!({ "do": "peer", "name": name, "act": "send", "text": text }));
    }
}

fn text(page: &Page, id: &str) -> String {
    let text = page.evaluate(&format!("document.getElementById('{id}').textContent"));
    text.as_str().expect("a text").to_owned()
}

/// A page that shows a program of one's own, at once.
fn look(browser: &Browser, program: &Program) -> Page {
    let page = browser.blank();
    page.size(1280, 800);
    page.media(false, true);
    page.go(&program.url);
    page.wait_for("waterwheel.tape?.end > 0");
    page
}

/// The loop stands before a callback, and the page shows that.
const STANDING: &str =
    "waterwheel.data.loop.standing && !waterwheel.view.lag && !waterwheel.view.changed";

#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_of_the_tour_reaches_its_question_though_nobody_touches_it() {
    let _ceiling = ceiling(LIMIT);
    let tour = Tour::begin(&Browser::start(), 1, false);
    let page = &tour.page;
    assert_eq!(page.evaluate("document.activeElement.ariaLabel"), "ann says");
    assert!(text(page, "say").ends_with("Now you: press Enter in Ann's box."));
    // Nobody does. So Ann says hello, and the page stops before it shows what becomes of it.
    page.wait_for("waterwheel.view.asking");
    page.wait_for("document.getElementById('question').className === 'asks'");
    assert!(text(page, "tray").contains("ann"), "her line is in the kernel");
    assert!(!text(page, "lanes").contains("ann"), "and not yet in the queue");
    assert_eq!(text(page, "badge"), "? waits for your answer");
    // A digit answers, though the cursor stands in her box.
    page.press("1");
    page.wait_for("document.querySelector('#answers .wrong')");
    assert!(text(page, "verdict").starts_with("No. "));
    assert!(text(page, "rule").starts_with("R1: "));
    page.wait_for("document.querySelector('#now .chip')?.textContent.includes('ann')");
    page.wait_for("document.querySelector('#peers').textContent.includes('hears: hello')");
    assert_eq!(page.problems(), [""; 0]);
    let requests = page.requests();
    assert!(requests.len() >= 3, "{requests:?}");
    assert!(requests.iter().all(|url| url.starts_with(&tour.url)), "{requests:?}");
}

#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_of_the_tour_answers_a_right_and_a_wrong_guess_in_each_scene() {
    let _ceiling = ceiling(LIMIT);
    let browser = Browser::start();
    let tour = Tour::begin(&browser, 1, true);
    let page = &tour.page;
    let scenes = page.evaluate("hello.scenes");
    for scene in scenes.as_array().expect("a list") {
        let (n, rule) = (&scene["n"], scene["rule"].as_str().unwrap());
        let right = scene["right"].as_u64().unwrap() as usize;
        let answers = scene["answers"].as_array().unwrap().len();
        for at in [right, (right + 1) % answers] {
            tour.go_to(n.as_u64().unwrap());
            page.evaluate("document.activeElement.blur()");
            page.press(&(at + 1).to_string());
            tour.until(&format!("waterwheel.tape.answer === {at}"));
            let wrong = scene["wrong"][at].as_str().unwrap();
            let verdict = if at == right { "Yes.".into() } else { format!("No. {wrong}") };
            let shown = "document.getElementById('verdict').textContent";
            page.wait_for(&format!("{shown} === {}", json!(verdict)));
            assert!(text(page, "rule").starts_with(&format!("{rule}: ")), "scene {n}");
        }
    }
    assert_eq!(page.problems(), [""; 0]);
}

#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_of_the_tour_is_driven_through_a_scene_by_keys_alone() {
    let _ceiling = ceiling(LIMIT);
    let tour = Tour::begin(&Browser::start(), 1, true);
    let page = &tour.page;
    let tab_to = |label: &str| {
        let focus = "(document.activeElement.ariaLabel || document.activeElement.textContent)";
        for _ in 0..200 {
            page.press("Tab");
            if page.evaluate(focus).as_str().is_some_and(|found| found.starts_with(label)) {
                return;
            }
        }
        panic!("Tab never comes to {label:?}");
    };
    page.press("Escape"); // Out of Ann's box.
    page.press("s");
    tab_to("3 · ");
    page.press("Enter");
    tour.until(
        "waterwheel.tape.scene === 3 && waterwheel.tape.world(1e9).every(peer => peer.open)",
    );
    tour.until("waterwheel.data.loop.asleep");
    page.press(" ");
    tour.until("waterwheel.data.loop.mode === 'stopped'");
    page.wait_for("document.getElementById('say').textContent.includes('You have stopped it')");
    for name in ["ann", "bob"] {
        tab_to(&format!("{name} says"));
        page.press("x");
        page.press("Enter");
        if name == "ann" {
            tour.until("waterwheel.data.loop.standing");
        }
    }
    page.press("Escape");
    page.wait_for("!waterwheel.view.lag && waterwheel.view.fold.next()");
    page.press("ArrowRight");
    page.wait_for(&format!("waterwheel.view.fold.deferred.length && {STANDING}"));
    page.press("3");
    page.wait_for("document.querySelector('#answers .right')");
    assert_eq!(text(page, "verdict"), "Yes.");
    page.wait_for("document.querySelectorAll('#proof button').length === 2");
    page.press(" ");
    // Bob's line has come while the loop stood in Ann's turn, so it belongs to the next: there, lane
    // High is first, and I/O before timers.
    let order = "tape.records.filter(r => GATED.has(r.kind) && !isOwn(r.place)).slice(-4)\
                 .map(r => r.kind).join()";
    page.wait_for(&format!("{order} === 'RunDeferred,RunEnqueued,RunSource,RunTimer'"));
    page.wait_for("document.querySelectorAll('#marks .call').length > 3");
    assert!(text(page, "marks").contains("★ ◆ deferred"));
    assert_eq!(page.problems(), [""; 0]);
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
    let page = look(&Browser::start(), &program);
    page.press(" ");
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
    let page = look(&Browser::start(), &program);
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
fn talk(reactor: &mut Context<u64>) {
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
fn page_of_the_tour_lives_while_the_loop_is_blocked_and_after_it_is_gone() {
    let _ceiling = ceiling(LIMIT);
    let browser = Browser::start();
    let tour = Tour::begin(&browser, 3, true);
    let page = &tour.page;
    page.click("#faults button:nth-of-type(2)"); // For 2 s.
    page.wait_for("document.getElementById('now').textContent.match(/rs:\\d+ has been running/)");
    tour.say("bob", "are you there?");
    page.wait_for("waterwheel.data.loop.now?.[1] > 1000");
    assert!(!text(page, "peers").contains("are you there?"), "a loop that computes serves nobody");
    page.wait_for("document.getElementById('peers').textContent.includes('are you there?')");
    page.click("#tab");
    let found = "document.getElementById('instruments').textContent";
    page.wait_for(&format!("/slow callback/i.test({found}) && /\\w\\.rs:\\d+/.test({found})"));
    page.click("#tab");
    assert_eq!(page.problems(), [""; 0]);

    // The program is killed. What the page has seen, it keeps, shows and saves.
    let Tour { page, server, .. } = tour;
    drop(server);
    page.wait_for("waterwheel.state === 'ended'");
    page.wait_for("document.getElementById('say').textContent.includes('does not answer')");
    let saved = page.evaluate(
        "new Promise(done => { const url = URL.createObjectURL; URL.createObjectURL = blob => \
         { blob.text().then(done); return url(blob); }; document.getElementById('save').click(); })",
    );
    let file = std::env::temp_dir().join(format!("waterwheel-{}.html", std::process::id()));
    fs::write(&file, saved.as_str().unwrap()).unwrap();
    let dump = page.evaluate("dump()");
    let copy = browser.open(&format!("file://{}#scene=3&at=1", file.display()));
    copy.wait_for("waterwheel.state === 'recording' && waterwheel.tape.end > 20");
    let at = copy.evaluate("waterwheel.view.at");
    copy.press("ArrowRight");
    copy.wait_for(&format!("waterwheel.view.at > {at}"));
    copy.press("End");
    copy.wait_for("!waterwheel.view.lag");
    assert_eq!(copy.evaluate("dump()"), dump, "the end of the recording is what was seen last");
    assert_eq!((copy.problems(), copy.requests()), (vec![], vec![]));
    fs::remove_file(file).unwrap();
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
    let page = look(&Browser::start(), &program);
    page.wait_for("/records dropped/.test(document.getElementById('badge').textContent)");
    page.wait_for("waterwheel.tape.end > 150000"); // As many as it keeps, and more.
    // In the best of some seconds: a machine that is busy with other things shows fewer.
    let second = "new Promise(done => { let frames = 0; const end = performance.now() + 1000; \
                  const count = now => { frames++; \
                  now > end ? done(frames) : requestAnimationFrame(count); }; \
                  requestAnimationFrame(count); })";
    let frames: Vec<_> = (0..6).map(|_| page.evaluate(second).as_u64().unwrap()).collect();
    assert!(frames.iter().any(|frames| *frames >= 20), "{frames:?} frames a second");
    let heap = page.evaluate("performance.memory.usedJSHeapSize / 1e6").as_f64().unwrap();
    assert!(heap < 100.0, "{heap} MB");
    assert_eq!(page.problems(), [""; 0]);
    program.end();
}

//! The live page in a browser: what it shows, and what its keys and buttons do.
//!
//! Against the real tour; `own.rs` shows loops of the tests' own.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use support::browser::{Browser, Page};
use support::process::{Process, example};
use support::{ceiling, home};

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

pub fn text(page: &Page, id: &str) -> String {
    let text = page.evaluate(&format!("document.getElementById('{id}').textContent"));
    text.as_str().expect("a text").to_owned()
}

/// The loop stands before a callback, and the page shows that.
pub const STANDING: &str =
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
fn page_that_was_saved_of_a_scene_asks_its_question_without_a_server() {
    let _ceiling = ceiling(LIMIT);
    let file = home().join("inspect/scene-3.html");
    assert!(fs::metadata(&file).unwrap().len() <= 250_000);
    let page = Browser::start().blank();
    page.media(false, true);
    page.go(&format!("file://{}", file.display()));
    page.wait_for("waterwheel.state === 'recording'");
    (0..4).for_each(|_| page.press("+")); // As fast as it was.
    page.press(" ");
    page.wait_for("waterwheel.view.asking && document.querySelector('#question.asks')");
    page.press("3");
    page.wait_for("document.getElementById('verdict').textContent === 'Yes.'");
    page.wait_for("document.querySelector('#now .chip')?.textContent.includes('deferred')");
    assert_eq!((page.problems(), page.requests()), (vec![], vec![]));
}

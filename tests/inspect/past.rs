//! The past in the page: how long a step back takes if there is much, and which callbacks were slow.

use std::time::{Duration, Instant};

use support::browser::Browser;
use support::ceiling;
use waterwheel::Context;
use waterwheel::inspect::Inspect;
use waterwheel::reactor::{Missed, Priority};

use super::browser::LIMIT;
use super::client::Program;
use super::own::{look, talk};

/// A loop with much in it: 2,000 timers, some of which are armed anew all the time, calls in each
/// lane, and connections that come, talk and go.
fn crowd(reactor: &mut Context<u64>) {
    talk(reactor);
    let timers: Vec<_> =
        (0..2000).map(|n| reactor.after(Duration::from_secs(60 + n), |_, _| {})).collect();
    let often = Duration::from_millis(2);
    reactor.every(often, Missed::Skip, move |reactor, count: &mut u64, _| {
        for n in 0..10 {
            let timer = timers[(*count as usize * 7 + n) % timers.len()];
            reactor.rearm(timer, Duration::from_secs(90));
            reactor.enqueue(Priority::Low, |reactor, _| reactor.defer(|_, _| {}));
        }
        *count += 1;
    });
}

/// What steps back cost, in milliseconds: to find the state, and to show it as well. Each step is done
/// three times, and the least counts, as the machine does other things, too.
const STEPS: &str = r"
(async () => {
    const found = [], shown = [];
    let at = tape.end;
    for (let step = 0; step < 80; step++) {
        let least = [Infinity, Infinity];
        for (let time = 0; time < 3; time++) {
            view.look(at);
            draw();
            document.body.offsetHeight;
            const begin = performance.now();
            back('isStop');
            const middle = performance.now();
            draw();
            document.body.offsetHeight;
            least = [middle, performance.now()].map((end, n) => Math.min(least[n], end - begin));
        }
        found.push(least[0]);
        shown.push(least[1]);
        if (step % 2) at = 1 + Math.floor(tape.end * (step * 0.618 % 1)); // Far away,
        else at = view.at; // or one more.
        if (step % 10 === 9) await new Promise(done => setTimeout(done));
    }
    return [found, shown].map(times => {
        times.sort((a, b) => a - b);
        return [0.5, 0.95, 0.99, 1].map(part => times[Math.ceil(part * times.length) - 1]);
    });
})()";

/// What steps back may cost, in milliseconds, on a machine that has much else to do: the state, in 95
/// of 100; and with it drawn and laid out, in half of them: the page draws 30 times a second at most.
const FOUND_MS_MAX: f64 = 4.0;
const SHOWN_MS_MAX: f64 = 33.0;

#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_goes_back_within_a_drawing_however_much_there_is() {
    let _ceiling = ceiling(LIMIT);
    let program = Program::of(Inspect::setup().control(), crowd);
    let page = look(&Browser::start(), &program.url);
    page.wait_for("waterwheel.tape.end > 20000");
    page.press(" ");
    page.wait_for("waterwheel.data.loop.mode === 'stopped' && !waterwheel.view.lag");
    for pane in ["wheel", "alive"] {
        page.evaluate(&format!("pane = '{pane}'"));
        let times = page.evaluate(STEPS);
        println!("{pane}: median, 95 %, 99 % and most, in ms: found and shown {times}");
        assert!(times[0][1].as_f64() <= Some(FOUND_MS_MAX), "{pane}: {times}");
        assert!(times[1][0].as_f64() <= Some(SHOWN_MS_MAX), "{pane}: {times}");
    }
    assert_eq!(page.problems(), [""; 0]);
    program.end();
}

#[test]
#[ignore = "wants chromium: cargo test --all-features --test inspect -- --ignored page"]
fn page_lists_the_slowest_callbacks_with_what_waited_behind_them() {
    let _ceiling = ceiling(LIMIT);
    fn compute(ms: u64) {
        let end = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < end {}
    }
    let program = Program::of(Inspect::setup().control(), |reactor| {
        reactor.every(Duration::from_millis(400), Missed::Skip, |reactor, _, _| {
            reactor.enqueue(Priority::High, |_, _| compute(60));
            reactor.enqueue(Priority::Normal, |reactor, _| {
                reactor.defer(|_, _| {});
                compute(30);
            });
            reactor.enqueue(Priority::Low, |_, _| {});
        });
    });
    // The lines of the calls above.
    let (high, normal) = (line!() - 9, line!() - 8);
    let page = look(&Browser::start(), &program.url);
    page.press("i");
    page.wait_for("document.querySelector('#instruments h2')");
    let rows = "[...[...document.querySelectorAll('#instruments h2')] \
                .find(head => head.textContent === 'The slowest callbacks').parentNode \
                .querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))";
    let place = |line: u32| format!("past.rs:{line}");
    let has = |line: u32, behind: &str| {
        let is_it = format!("place === '{}' && behind === '{behind}'", place(line));
        page.wait_for(&format!("{rows}.find(([place, , behind]) => {is_it})"));
    };
    has(high, &format!("2 callbacks, first {}", place(normal)));
    // What is deferred comes before all that waits.
    has(normal, &format!("2 callbacks, first {}", place(normal + 1)));
    let times = page.evaluate(&format!("{rows}.map(([, time]) => time)"));
    assert!(times[0].as_str().is_some_and(|time| time.ends_with(" ms")), "{times}");
    page.wait_for("waterwheel.tape.live.turn > 12");
    let count = page.evaluate(&format!("{rows}.length"));
    assert!(count.as_u64() <= Some(10), "{count}");
    assert_eq!(page.problems(), [""; 0]);
    program.end();
}

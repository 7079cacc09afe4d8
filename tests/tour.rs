//! The tour's scenes without a page: each is played, and its records prove the right answer and no
//! other.
//!
//! The clients are real, on this machine; time is not. It stands still until the loop has nothing
//! else to do, and then moves to the next deadline.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use support::{ceiling, home};
use waterwheel::inspect::Record;
use waterwheel::net::Limits;
use waterwheel::reactor::{DEFERRED_PER_TURN, Kind};

use people::NAMES;
use scene::ALL;
use stage::{Client, Stage, set_small};

#[allow(dead_code)] // All of these belong to the program, and not to its tests alone.
#[path = "../examples/tour/people.rs"]
mod people;
#[allow(dead_code)]
#[path = "../examples/tour/proof.rs"]
mod proof;
#[allow(dead_code)]
#[path = "../examples/tour/room.rs"]
mod room;
#[allow(dead_code)]
#[path = "../examples/tour/scene.rs"]
mod scene;
#[allow(dead_code)]
#[path = "../examples/tour/world.rs"]
mod world;

#[path = "tour/program.rs"]
mod program;
#[path = "tour/stage.rs"]
mod stage;
#[path = "tour/wrong.rs"]
mod wrong;

/// How often an experiment is repeated whose lines have not arrived together: the kernel may need a
/// moment to hand them over.
const ATTEMPTS: usize = 5;

/// Plays a scene. Its records prove the right answer and no other, also without those of the time
/// before: a page that was opened late does not have them.
fn prove(number: usize) -> Stage {
    let _ceiling = ceiling(Duration::from_secs(60));
    for attempt in 1.. {
        let mut stage = Stage::begin(number);
        set_small(&stage);
        let begin = stage.records.len();
        stage.play();
        let scene = stage.scene;
        let Some([first, second]) = scene.proof(&stage.records) else {
            assert!(attempt < ATTEMPTS, "{}: nothing proves the right answer", scene.title);
            continue;
        };
        assert!(first < second, "{}: {first} {second}", scene.title);
        let late = &stage.records[begin..];
        assert_eq!(scene.proof(late), Some([first, second]), "{}", scene.title);
        for (at, answer) in scene.answers.iter().enumerate() {
            let proves = |records: &[Record]| (answer.proof)(records).is_some();
            let is_right = at == scene.right();
            assert_eq!(proves(&stage.records), is_right, "{}: {}", scene.title, answer.text);
        }
        assert!(!stage.is_task_done(), "{}: the task is the reader's", scene.title);
        return stage;
    }
    unreachable!()
}

#[test]
fn scene_1_an_event_is_queued_before_a_callback_runs() {
    let mut stage = prove(1);
    assert_eq!(stage.person("bob").text(), "hello\n");
    attempt(1, |stage| {
        stage.say("ann", "stand here");
        stage.until_received();
        stage.say("bob", "one");
        stage.say("cleo", "two");
    });
}

#[test]
fn scene_2_three_lines_are_one_turn_and_one_callback_at_a_time() {
    let mut stage = prove(2);
    assert_eq!(stage.person("ann").text(), "two\nthree\n", "the kernel's order");
    attempt(2, |stage| ["cleo", "ann", "bob"].iter().for_each(|name| stage.say(name, "x")));
}

/// They have connected together, and their events were in one batch for that.
#[test]
fn scene_2_lines_that_come_one_after_another_prove_nothing() {
    let mut stage = Stage::set_up(2);
    stage.people.extend(NAMES.map(|_| Client::connect(stage.address)));
    stage.until(|stage| stage.room.members.len() == NAMES.len());
    stage.go_on();
    let batches = stage.records.iter().filter(|record| record.kind == Kind::Dispatch);
    assert!(batches.map(|batch| batch.argument).max() >= Some(3));
    for name in ["cleo", "ann", "bob"] {
        stage.say(name, "x");
        stage.until_received();
    }
    assert!(stage.scene.answers.iter().all(|answer| (answer.proof)(&stage.records).is_none()));
    assert!(!stage.is_task_done());
}

#[test]
fn scene_3_a_deferred_callback_runs_before_what_waits() {
    let mut stage = prove(3);
    assert_eq!(stage.person("bob").text(), "deferred\nhello\nenqueued\ntimer of 0 ms\n");
    let mut stage = Stage::begin(3);
    stage.knobs.set("lane", Some(2)).unwrap();
    stage.say("ann", "soon");
    stage.go_on();
    let low = "deferred\ntimer of 0 ms\nenqueued\n";
    assert_eq!(stage.person("bob").text(), low, "lane Low comes behind the timer's");
    attempt(3, |stage| ["bob", "ann"].iter().for_each(|name| stage.say(name, "x")));
}

#[test]
fn scene_4_a_slow_reader_has_a_full_outbox_and_delays_nobody() {
    let mut stage = prove(4);
    assert!(stage.person("ann").text().contains("refused: an outbox is full\n"));
    let Limits { outbox_bytes_high, outbox_bytes_max, .. } = Limits::default();
    assert_eq!((outbox_bytes_high, outbox_bytes_max), (256 << 10, 4 << 20), "as the words say");
    stage.until(|stage| stage.people[2].got.len() == 16 << 20); // Cleo has got everything.
    assert!(stage.person("bob").got.is_empty());
    stage.person("bob").holds = false;
    stage.until(Stage::is_task_done);
    stage.go_on();
    let got = stage.person("bob").got.len();
    assert!((4 << 20..16 << 20).contains(&got), "what was not refused: {got}");
}

#[test]
fn scene_5_a_level_is_a_digit_and_not_a_distance() {
    let mut stage = prove(5);
    assert_eq!(stage.person("bob").text(), "timer 127\ntimer 130\ntimer 190\n");
    let level = |hand, deadline| proof::level(hand, deadline);
    assert_eq!([level(70, 127), level(70, 130), level(70, 200)], [0, 1, 1]);
    assert_eq!([level(0, 63), level(0, 64), level(130, 190), level(7, 7)], [0, 1, 0, 0]);
    attempt(5, |stage| {
        stage.knobs.set("delay_ms", Some(5000)).unwrap();
        stage.say("ann", "again");
    });
}

#[test]
fn scene_6_after_a_long_callback_the_lines_come_before_the_timer() {
    let mut stage = prove(6);
    assert_eq!(stage.person("bob").text(), "in time\ntimer of 100 ms\n", "he is not cut off");
    assert!(stage.person("bob").stream.is_some());
    attempt(6, |stage| stage.say("ann", "compute"));
    let mut stage = Stage::begin(6);
    stage.say("ann", "compute");
    stage.go_on();
    assert!(stage.person("bob").stream.is_none(), "he has said nothing");
}

#[test]
fn scene_7_a_chain_of_deferred_callbacks_lets_the_others_in() {
    let mut stage = prove(7);
    let text = format!("{DEFERRED_PER_TURN} callbacks have run before this one\n");
    assert_eq!(stage.person("ann").text(), text);
    attempt(7, |stage| {
        stage.say("bob", "enqueue");
        stage.until_received();
        for _ in 0..5 {
            stage.turn();
        }
        stage.say("ann", "hello");
    });
}

#[test]
fn scene_8_a_stale_event_reaches_nobody() {
    let mut stage = prove(8);
    assert!(stage.person("bob").stream.is_none() && stage.person("cleo").stream.is_some());
    assert_eq!(stage.person("cleo").text(), "", "not what Bob has said");
    assert_eq!(stage.reactor.statistics().stale, 1);
    let mut stage = attempt(8, |stage| {
        ["ann", "cleo"].iter().for_each(|name| stage.say(name, "mine"));
    });
    assert_eq!(stage.person("cleo").text(), "mine\n", "the event was dropped, the bytes were not");
}

#[test]
fn scene_9_the_result_of_a_worker_comes_behind_the_lines() {
    let mut stage = prove(9);
    let is_hash = |text: String| u64::from_str_radix(text.trim(), 16).is_ok();
    assert!(is_hash(stage.person("bob").text()) && is_hash(stage.person("ann").text()));
    // Cleo's line is there when the worker is done: the loop collects both in one turn.
    attempt(9, |stage| {
        stage.say("bob", "a password");
        stage.until_received();
        while stage.reactor.next_wait() != Some(Duration::ZERO) {
            std::thread::yield_now();
        }
        stage.say("cleo", "hello");
    });
}

#[test]
fn scene_10_a_timer_holds_the_loop_until_unref() {
    let mut stage = prove(10);
    assert!(stage.people.iter_mut().all(|person| person.stream.is_none()));
    let why = stage.reactor.why_alive();
    let line = "examples/tour/scenes/why_wont_it_end.rs:";
    assert!(why.len() == 1 && why[0].to_string().replace('\\', "/").contains(line), "{why:?}");
    (stage.scene.acts[0].run)(&mut stage.reactor, &mut stage.room);
    stage.turn();
    assert!(stage.is_task_done());
    assert!(!stage.reactor.is_alive(), "run returns");
    assert_eq!(stage.reactor.timers(), 1, "although it is armed");
}

/// Does the task of a scene; the records then show that.
fn attempt(number: usize, task: impl Fn(&mut Stage)) -> Stage {
    for attempt in 1.. {
        let mut stage = Stage::begin(number);
        set_small(&stage);
        task(&mut stage);
        stage.go_on();
        if stage.is_task_done() {
            return stage;
        }
        assert!(attempt < ATTEMPTS, "{}: the task is not done", stage.scene.title);
    }
    unreachable!()
}

#[test]
fn a_scene_in_which_nobody_does_anything_proves_nothing() {
    let _ceiling = ceiling(Duration::from_secs(60));
    for number in 1..=ALL.len() {
        let mut stage = Stage::begin(number);
        stage.go_on();
        assert!(stage.records.len() > 20);
        // As they come: a page looks again and again.
        for until in cuts(stage.records.len()) {
            let records = &stage.records[..until];
            let proved =
                stage.scene.answers.iter().find(|answer| (answer.proof)(records).is_some());
            assert!(proved.is_none(), "{}: {}", stage.scene.title, proved.unwrap().text);
            assert!(!(stage.scene.task.is_done)(records), "{}", stage.scene.title);
        }
    }
}

/// Some places in a list of this length, and its end.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(length / 50 + 1).chain([length])
}

/// The ring has forgotten the oldest records, or the latest are still to come.
#[test]
fn a_part_of_the_records_is_no_reason_to_panic() {
    let _ceiling = ceiling(Duration::from_secs(60));
    for number in 1..=ALL.len() {
        let mut stage = Stage::begin(number);
        set_small(&stage);
        stage.play();
        for from in cuts(stage.records.len()) {
            for until in cuts(stage.records.len()).filter(|until| *until >= from).step_by(5) {
                let part = &stage.records[from..until];
                for answer in stage.scene.answers {
                    let _ = (answer.proof)(part);
                }
                (stage.scene.task.is_done)(part);
            }
        }
    }
}

/// People who come and go have not done what a scene asks for, either.
#[test]
fn somebody_who_goes_and_comes_again_proves_nothing() {
    let _ceiling = ceiling(Duration::from_secs(60));
    for number in 1..=ALL.len() {
        let mut stage = Stage::begin(number);
        stage.person("bob").stream = None;
        stage.until(|stage| stage.room.members.len() == 2);
        *stage.person("bob") = Client::connect(stage.address);
        stage.go_on();
        assert_eq!(stage.scene.proof(&stage.records), None, "{}", stage.scene.title);
        assert!(!stage.is_task_done(), "{}", stage.scene.title);
    }
}

#[test]
fn each_scene_is_a_program_of_15_to_40_lines_and_the_page_gets_all_of_it() {
    let scenes = scene::all_as_json();
    assert_eq!(scenes.as_array().unwrap().len(), 10);
    for (scene, shown) in ALL.iter().zip(scenes.as_array().unwrap()) {
        let text = fs::read_to_string(home().join(scene.code.file)).unwrap();
        assert_eq!(text, scene.code.text);
        assert_eq!(shown["file"], scene.code.file);
        let lines = text.lines().count();
        assert!((15..=40).contains(&lines), "{} has {lines} lines", scene.code.file);
        assert!(text.starts_with("//! ") && text.lines().all(|line| line.len() <= 100));
    }
    let titles: BTreeSet<_> = ALL.iter().map(|scene| scene.title).collect();
    assert_eq!(titles.len(), ALL.len());
}

#[test]
fn each_wrong_answer_has_its_reason_and_each_text_is_made_of_sentences() {
    for scene in ALL {
        let right = scene.answers.iter().filter(|answer| answer.wrong.is_empty());
        assert_eq!(right.count(), 1, "{}", scene.title);
        assert!((3..=4).contains(&scene.answers.len()) && (1..=9).contains(&scene.minutes));
        let answers = scene.answers.iter().flat_map(|answer| [answer.text, answer.wrong]);
        let texts = [scene.intro, scene.watch, scene.question, scene.rule.text, scene.task.text];
        for text in answers.chain(texts).filter(|text| !text.is_empty()) {
            let is_ended = text.ends_with(['.', '?']);
            assert!(is_ended && !text.contains("  ") && !text.contains('\n'), "{text:?}");
        }
        for knob in scene.knobs {
            assert!((knob.min..=knob.max).contains(&knob.value), "{}", knob.name);
        }
        for line in scene.lines {
            assert!(NAMES.contains(&line.name));
        }
    }
}

/// The words of a head, without its marks: code, emphasis, and where a link leads.
fn plain(text: &str) -> String {
    let head = text.lines().map_while(|line| line.strip_prefix("//!"));
    let mut text = head.collect::<Vec<_>>().join(" ");
    while let Some(at) = text.find("](") {
        let end = at + text[at..].find(')').unwrap();
        text.replace_range(at..=end, "");
    }
    let text: String = text.chars().filter(|c| !"*`[]".contains(*c)).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_rule_is_the_one_of_the_source() {
    for scene in ALL {
        let rule = &scene.rule;
        let head = plain(&fs::read_to_string(home().join(rule.file)).unwrap());
        let first = rule.text.split_inclusive(['.', ';']).next().unwrap();
        let begin = match rule.name.parse::<u32>() {
            Ok(number) => format!("{number}. {first}"),
            Err(_) if rule.name.starts_with('R') => format!("{} {first}", rule.name),
            Err(_) => first.to_owned(),
        };
        let is_there = head.contains(&begin)
            // R2 has several sentences; the scene shows the one that decides.
            || (head.contains(first) && head.contains(&format!("{} ", rule.name)));
        assert!(is_there, "{}: {begin:?} is not in {}", scene.title, rule.file);
    }
}

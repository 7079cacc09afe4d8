//! Crontabs and ledgers, without a loop.

use std::collections::BTreeMap;

use super::crontab::{ENTRIES_MAX, Entry, Overlap, VARIABLES_MAX, When, parse};
use super::job::Output;
use super::ledger::{End, Event, Ledger, RUNS_MAX, State, id};

fn entries(text: &str) -> Vec<Entry> {
    parse(text.as_bytes(), false).unwrap_or_else(|errors| panic!("{text:?}: {errors:?}")).0
}

fn errors(text: &str) -> String {
    parse(text.as_bytes(), false).expect_err(text).join("|")
}

fn line(typed: &str) -> String {
    match &entries(&format!("{typed} true"))[0].when {
        When::Line(line) => line.clone(),
        other => format!("{other:?}"),
    }
}

/// As Debian installs it, without its comments on the fields.
const DEBIAN: &str = "\
# /etc/crontab: system-wide crontab
SHELL=/bin/sh
# You can also override PATH, but by default, newer versions inherit it from the environment
PATH = \"/usr/local/sbin:/usr/sbin:/usr/bin:/bin\"
MAILTO=root

# m h dom mon dow user\tcommand
17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly
25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts /etc/cron.daily; }
52 6\t1 * *\tbackup   date +\\%F
";

#[test]
fn crontab_of_debian_is_read_unchanged_with_its_users() {
    let (all, notes) = parse(DEBIAN.as_bytes(), true).unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].command, "cd / && run-parts --report /etc/cron.hourly");
    assert_eq!((all[0].typed.as_str(), all[0].line), ("17 * * * *", 8));
    assert_eq!(all[0].variables["PATH"], "/usr/local/sbin:/usr/sbin:/usr/bin:/bin");
    assert_eq!(all[2].command, "date +%F");
    let users =
        "8: its user root is ignored|9: its user root is ignored|10: its user backup is ignored";
    assert_eq!(notes.join("|"), format!("5: MAILTO is ignored: the output is on the page|{users}"));
    assert_eq!(entries(DEBIAN)[0].command, "root\tcd / && run-parts --report /etc/cron.hourly");
}

#[test]
fn fields_are_those_of_cron() {
    assert_eq!(line("*/15 0-6/3 1,15 jan-MAR mon-5"), "0,15,30,45 0,3,6 1,15 1,2,3 1,2,3,4,5");
    assert_eq!(line("5 4 * * 7"), "5 4 * * 0");
    assert_eq!(line("5 4 * * 5-7"), "5 4 * * 0,5,6");
    assert_eq!(line("@reboot"), "Reboot");
    // Both day fields count if one begins with a star, else either.
    assert_eq!(line("0 0 13 * 5"), "0 0 13 * 5");
    assert_eq!(line("0 0 */10 * 5"), "0 0 1,11,21,31 * +5");
    assert_eq!(line("0 0 1-7 * */7"), "0 0 1,2,3,4,5,6,7 * +0");
    // A step that leaves one number does not make it a fixed time.
    assert_eq!(line("*/59 */24 * * *"), "0,59 0-1/2 * * *");
}

#[test]
fn day_that_never_comes_is_accepted_with_a_warning() {
    for typed in ["0 0 31 2 *", "0 0 30-31 feb *", "0 0 31 4,jun,9,11 *"] {
        let (entries, notes) = parse(format!("{typed} x").as_bytes(), false).unwrap();
        assert_eq!(entries[0].when, When::Never, "{typed}");
        assert!(notes[0].ends_with(": never runs"), "{notes:?}");
    }
    // Either of both days: it comes each Monday.
    for typed in ["0 0 31 2 1", "0 0 29 2 *", "0 0 31 1-2 *", "0 0 * 2 *"] {
        assert!(matches!(entries(&format!("{typed} x"))[0].when, When::Line(_)), "{typed}");
    }
}

#[test]
fn bad_line_is_refused_with_its_number_and_why() {
    for (text, why) in [
        ("\n61 * * * * x", "2: minute \"61\": \"61\" is not in 0-59"),
        ("* 24 * * * x", "1: hour \"24\": \"24\" is not in 0-23"),
        ("* * 0 * * x", "1: day of the month \"0\": \"0\" is not in 1-31"),
        ("* * * foo * x", "1: month \"foo\": \"foo\" is not in 1-12"),
        ("* * * anf * x", "1: month \"anf\": \"anf\" is not in 1-12"),
        ("* * * * 8 x", "1: day of the week \"8\": \"8\" is not in 0-7"),
        ("*/0 * * * * x", "1: minute \"*/0\": \"0\" is no step"),
        ("5/10 * * * * x", "1: minute \"5/10\": a step wants '*' or a range"),
        ("9-5 * * * * x", "1: minute \"9-5\": \"9-5\" ends before it begins"),
        ("1, * * * * x", "1: minute \"1,\": \"\" is not in 0-59"),
        ("+1 * * * * x", "1: minute \"+1\": \"+1\" is not in 0-59"),
        ("* * * *", "1: it has 4 fields of 5, and no command"),
        ("* * * * *  ", "1: there is no command"),
        ("* * * * * %text", "1: there is no command"),
        ("@daily", "1: there is no command"),
        ("#: retry=3", "1: \"retry=3\" is no option; a comment begins with '# '"),
        ("#: retries=x", "1: \"retries=x\": not a whole number"),
        ("#: overlap=never", "1: \"overlap=never\" is no option; a comment begins with '# '"),
        ("#: name=a/b", "1: \"name=a/b\": a name has 64 of a-z A-Z 0-9 . _ -"),
        ("#: name=a\n@daily x\n#: name=a\n@daily y", "4: there is another \"a\""),
        (
            "61 * * * * x\n@daily y\n* 99 * * * z",
            "1: minute \"61\": \"61\" is not in 0-59|3: hour \"99\": \"99\" is not in 0-23",
        ),
    ] {
        assert_eq!(errors(text), why);
    }
    assert_eq!(parse(b"\n\xff * * * * x", false).unwrap_err(), ["2: it is not UTF-8"]);
}

#[test]
fn options_are_for_the_next_line_and_variables_for_all_below() {
    let text = "#: name=one overlap=queue catch-up=2 retries=3 timeout=60 idempotent\n\
                A='x  y'\n@daily /usr/bin/first a\nCRON_TZ=Europe/Vienna\n@daily first b\nA=z\n@daily é\n";
    let all = entries(text);
    let names: Vec<_> = all.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["one", "first", "task"]);
    let options = &all[0].options;
    assert_eq!((options.overlap, options.catch_up, options.retries), (Overlap::Queue, 2, 3));
    assert_eq!((options.timeout_s, options.idempotent), (Some(60), true));
    assert_eq!(all[1].options, Default::default());
    assert_eq!((all[0].zone(), all[1].zone()), (None, Some("Europe/Vienna")));
    assert_eq!(all[0].variables["A"], "x  y");
    assert_eq!((&*all[1].variables["A"], &*all[2].variables["A"]), ("x  y", "z"));
}

#[test]
fn entries_whose_commands_begin_with_no_letter_have_names_as_well() {
    let all = entries("@daily [ -x /a ] && /a\n@daily ( cd /b; ./b )\n@daily [ -x /c ] && /c\n");
    let names: Vec<&str> = all.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["task", "task-2", "task-3"]);
}

#[test]
fn names_of_entries_differ_also_if_one_is_like_a_number_of_another() {
    let all = entries("#: name=a-2\n@daily x\n@daily a\n@daily a\n@daily a\n");
    let names: Vec<_> = all.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["a-2", "a", "a-3", "a-4"]);
}

#[test]
fn percent_ends_the_command_and_its_rest_is_stdin() {
    let read = |command: &str| {
        let entry = entries(&format!("@daily {command}\n")).remove(0);
        (entry.command, entry.stdin)
    };
    let stdin = |text: &str| Some(text.to_owned());
    assert_eq!(read("cat%one%two\\%%"), ("cat".to_owned(), stdin("one\ntwo%\n")));
    assert_eq!(read("cat%one"), ("cat".to_owned(), stdin("one\n")));
    assert_eq!(read("cat%"), ("cat".to_owned(), stdin("")));
    assert_eq!(read("date +\\%s \\n"), ("date +%s \\n".to_owned(), None));
    assert_eq!(read("echo \\\\%x"), ("echo \\\\".to_owned(), stdin("x\n")));
    assert_eq!(read("echo \\"), ("echo \\".to_owned(), None));
}

#[test]
fn ten_thousand_lines_are_read_and_more_than_the_limits_are_refused() {
    let lines = |count: usize| "*/5 3 * * * /bin/true\n".repeat(count);
    let names: BTreeMap<_, _> =
        entries(&lines(10_000)).into_iter().map(|entry| (entry.name.clone(), entry)).collect();
    assert_eq!(names.len(), 10_000);
    assert_eq!(names["true-10000"].line, 10_000);
    assert_eq!(errors(&lines(ENTRIES_MAX + 9)), "100001: more than 100000 entries");
    let variables: String = (0..=VARIABLES_MAX).map(|number| format!("A{number}=1\n")).collect();
    assert_eq!(errors(&variables), "201: more than 200 variables");
}

/// The events of some runs: one is over, one is to be tried again, one runs, one waits.
fn events() -> Vec<Event> {
    let due = |ms| Event::Due { id: id("a", ms) };
    let begin =
        |ms, attempt| Event::Begin { id: id("a", ms), attempt, at: ms + 1, by: "w".to_owned() };
    let end = |ms, attempt, again| {
        let (how, output) = ("exit status: 1".to_owned(), b"out\nput \xff"[..].into());
        let end = End { code: Some(1), again, how, output };
        Event::End { id: id("a", ms), attempt, at: ms + 2, end }
    };
    let known = Event::Known { name: "a".to_owned(), ms: 5 };
    let skipped = End { how: "skipped".to_owned(), ..End::default() };
    let skipped = Event::End { id: id("a", 60), attempt: 1, at: 61, end: skipped };
    #[rustfmt::skip]
    let all = [known, due(10), begin(10, 1), end(10, 1, false), due(20), begin(20, 1), end(20, 1, true), due(30),
        begin(30, 1), end(30, 1, true), begin(30, 2), due(40), due(50), begin(50, 1), due(60), skipped];
    all.into()
}

fn ledger(events: impl IntoIterator<Item = Event>) -> Ledger {
    let mut ledger = Ledger::default();
    events.into_iter().for_each(|event| ledger.apply(&event));
    ledger
}

fn shown(ledger: &Ledger) -> String {
    format!("{:?} {:?} {:?}", ledger.runs, ledger.known, ledger.over)
}

#[test]
fn events_are_the_same_after_they_were_stored() {
    for event in events() {
        assert_eq!(Event::decode(&event.encode()), Some(event));
    }
    let whole = events().into_iter().flat_map(|event| event.encode());
    assert_eq!(
        Event::decode(&whole.collect::<Vec<_>>()),
        Some(events().remove(0)).filter(|_| false)
    );
    for bad in [
        "",
        "due",
        "due a",
        "due a@x",
        "begin a@1 1 1",
        "end a@1 1 1 0 1",
        "end a@1 x 1 0 1 h",
        "do a@1",
    ] {
        assert_eq!(Event::decode(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn ledger_of_its_own_events_is_the_same_and_each_event_may_come_twice() {
    for count in 0..=events().len() {
        let once = ledger(events().into_iter().take(count));
        assert_eq!(shown(&ledger(once.events())), shown(&once), "{count} events");
        let again = once.events().chain(events().into_iter().take(count)).chain(once.events());
        assert_eq!(shown(&ledger(again)), shown(&once), "{count} events");
    }
    let ledger = ledger(events());
    let states: Vec<_> = ledger.runs.values().map(|run| (run.state, run.attempt)).collect();
    let [over, waits, runs] = [State::Over, State::Waits, State::Runs];
    assert_eq!(states, [(over, 1), (waits, 2), (runs, 2), (waits, 1), (runs, 1), (over, 1)]);
    let begun = [10, 20, 30, 40, 50, 70].map(|ms| ledger.begun(&id("a", ms)));
    assert_eq!(begun, [1, 1, 2, 0, 1, 0]);
    assert_eq!(ledger.of("a").next().unwrap().0, "a@60");
}

#[test]
fn ledger_keeps_the_last_runs_and_so_many_bytes() {
    let mut ledger = Ledger::default();
    for ms in 0..3000 {
        let output = vec![b'x'; 32 * 1024].into();
        let end = End { output, ..End::default() };
        ledger.apply(&Event::End { id: id("a", ms), attempt: 1, at: ms, end });
    }
    assert_eq!(ledger.over.len(), 512, "16 MiB");
    assert_eq!(ledger.over.back().unwrap(), "a@2999");
    for ms in 3000..6000 {
        ledger.apply(&Event::Due { id: id("b", ms) });
        ledger.apply(&Event::End { id: id("a", ms), attempt: 1, at: ms, end: End::default() });
    }
    assert_eq!((ledger.over.len(), ledger.runs.len()), (RUNS_MAX, RUNS_MAX + 3000));
    ledger.forget_others(2000, |id| id == "b@5000");
    assert_eq!(ledger.runs.len(), RUNS_MAX + 1);
}

#[test]
fn output_keeps_its_first_and_its_last_part_wherever_it_is_cut() {
    let all: Vec<u8> = (b'a'..=b'z').collect();
    for size in 1..=all.len() {
        let mut output = Output::new(10);
        all.chunks(size).for_each(|part| output.push(part));
        assert_eq!(output.text(), b"abcde\n[16 bytes left out]\nvwxyz");
    }
    let mut output = Output::new(26);
    output.push(&all);
    assert_eq!(output.text(), all);
}

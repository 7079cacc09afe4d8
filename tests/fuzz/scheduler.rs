//! What the scheduler reads: a crontab, the records of its store, replies of Redis. Whatever the bytes
//! are, a line is refused with its number or means the minutes of cron, a ledger is the same after it
//! was stored, and a reply is the same wherever it is cut.
//!
//! The first byte chooses which of them, and if the rest is put together from parts.

use std::collections::BTreeSet;

use support::Rng;

#[allow(dead_code)] // The program uses the rest.
#[path = "../../examples/scheduler/crontab.rs"]
mod crontab;
#[allow(dead_code)]
#[path = "../../examples/scheduler/ledger.rs"]
mod ledger;
#[allow(dead_code)]
#[path = "../../examples/resp/reply.rs"]
mod reply;

use crontab::{Entry, When};
use ledger::{Event, Ledger, OUTPUT_BYTES_MAX, RUNS_MAX, State};

pub fn scheduler(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 5 {
        0 => table(rest),
        1 => table(&composed(rest, &CRONTAB)),
        2 => events(rest),
        3 => replies(&composed(rest, &REPLIES), *kind),
        _ => replies(rest, *kind),
    }
}

const CRONTAB: [&str; 24] = [
    "\n",
    " ",
    "*",
    "* * * * * ",
    "0 0 ",
    "*/",
    "-",
    ",",
    "/",
    "5",
    "59",
    "60",
    "31",
    "2",
    "sun",
    "FEB",
    "@daily ",
    "@reboot x",
    "#: name=",
    "overlap=queue ",
    "CRON_TZ=UTC\n",
    "A=b\n",
    "%",
    "\\%",
];
const REPLIES: [&str; 16] = [
    "\r\n",
    "*2\r\n",
    "*0\r\n",
    "*-1\r\n",
    "$1\r\n",
    "$-1\r\n",
    "$3\r\nabc\r\n",
    "+OK\r\n",
    "-ERR no\r\n",
    ":7\r\n",
    "*1\r\n",
    "x",
    "$",
    "*",
    "9",
    ":",
];

/// Each byte is a part.
fn composed(bytes: &[u8], parts: &[&str]) -> Vec<u8> {
    let part = |byte: &u8| match parts.get(*byte as usize) {
        Some(part) => part.as_bytes().to_vec(),
        None => vec![*byte],
    };
    bytes.iter().flat_map(part).collect()
}

/// All of a crontab is understood, or each error names a line of it.
fn table(text: &[u8]) {
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let number = |said: &String| said.split_once(": ").unwrap().0.parse::<usize>().unwrap();
    for has_users in [false, true] {
        let (entries, notes) = match crontab::parse(text, has_users) {
            Ok(read) => read,
            Err(errors) => {
                assert!(!errors.is_empty());
                assert!(errors.iter().all(|said| (1..=lines.len()).contains(&number(said))));
                assert!(errors.iter().all(|said| !said.contains('\n')), "{errors:?}");
                continue;
            }
        };
        assert!(notes.iter().all(|said| (1..=lines.len()).contains(&number(said))));
        let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names.len(), entries.len(), "no two have a name");
        for entry in &entries {
            let letters = entry
                .name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            assert!(letters && !entry.name.is_empty() && !entry.command.is_empty());
            let line = std::str::from_utf8(lines[entry.line - 1]).unwrap();
            let typed = entry.typed.split_whitespace();
            assert!(typed.eq(line.split_whitespace().take(entry.typed.split(' ').count())));
            means_the_same(entry);
        }
    }
}

/// The lists of numbers are those of the fields as they were typed: each number by itself.
fn means_the_same(entry: &Entry) {
    let When::Line(line) = &entry.when else { return };
    if entry.typed.starts_with('@') {
        return;
    }
    let ranges = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
    let fields: Vec<&str> = entry.typed.split(' ').collect();
    for (at, (list, typed)) in line.split(' ').zip(&fields).enumerate() {
        let list = list.trim_start_matches('+');
        if list == "*" {
            assert_eq!(*typed, "*");
            continue;
        }
        let (low, high) = ranges[at];
        let is_in = |number: u32| match list.split_once("-") {
            Some((first, _)) => first.parse() == Ok(number), // As `0-1/2`: not a fixed time.
            None => list.split(',').any(|one| one.parse() == Ok(number)),
        };
        for number in low..=high {
            let typed_so = typed.split(',').any(|part| matches(part, number, at));
            assert_eq!(is_in(number), typed_so, "{number} of {typed:?} is {list:?}");
        }
    }
}

/// Returns true if a part of a field has the number, by crontab(5).
fn matches(part: &str, number: u32, at: usize) -> bool {
    let value = |text: &str| -> u32 {
        let words = match at {
            3 => "janfebmaraprmayjunjulaugsepoctnovdec",
            4 => "sunmontuewedthufrisat",
            _ => "",
        };
        let word = words.find(&text.to_ascii_lowercase()).filter(|_| text.len() == 3);
        word.map_or_else(|| text.parse().unwrap(), |word| word as u32 / 3 + u32::from(at == 3))
    };
    let (range, step) = part.split_once('/').unwrap_or((part, "1"));
    let step: u64 = step.parse().unwrap();
    let (low, high) = match range.split_once('-') {
        _ if range == "*" => [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)][at],
        Some((low, high)) => (value(low), value(high)),
        None => (value(range), value(range)),
    };
    let is_in = |number: u32| (low..=high).contains(&number) && u64::from(number - low) % step == 0;
    is_in(number) || at == 4 && number == 0 && is_in(7)
}

/// Each byte chooses an event of a few runs; or the bytes are a record by themselves.
fn events(bytes: &[u8]) {
    if let Some(event) = Event::decode(bytes) {
        assert_eq!(Event::decode(&event.encode()), Some(event));
    }
    let mut ledger = Ledger::default();
    for two in bytes.chunks_exact(2) {
        let id = format!("a@{}", two[0] % 8);
        // The present attempt, or one that is past.
        let run = ledger.runs.get(&id);
        let (attempt, at) = (run.map_or(1, |run| run.attempt - u32::from(two[1] % 4 == 0)), two[1]);
        let runs = run.is_some_and(|run| run.state == State::Runs);
        let record = match two[0] / 8 % 8 {
            0 => format!("known a {at}"),
            1 => format!("due {id}"),
            2 => "gone a".to_owned(),
            3 | 4 => format!("begin {id} {attempt} {at} me"),
            5 if runs => format!("end {id} {attempt} {at} 1 1 how\nsome"),
            _ => format!("end {id} {attempt} {at} - 0 how\n{}", "x".repeat(at as usize)),
        };
        let event = Event::decode(record.as_bytes()).expect("it is one");
        ledger.apply(&event);
        let shown = shown(&ledger);
        ledger.apply(&event);
        assert_eq!(self::shown(&ledger), shown, "a second time");
    }
    let mut again = Ledger::default();
    ledger.events().for_each(|event| again.apply(&event));
    assert_eq!(shown(&again), shown(&ledger), "after it was stored");
    assert!(ledger.over.len() <= RUNS_MAX);
    let bytes: usize =
        ledger.runs.values().filter_map(|run| run.end.as_ref()).map(|end| end.output.len()).sum();
    assert!(bytes <= OUTPUT_BYTES_MAX);
}

fn shown(ledger: &Ledger) -> String {
    format!("{:?} {:?} {:?}", ledger.runs, ledger.known, ledger.over)
}

/// A reply that is whole in front of some bytes is the same with more behind them, and never there
/// with less.
fn replies(bytes: &[u8], seed: u8) {
    let mut rng = Rng::from_seed(u64::from(seed) + 1);
    let mut rest = bytes;
    while let Ok(Some((value, behind))) = reply::parse(rest) {
        assert!(behind.len() < rest.len());
        let length = rest.len() - behind.len();
        let cut = rng.below(length as u64) as usize;
        assert_eq!(reply::parse(&rest[..cut]), Ok(None), "{value:?} at {cut}");
        let more = [&rest[..length], b"\r\n*"].concat();
        assert_eq!(reply::parse(&more), Ok(Some((value, &b"\r\n*"[..]))));
        rest = behind;
    }
    let Ok(None) = reply::parse(rest) else { return };
    let memory = allocation_counter::measure(|| drop(reply::parse(rest)));
    assert!(memory.bytes_max <= 64 * rest.len() as u64 + 4096, "a count is no promise: {memory:?}");
}

//! The journal on a loop, and its file: torn, damaged, full, refused by the disk.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use waterwheel::{Context, Reactor};

use super::log::{Log, crc32, push};
use super::{Journal, REWRITE_BYTES_MIN, Snapshot, Stores, lock};

/// A file of its own for each test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("waterwheel-journal-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Scratch(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("log")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A list of texts, each a record.
struct Texts {
    journal: Journal,
    texts: Vec<String>,
    batches: Vec<(u64, bool)>,
    /// Appended when the first batch is stored.
    more: Vec<String>,
}

impl Stores for Texts {
    fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    fn stored(&mut self, reactor: &mut Context<Texts>, up_to: u64, result: Result<(), String>) {
        self.batches.push((up_to, result.is_ok()));
        if result.is_err() {
            self.texts.pop(); // In these tests it is a batch of one.
        }
        for text in std::mem::take(&mut self.more) {
            self.append(reactor, &text);
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let texts = self.texts.clone();
        Box::new(move |write| texts.iter().for_each(|text| write(text.as_bytes())))
    }
}

impl Texts {
    fn append(&mut self, reactor: &mut Context<Texts>, text: &str) -> u64 {
        self.texts.push(text.to_owned());
        self.journal.append(reactor, text.as_bytes())
    }
}

fn open(path: &Path) -> Result<(Texts, Option<String>), String> {
    let mut texts = Vec::new();
    let (journal, note) = Journal::open(path, Duration::ZERO, |record| {
        texts.push(String::from_utf8(record.to_vec()).map_err(|error| error.to_string())?);
        Ok(())
    })?;
    Ok((Texts { journal, texts, batches: Vec::new(), more: Vec::new() }, note))
}

/// Appends each of these in a run of the loop of its own: a batch each.
fn write(path: &Path, batches: &[&[&str]]) {
    let (mut state, _) = open(path).unwrap();
    let mut reactor = Reactor::new().unwrap();
    for texts in batches {
        for text in *texts {
            state.append(&mut reactor, text);
        }
        reactor.run(&mut state).unwrap();
    }
}

fn texts(path: &Path) -> Vec<String> {
    open(path).unwrap().0.texts
}

#[test]
fn crc_is_that_of_the_standard() {
    assert_eq!(crc32(&[b"123456789"]), 0xCBF4_3926);
    assert_eq!(crc32(&[b"1234", b"", b"56789"]), 0xCBF4_3926);
    assert_eq!(crc32(&[]), 0);
}

#[test]
fn what_comes_in_a_turn_is_one_batch_and_what_comes_meanwhile_the_next() {
    let scratch = Scratch::new();
    let (mut state, note) = open(&scratch.file()).unwrap();
    assert_eq!(note, None);
    let mut reactor = Reactor::new().unwrap();
    state.more = (0..50).map(|number| format!("more {number}")).collect();
    for number in 1..=100 {
        assert_eq!(state.append(&mut reactor, &format!("text {number}")), number);
    }
    reactor.run(&mut state).unwrap();
    assert_eq!(state.batches, [(100, true), (150, true)]);
    let all = state.texts.clone();
    drop(state);
    assert_eq!(texts(&scratch.file()), all);
}

#[test]
fn a_batch_waits_for_others_as_long_as_it_should() {
    let scratch = Scratch::new();
    let (journal, _) = Journal::open(&scratch.file(), Duration::from_secs(5), |_| Ok(())).unwrap();
    let mut state = Texts { journal, texts: Vec::new(), batches: Vec::new(), more: Vec::new() };
    let clock = waterwheel::timers::ManualClock::new();
    let mut reactor = Reactor::builder().clock(&clock).build().unwrap();
    for after in [0, 4999, 5001] {
        reactor.after(Duration::from_millis(after), move |reactor, state: &mut Texts| {
            state.append(reactor, &format!("{after}"));
        });
    }
    reactor.run(&mut state).unwrap();
    assert_eq!(state.batches, [(2, true), (3, true)]);
}

#[test]
fn nobody_else_has_the_file_meanwhile() {
    let scratch = Scratch::new();
    let first = open(&scratch.file()).unwrap();
    assert_eq!(open(&scratch.file()).map(drop).unwrap_err(), "another program has it");
    drop(first);
    open(&scratch.file()).unwrap();
}

/// At every byte: of the last batch nothing is there, or all of it, and what was before it stays.
#[test]
fn a_torn_batch_is_cut_off_as_a_whole_and_said() {
    let scratch = Scratch::new();
    let path = scratch.file();
    write(&path, &[&["one", "two"]]);
    let before = fs::read(&path).unwrap().len();
    write(&path, &[&["three", "four"]]);
    let whole = fs::read(&path).unwrap();
    for cut in before..=whole.len() {
        for filled in [false, true] {
            let mut torn = whole[..cut].to_vec();
            if filled {
                torn.resize(whole.len(), 0); // The file had grown before its pages were written.
            }
            fs::write(&path, &torn).unwrap();
            let (state, note) = open(&path).unwrap();
            let is_whole = torn == whole;
            let count = if is_whole { 4 } else { 2 };
            assert_eq!(state.texts.len(), count, "cut at {cut}");
            let lost = torn.len() - before;
            let expected = format!("{lost} bytes of an unfinished write are cut off");
            assert_eq!(note, (!is_whole && lost > 0).then_some(expected));
            drop(state);
            assert_eq!(open(&path).unwrap().1, None, "it is cut off, once");
        }
    }
    // And it goes on behind.
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    write(&path, &[&["five"]]);
    assert_eq!(texts(&path), ["one", "two", "five"]);
}

/// Every byte of the batch before the last one, and of the header.
#[test]
fn damage_before_good_records_is_an_error_and_changes_nothing() {
    let scratch = Scratch::new();
    let path = scratch.file();
    write(&path, &[&["one"], &["two"]]);
    let end = fs::read(&path).unwrap().len();
    write(&path, &[&["three"]]);
    let whole = fs::read(&path).unwrap();
    for at in 0..end {
        for flip in [1, 0x80] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            fs::write(&path, &damaged).unwrap();
            let error = open(&path).map(drop).expect_err(&format!("byte {at} was not noticed"));
            let expected = match at {
                0..7 => "it is no journal",
                7 => "it is of version",
                8..20 => "its header is damaged",
                _ => "it is damaged at byte",
            };
            assert!(error.starts_with(expected), "{at}: {error}");
            assert!(fs::read(&path).unwrap() == damaged, "it was changed");
        }
    }
    for no_journal in [&b"x"[..], b"wheelo", b"#!/bin/sh\necho this is something else\n"] {
        fs::write(&path, no_journal).unwrap();
        let error = open(&path).map(drop).unwrap_err();
        assert_eq!(error, "it is no journal");
        assert_eq!(fs::read(&path).unwrap(), no_journal);
    }
}

/// A client that knows the format cannot make a torn batch look like a damaged file.
#[test]
fn a_batch_within_a_record_is_not_taken_for_one() {
    let scratch = Scratch::new();
    let (path, other) = (scratch.file(), scratch.0.join("other"));
    write(&other, &[&["one"], &["two"], &["three"]]);
    let inner = fs::read(&other).unwrap();
    let (mut state, _) = open(&path).unwrap();
    let mut reactor = Reactor::new().unwrap();
    state.journal.append(&mut reactor, &inner);
    reactor.run(&mut state).unwrap();
    drop(state);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let (state, note) = open(&path).unwrap();
    assert!(state.texts.is_empty() && note.is_some());
}

#[test]
fn a_file_that_has_grown_is_made_again_from_a_snapshot_while_records_go_on() {
    let scratch = Scratch::new();
    let (mut state, _) = open(&scratch.file()).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let text = "x".repeat(100_000);
    let rounds = 3 * REWRITE_BYTES_MIN as usize / text.len();
    for round in 0..rounds {
        state.append(&mut reactor, &format!("{round} {text}"));
        let last = state.texts.len() - 1;
        if round % 10 > 0 {
            state.texts.remove(last - 1); // What it replaces.
        }
        reactor.run(&mut state).unwrap();
    }
    // The worker that makes the new file may be slow; it takes its place between two batches.
    let length = || fs::metadata(scratch.file()).unwrap().len();
    let mut more = 0;
    while length() >= 2 * REWRITE_BYTES_MIN && more < 10_000 {
        state.append(&mut reactor, "one more");
        reactor.run(&mut state).unwrap();
        more += 1;
    }
    assert!(length() < 2 * REWRITE_BYTES_MIN, "{}", length());
    assert!(state.batches.iter().all(|(_, is_stored)| *is_stored));
    assert_eq!(state.batches.len(), rounds + more);
    let live = state.texts.clone();
    drop(state);
    // The snapshot, and behind it what came since.
    let found = texts(&scratch.file());
    assert!(live.iter().all(|text| found.contains(text)));
    assert_eq!(found.last(), live.last());
    let names: Vec<_> =
        fs::read_dir(&scratch.0).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the file and its lock: {names:?}");
}

/// A pipe takes a write, and refuses an fsync.
#[cfg(unix)]
#[test]
fn after_a_failed_fsync_nothing_is_stored_until_a_new_file_is_in_its_place() {
    let scratch = Scratch::new();
    write(&scratch.file(), &[&["one"]]);
    let (mut state, _) = open(&scratch.file()).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let (reader, pipe) = std::io::pipe().unwrap();
    lock(&state.journal.log).set_file(std::os::fd::OwnedFd::from(pipe).into());
    state.append(&mut reactor, "two");
    reactor.run(&mut state).unwrap();
    assert_eq!(state.batches, [(1, false)]);
    assert_eq!(texts_of(&scratch), ["one"], "the file is as it was");
    state.append(&mut reactor, "three");
    reactor.run(&mut state).unwrap();
    assert_eq!(state.batches, [(1, false), (2, true)]);
    assert_eq!(texts_of(&scratch), ["one", "three"]);
    drop(reader);
}

/// Reads the file although it is in use.
fn texts_of(scratch: &Scratch) -> Vec<String> {
    let mut texts = Vec::new();
    let copy = scratch.0.join("copy");
    fs::copy(scratch.file(), &copy).unwrap();
    Log::open(&copy, |record| {
        texts.push(String::from_utf8(record.to_vec()).unwrap());
        Ok(())
    })
    .unwrap();
    texts
}

/// Whatever a file has, opening it ends, and takes no memory that the file does not have.
#[test]
fn any_bytes_behind_the_header_are_cut_off_or_an_error() {
    let scratch = Scratch::new();
    let path = scratch.file();
    write(&path, &[&["one"]]);
    let good = fs::read(&path).unwrap();
    let mut batch = Vec::new();
    push(&mut batch, b"two");
    for junk in [&[0xff; 4096][..], &[0; 4096], &good, &batch, b"\xff\xff\xff\xff"] {
        fs::write(&path, &good).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(junk).unwrap();
        let (state, note) = open(&path).unwrap();
        assert!(state.texts == ["one"] && note.is_some());
    }
}

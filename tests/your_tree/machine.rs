//! What the tests missed on this machine. Those of the other programs have been run by now; nothing in
//! this program needs a client.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use support::clients::{ALL, CURL, IPV6, NC, Need, notes};

/// The tests that were skipped, from what they left behind. What is here by now does not count: it
/// was skipped in a run of before.
fn skipped<'a>(notes: &'a str, is_missing: impl Fn(&Need) -> bool) -> Skipped<'a> {
    let missing: Vec<&Need> = ALL.iter().copied().filter(|need| is_missing(need)).collect();
    let (mut tests, mut wanted) = (BTreeSet::new(), Vec::new());
    for need in missing {
        let lines = notes.lines().filter_map(|line| line.split_once('\t'));
        let without: Vec<&str> =
            lines.filter(|(name, _)| *name == need.name).map(|(_, test)| test).collect();
        if !without.is_empty() {
            wanted.push(need);
        }
        tests.extend(without);
    }
    Skipped { tests, wanted }
}

struct Skipped<'a> {
    tests: BTreeSet<&'a str>,
    wanted: Vec<&'static Need>,
}

impl Skipped<'_> {
    fn report(&self) -> String {
        let names: Vec<&str> = self.wanted.iter().map(|need| need.name).collect();
        let packages: Vec<&str> = self.wanted.iter().filter_map(|need| need.package).collect();
        let mut report = format!("\nTests that were SKIPPED: {}. ", self.tests.len());
        report += &format!("This machine is without {}.\n", names.join(", "));
        if !packages.is_empty() {
            report += &format!("To run them: apt-get install {}\n", packages.join(" "));
        }
        report
    }
}

#[test]
fn tests_that_were_skipped_are_counted() {
    let notes = notes();
    let Ok(lines) = fs::read_to_string(&notes) else { return };
    let skipped = skipped(&lines, |need| !need.is_here());
    if !skipped.tests.is_empty() {
        // Not by a macro, whose output is captured.
        std::io::stderr().write_all(skipped.report().as_bytes()).unwrap();
    }
    fs::remove_file(notes).unwrap();
}

#[test]
fn each_test_counts_once_and_what_has_been_installed_since_not_at_all() {
    let [nc, curl, ipv6] = [&NC, &CURL, &IPV6];
    let line = |need: &Need, test: &str| format!("{}\t{test}\n", need.name);
    let notes = [
        line(curl, "two::b"),
        line(nc, "one::a"),
        line(curl, "one::a"),
        line(ipv6, "three::c"),
        line(curl, "two::b"),
    ]
    .concat();
    let without = |missing: &[&Need]| {
        let is_missing = |need: &Need| missing.iter().any(|missing| missing.name == need.name);
        skipped(&notes, is_missing).report()
    };
    assert_eq!(
        without(&[nc, curl, ipv6]),
        "\nTests that were SKIPPED: 3. This machine is without nc as OpenBSD has it, curl with \
         https, an IPv6 loopback.\nTo run them: apt-get install netcat-openbsd curl\n"
    );
    assert_eq!(
        without(&[ipv6]),
        "\nTests that were SKIPPED: 1. This machine is without an IPv6 loopback.\n"
    );
    assert!(skipped(&notes, |_| false).tests.is_empty());
    assert!(skipped("", |_| true).tests.is_empty());
}

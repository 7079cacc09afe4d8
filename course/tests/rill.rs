//! What the student has built in the end: how long it is, and which rules of the contract it keeps.

use std::fs;

use crate::chapters;

/// The most lines of code of all files that are `rill` in the end.
const LINES_MAX: usize = 800;
/// Rules of the contract.
const RULES: usize = 10;

fn text() -> String {
    fs::read_to_string(chapters::course().join("rill.md")).unwrap()
}

/// The cells of each row of a table whose first cell begins so.
fn rows<'a>(text: &'a str, first: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
    let rows = text.lines().filter_map(move |line| line.strip_prefix("| "));
    let rows = rows.filter(move |row| row.starts_with(first));
    rows.map(|row| row.split('|').map(str::trim).collect())
}

#[test]
fn rill_is_short() {
    let (text, chapters) = (text(), chapters::all());
    let mut lines = 0;
    for row in rows(&text, "`") {
        let number: usize = row[1].parse().expect("a chapter");
        let chapter = chapters.iter().find(|chapter| chapter.number == number).unwrap();
        assert_eq!(row[0], format!("`{}`", chapter.file));
        let solution = chapter.text("solution.rs");
        let code =
            solution.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//"));
        lines += code.count();
    }
    assert_eq!(rows(&text, "`").count(), 10);
    assert!(lines <= LINES_MAX, "{lines} lines; {LINES_MAX} are allowed");
}

#[test]
fn each_rule_of_the_contract_is_kept_by_a_test_or_said_to_be_left_out() {
    let (text, chapters) = (text(), chapters::all());
    let contract = chapters::course().join("../tests/contract.rs");
    let contract = fs::read_to_string(contract).unwrap();
    let rules: Vec<_> = rows(&text, "R").collect();
    assert_eq!(rules.len(), RULES);
    for (number, row) in (1..).zip(&rules) {
        assert_eq!(row[0], format!("R{number}"));
        assert!(contract.contains(&format!("fn r{number}_")), "the contract has no R{number}");
        if row[2].is_empty() {
            assert!(row[1].starts_with("not kept: "), "{row:?}");
        }
        for part in row[2].split("; ").filter(|part| !part.is_empty()) {
            let (chapter, tests) = part.split_once(": ").expect("a chapter and its tests");
            let chapter: usize = chapter.parse().expect("a chapter");
            let chapter = chapters.iter().find(|other| other.number == chapter).unwrap();
            let check = chapter.text("check.rs");
            for test in tests.split(", ") {
                let function = format!("#[test]\nfn {}()", test.trim_matches('`'));
                assert!(check.contains(&function), "{}: no test {test}", chapter.name);
            }
        }
    }
}

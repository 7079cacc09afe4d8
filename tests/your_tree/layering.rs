//! What the sources may not say: each layer knows only those below it, each program names the
//! features that it needs, and no test starts a client that a machine may not have. Comments use plain
//! words, and the glossary speaks only of what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use support::home;

/// The floors, from the bottom, and the crates and modules that a floor must not name. No floor names
/// one above it, and every floor leaves `async` and `unsafe` out.
const FLOORS: [(&str, &[&str]); 7] = [
    ("timers", &["mio", "slab", "socket2"]),
    ("reactor", &["net", "socket2"]),
    ("patterns", &["mio", "socket2"]),
    ("net", &["http", "tls", "ws", "rustls", "httparse"]),
    ("protocols", &["slab", "socket2"]),
    ("process", &["slab", "socket2"]),
    ("inspect", &["slab", "socket2", "mio", "process"]),
];
const KEYWORDS: [&str; 3] = ["async", "await", "unsafe"];
/// Only `timers/clock.rs` and `timers/clock/paced.rs` ask for the time.
const CLOCK: [&str; 5] =
    ["Instant::now", "SystemTime", ".elapsed()", "Timestamp::now", "Zoned::now"];

/// The word that a line of code of that file must not contain; comments and texts may say anything.
fn offence(floor: &str, file: &Path, line: &str) -> Option<&'static str> {
    // Every second piece is a text in quotes.
    let code: String = line.split("//").next()?.split('"').step_by(2).collect();
    let at = FLOORS.iter().position(|(name, _)| *name == floor)?;
    let mut above = FLOORS[at + 1..].iter().map(|(name, _)| *name);
    let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let word = KEYWORDS.iter().chain(FLOORS[at].1).find(|word| words.contains(word));
    let looks_up = || above.find(|above| code.contains(&format!("crate::{above}::")));
    let clock = || CLOCK.iter().find(|read| code.contains(**read));
    let may = ["timers/clock.rs", "timers/clock/paced.rs"].iter().any(|may| file.ends_with(may));
    let clock = || if may { None } else { clock().copied() };
    word.copied().or_else(looks_up).or_else(clock)
}

/// The files of a folder, pictures left out.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_text = |file: &PathBuf| file.extension().is_none_or(|kind| kind != "gif");
    let files = files.into_iter().filter(is_text);
    files.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

#[test]
fn no_floor_names_one_above_it() {
    for (floor, _) in FLOORS {
        let files = sources(&home().join(floor));
        assert!(!files.is_empty(), "{floor} has no sources");
        for file in files.into_iter().filter(|file| file.extension().is_some_and(|of| of == "rs")) {
            for (number, line) in (1..).zip(fs::read_to_string(&file).unwrap().lines()) {
                let word = offence(floor, &file, line);
                assert_eq!(word, None, "{}:{number}: {line}", file.display());
            }
        }
    }
}

#[test]
fn the_check_catches_an_offending_line() {
    let check = |floor, line| offence(floor, Path::new("floor/file.rs"), line);
    assert_eq!(check("timers", "use mio::Token;"), Some("mio"));
    assert_eq!(check("timers", "use crate::reactor::Place;"), Some("reactor"));
    assert_eq!(check("reactor", "promise: crate::patterns::Promise<S>"), Some("patterns"));
    assert_eq!(check("patterns", "use crate::reactor::Place;"), None);
    assert_eq!(check("net", "#[cfg(feature = \"process\")] std::process::id()"), None);
    assert_eq!(check("net", "Option<crate::protocols::tls::Info<'_>>"), Some("tls"));
    assert_eq!(check("reactor", "mio::net::TcpStream::connect(address)"), Some("net"));
    assert_eq!(check("net", "let now = Instant::now();"), Some("Instant::now"));
    assert_eq!(check("net", "unsafe { libc::close(3) }"), Some("unsafe"));
    assert_eq!(check("reactor", "/// no `async`, and `Instant::now` only below"), None);
    assert_eq!(check("net", "#![forbid(unsafe_code)]"), None);
    assert_eq!(offence("timers", Path::new("/x/timers/clock.rs"), "Instant::now()"), None);
}

/// The names of the types that are defined in a text, with this before `struct` and the like.
fn types<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let line = line.trim_start().strip_prefix(before)?;
        let kinds = ["struct ", "enum ", "trait ", "type "];
        let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
    })
}

fn words(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.map(|line| line.split(" //").next().unwrap_or(line));
    let words = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.map(str::to_owned).collect()
}

/// The text of all files of a floor.
fn floor_text(floor: &str) -> String {
    let files = sources(&home().join(floor)).into_iter();
    let files = files.filter(|file| !file.ends_with("tests.rs"));
    files.map(|file| fs::read_to_string(file).unwrap() + "\n").collect()
}

#[test]
fn the_loop_names_no_type_that_is_built_on_it() {
    let reactor = floor_text("reactor") + &floor_text("timers");
    let own: BTreeSet<&str> = ["", "pub ", "pub(crate) ", "pub(super) "]
        .iter()
        .flat_map(|b| types(&reactor, b))
        .collect();
    // Of the standard library, too, or parameters of a type.
    let common = BTreeSet::from(["Error", "Event", "Options", "Result", "Side", "Handler", "Link"]);
    let words = words(&reactor);
    for floor in ["patterns", "net", "protocols", "process", "inspect"] {
        let text = floor_text(floor);
        for name in types(&text, "pub ").filter(|name| !common.contains(name)) {
            let named = words.contains(name) && !own.contains(name);
            assert!(!named, "reactor/ names {name}, which {floor}/ defines");
        }
    }
}

/// Names of functions and constants that are for the crate, and of those that are for all.
fn names(text: &str) -> [BTreeSet<&str>; 2] {
    ["pub(crate) ", "pub "].map(|before| {
        let items = text.lines().filter_map(|line| line.trim_start().strip_prefix(before));
        let names = items.filter_map(|item| {
            let kinds = ["const fn ", "fn ", "const "];
            kinds.iter().find_map(|kind| item.strip_prefix(kind))
        });
        names
            .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
            .collect()
    })
}

/// What `text` uses of the floors below that is for the crate only. A name that the text defines itself
/// is its own.
fn used_of_the_crate(text: &str, below: &[&str]) -> Vec<String> {
    let below: String = below.iter().map(|floor| floor_text(floor)).collect();
    let [for_the_crate, for_all] = names(&below);
    let is_own = |name: &str| {
        let defines = [format!("fn {name}("), format!("fn {name}<"), format!("const {name}:")];
        defines.iter().any(|definition| text.contains(definition))
    };
    let words = words(text);
    let is_used = |name: &str| {
        let is_called = [".", "::"].iter().any(|by| text.contains(&format!("{by}{name}(")));
        is_called || (name == name.to_uppercase() && words.contains(name))
    };
    let used = for_the_crate.difference(&for_all).filter(|name| is_used(name) && !is_own(name));
    used.map(|name| name.to_string()).collect()
}

#[test]
fn a_pattern_and_a_protocol_use_only_what_a_program_could_use() {
    let below_net = ["timers", "reactor"];
    let below_protocols = ["timers", "reactor", "patterns", "net"];
    let floors: [(&str, &[&str]); 4] = [
        ("patterns", &below_net),
        ("protocols", &below_protocols),
        ("process", &below_protocols),
        ("inspect", &["timers", "reactor", "patterns", "net", "protocols"]),
    ];
    for (floor, below) in floors {
        let used = used_of_the_crate(&floor_text(floor), below);
        assert!(used.is_empty(), "{floor}/ uses what is not public: {used:?}");
    }
    let used = used_of_the_crate("reactor.register_unmasked(x, Readiness::SAID)", &below_net);
    assert_eq!(used, ["register_unmasked"]);
}

/// The loop holds only the loop: so many files, and so many lines of code. They may only become fewer.
const LOOP_FILES_MAX: usize = 20;
const LOOP_CODE_LINES_MAX: usize = 3300;

/// A test that only the model checker compiles; it stands beside what it checks.
const LOOP_MODEL: &str = "remote/model.rs";

/// The lines of code of a text: neither empty nor only a comment. Tests within a file count, too.
fn code_lines(text: &str) -> usize {
    let lines = text.lines().map(str::trim_start);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn the_loop_is_small() {
    let files = sources(&home().join("reactor"));
    let of_the_loop = files.iter().filter(|file| !file.ends_with(LOOP_MODEL));
    let code: usize = of_the_loop.map(|file| code_lines(&fs::read_to_string(file).unwrap())).sum();
    println!("reactor/: {} files, {code} lines of code", files.len());
    assert!(files.len() <= LOOP_FILES_MAX, "{} files: {files:?}", files.len());
    assert!(code <= LOOP_CODE_LINES_MAX, "{code} lines of code");
    assert_eq!(code_lines("//! A.\n\nfn a() {\n    // Why.\n    b(); // How.\n}\n"), 3);
}

/// The folders in which no files, or folders, name each other in a circle.
const WITHOUT_CIRCLES: [&str; 5] = ["timers", "reactor", "patterns", "net", "process"];

/// A file of a floor: its path as a module, from the floor, and its text.
type Module = (Vec<String>, String);

fn modules(floor: &str) -> Vec<Module> {
    let root = home().join(floor);
    let files = sources(&root).into_iter().map(|file| {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        let parts = path.iter().map(|part| part.to_str().unwrap().to_owned());
        (parts.filter(|part| part != "mod").collect(), fs::read_to_string(&file).unwrap())
    });
    files.collect()
}

/// The paths with which a text goes on: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(text: &str) -> (Vec<Vec<String>>, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let (mut tails, rest) = match rest.strip_prefix("::") {
        Some(rest) => paths(rest),
        None => (vec![Vec::new()], rest),
    };
    if !name.is_empty() {
        tails.iter_mut().for_each(|tail| tail.insert(0, name.to_owned()));
        return (tails, rest);
    }
    let Some(mut rest) = rest.strip_prefix('{') else { return (tails, rest) };
    let mut all = Vec::new();
    while !rest.starts_with('}') && !rest.is_empty() {
        let (inner, after) = paths(rest.trim_start());
        all.extend(inner);
        rest = after.trim_start().trim_start_matches([',', '*']).trim_start();
    }
    (all, rest.get(1..).unwrap_or_default())
}

/// The modules that a file names by `super::` and `crate::floor::`, as paths from the floor.
fn named(floor: &str, (module, text): &Module) -> BTreeSet<Vec<String>> {
    let (mut named, mut inner) = (BTreeSet::new(), 0);
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let lines: Vec<&str> = code.collect();
    for (at, line) in lines.iter().enumerate() {
        if line.contains("mod ") && line.ends_with('{') && !line.starts_with(' ') {
            inner = 1; // In here, `super` is the file.
        } else if line.starts_with('}') {
            inner = 0;
        }
        let by_crate = format!("crate::{floor}::");
        let starts = ["super::", &by_crate];
        let found = starts.iter().flat_map(|start| line.match_indices(start));
        for (column, start) in found {
            // A chain of `super::` is read from its begin; and `pub(in crate::floor)` names none.
            if line[..column].ends_with("super::") || line[..column].ends_with("in ") {
                continue;
            }
            let rest = lines[at..].join("\n");
            let mut rest = &rest[column + start.len()..];
            let mut base = module.clone();
            base.extend((0..inner).map(|_| "inner".to_owned()));
            if start == "super::" {
                base.pop();
            } else {
                base.clear();
            }
            while let Some(after) = rest.strip_prefix("super::") {
                base.pop();
                rest = after;
            }
            named.extend(paths(rest).0.into_iter().map(|tail| [base.clone(), tail].concat()));
        }
    }
    named
}

/// A circle of files or folders in one folder, if there is one: each names the next by its own path. A
/// name that is taken from the folder, `super::Context`, is no file's.
fn circle(floor: &str, modules: &[Module]) -> Option<Vec<String>> {
    let folders: BTreeSet<&[String]> =
        modules.iter().flat_map(|(path, _)| (0..path.len()).map(|end| &path[..end])).collect();
    for folder in folders {
        let within = |path: &[String]| path.strip_prefix(folder)?.first().cloned();
        let entries: BTreeSet<_> = modules.iter().filter_map(|(path, _)| within(path)).collect();
        let edges: BTreeSet<(String, String)> = modules
            .iter()
            .filter_map(|module| Some((within(&module.0)?, named(floor, module))))
            .flat_map(|(from, named)| {
                let to: Vec<_> = named.iter().filter_map(|path| within(path)).collect();
                to.into_iter().map(move |to| (from.clone(), to))
            })
            .filter(|(from, to)| from != to && entries.contains(to))
            .collect();
        // What names no other, or only such, is in no circle.
        let mut left = entries.clone();
        while let Some(leaf) = left
            .iter()
            .find(|of| !edges.iter().any(|(from, to)| from == *of && left.contains(to)))
            .cloned()
        {
            left.remove(&leaf);
        }
        let Some(mut at) = left.first() else { continue };
        let mut way = Vec::new();
        while !way.contains(at) {
            way.push(at.clone());
            let next = edges.iter().find(|(from, to)| from == at && left.contains(to));
            at = &next.expect("it names one that is left").1;
        }
        return Some(way.split_off(way.iter().position(|of| of == at).unwrap_or_default()));
    }
    None
}

#[test]
fn no_files_of_the_lower_floors_name_each_other_in_a_circle() {
    for floor in WITHOUT_CIRCLES {
        let modules = modules(floor);
        assert!(modules.iter().map(|module| named(floor, module).len()).sum::<usize>() > 2);
        assert_eq!(circle(floor, &modules), None, "in {floor}/");
    }
}

#[test]
fn the_check_catches_a_circle() {
    let of = |files: &[(&str, &str)]| {
        let module = |(path, text): &(&str, &str)| {
            let parts = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned);
            (parts.collect(), text.to_string())
        };
        circle("f", &files.iter().map(module).collect::<Vec<_>>())
    };
    let (a, b) = (("a", "use super::b::B;"), ("b", "fn b() -> super::a::A {}"));
    assert_eq!(of(&[a, b]), Some(vec!["a".into(), "b".into()]));
    let twice = ("b", "fn b(b: super::B) -> super::a::A {}");
    assert_eq!(of(&[a, twice]), Some(vec!["a".into(), "b".into()]));
    assert_eq!(of(&[a, ("b", "use super::A; // super::a::A")]), None);
    assert_eq!(of(&[a, ("", "use super::a::A;"), ("b", "fn b() {}")]), None);
    let grouped = ("b", "use super::{\n    C,\n    c::{self, D},\n};");
    assert_eq!(of(&[a, grouped, ("c", "use crate::f::a;")]).map(|way| way.len()), Some(3));
    assert_eq!(of(&[a, grouped, ("c", "pub(in crate::f) fn a() {}")]), None);
    // A folder is one, whichever of its files it is; and within a folder the same holds.
    let deep = ("b/x", "use super::super::a::A;");
    assert_eq!(of(&[a, deep]).map(|way| way.len()), Some(2));
    let (x, y) = (("b/x", "use super::y::Y;"), ("b/y", "use super::x::X;"));
    assert_eq!(of(&[("a", ""), x, y]), Some(vec!["x".into(), "y".into()]));
    assert_eq!(of(&[x, ("b/y", "use super::X;"), ("b", "use y::Y;")]), None);
    let tests = "mod tests {\n    use super::a::A;\n    use super::super::c::C;\n}\n";
    assert_eq!(of(&[("a", tests), ("c", "use super::a::A;")]).map(|way| way.len()), Some(2));
    assert_eq!(of(&[("a", "mod tests {\n    use super::c::C;\n}"), ("c", "use super::a;")]), None);
}

/// What a program imports, and the feature that has it.
const FEATURES: [(&str, &str); 10] = [
    ("http", "http"),
    ("web", "http"),
    ("siege", "http"),
    ("browser", "http"),
    ("ws", "ws"),
    ("Inspect", "inspect"),
    ("tls", "tls"),
    ("tls_peer", "tls"),
    ("process", "process"),
    ("Signal", "process"),
];

/// A file of a program, as far as it matters where other files are.
struct Source<'a> {
    text: &'a str,
    /// Where it is, which a `#[path]` begins with.
    folder: &'a Path,
    /// Where its modules are.
    modules: &'a Path,
}

/// Returns the features without which this file, and those that are its modules, import nothing.
/// `open` answers the text of a file, if there is one.
fn needs(
    source: &Source<'_>,
    open: &mut dyn FnMut(&Path) -> Option<String>,
) -> BTreeSet<&'static str> {
    let mut needs = BTreeSet::new();
    // The features of a line that switches the next item on, to the end of that item.
    let mut gate: Option<&str> = None;
    let (mut path, mut import) = (None::<&str>, None::<String>);
    for line in source.text.lines() {
        if let Some(named) = line.strip_prefix("#[path = \"") {
            path = Some(named.trim_end_matches("\"]"));
        } else if line.starts_with("use waterwheel::") || line.starts_with("use support::") {
            import = Some(line.to_owned());
        } else if let Some(import) = &mut import {
            import.push_str(line);
        } else if line.starts_with("#[cfg(") && line.contains("feature") {
            gate = Some(line);
        }
        if !line.ends_with(';') {
            continue;
        }
        let mut wants = BTreeSet::new();
        if let Some(module) = line.strip_prefix("mod ") {
            wants = in_module(source, module.trim_end_matches(';'), path.take(), open);
        }
        let import = import.take().unwrap_or_default();
        let words = import.split(|c: char| !c.is_alphanumeric() && c != '_');
        // `support::process` runs examples, and needs nothing.
        let words = words.filter(|word| *word != "process" || import.starts_with("use waterwheel"));
        let features = words.filter_map(|word| FEATURES.iter().find(|(name, _)| *name == word));
        wants.extend(features.map(|(_, feature)| *feature));
        let gate = gate.take().unwrap_or_default();
        let has = with_those_that_they_bring(gate);
        needs.extend(wants.into_iter().filter(|want| !has.contains(*want)));
    }
    needs
}

fn in_module(
    source: &Source<'_>,
    module: &str,
    path: Option<&str>,
    open: &mut dyn FnMut(&Path) -> Option<String>,
) -> BTreeSet<&'static str> {
    let below = source.modules.join(module);
    let files = match path {
        Some(path) => vec![source.folder.join(path)],
        None => vec![below.with_extension("rs"), below.join("mod.rs")],
    };
    let found = files.iter().find_map(|file| open(file).map(|text| (file, text)));
    let (file, text) = found.unwrap_or_else(|| panic!("no file for {module}: {files:?}"));
    let folder = file.parent().unwrap();
    let modules = if path.is_some() { folder } else { &below };
    needs(&Source { text: &text, folder, modules }, open)
}

/// The features that are named in a line, in quotes.
fn with_those_that_they_bring(line: &str) -> BTreeSet<String> {
    let names = line.split('"').skip(1).step_by(2);
    let brings = |name| match name {
        "ws" | "inspect" => vec![name, "http"],
        name => vec![name],
    };
    names.flat_map(brings).map(str::to_owned).collect()
}

/// The value of a line `key = …` in a table of a manifest, as it stands there.
fn value<'a>(table: &'a str, key: &str) -> Option<&'a str> {
    table.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
}

/// The features that a manifest asks for, for this program; with those that they bring.
fn declared(manifest: &str, kind: &str, name: &str) -> BTreeSet<String> {
    let name = format!("\"{name}\"");
    let tables = manifest.split("\n[").filter(|table| table.starts_with(&format!("[{kind}]]")));
    let table = tables.into_iter().find(|table| value(table, "name") == Some(&name));
    let features = table.and_then(|table| value(table, "required-features"));
    with_those_that_they_bring(features.unwrap_or_default())
}

/// The folders of the packages, and what is in them.
const PACKAGES: [(&str, &str); 5] = [
    ("", "example"),
    ("examples/more", "example"),
    ("tests", "test"),
    ("benches", "bench"),
    ("benches/peers", "example"),
];

/// The files of the programs of a package, each with its name: those that its manifest lists, and of
/// the library those that Cargo finds.
fn programs(folder: &Path, manifest: &str, kind: &str) -> Vec<(String, PathBuf)> {
    let tables = manifest.split("\n[").filter(|table| table.starts_with(&format!("[{kind}]]")));
    let listed = tables.filter_map(|table| {
        let path = value(table, "path")?.trim_matches('"');
        Some((value(table, "name")?.trim_matches('"').to_owned(), folder.join(path)))
    });
    let listed: Vec<_> = listed.collect();
    if !listed.is_empty() {
        return listed;
    }
    let found = fs::read_dir(folder.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let found = found.filter(|path| path.extension().is_some_and(|rs| rs == "rs"));
    found.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path)).collect()
}

#[test]
fn each_program_says_in_the_manifest_which_features_it_needs() {
    for (folder, kind) in PACKAGES {
        let folder = home().join(folder);
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let programs = programs(&folder, &manifest, kind);
        assert!(!programs.is_empty(), "{} has no programs", folder.display());
        for (name, file) in programs {
            let text = fs::read_to_string(&file).unwrap();
            let declared = declared(&manifest, kind, &name);
            let mut emptied = Vec::new();
            let mut open = |path: &Path| {
                let text = fs::read_to_string(path).ok()?;
                if is_emptied(&text) {
                    emptied.push(path.to_owned());
                }
                Some(text)
            };
            let parent = file.parent().unwrap();
            let source = Source { text: &text, folder: parent, modules: parent };
            let needs = needs(&source, &mut open);
            let missing: Vec<_> = needs.iter().filter(|need| !declared.contains(**need)).collect();
            assert!(missing.is_empty(), "[[{kind}]] {name} needs required-features = {missing:?}");
            assert!(!is_emptied(&text), "{name}: its features belong into Cargo.toml");
            assert!(emptied.is_empty(), "{emptied:?}: the features belong to the line `mod …;`");
        }
    }
}

/// Returns true if the first lines of a file leave it out where a feature is missing. Cargo refuses to
/// run a program without its features; an empty one would pass.
fn is_emptied(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("#![cfg") && line.contains("feature"))
}

/// Cargo looks for none of them by itself.
#[test]
fn no_file_of_tests_is_in_no_program() {
    let folder = home().join("tests");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let mut seen = BTreeSet::new();
    for (_, file) in programs(&folder, &manifest, "test") {
        let text = fs::read_to_string(&file).unwrap();
        let parent = file.parent().unwrap();
        let source = Source { text: &text, folder: parent, modules: parent };
        needs(&source, &mut |path| {
            let text = fs::read_to_string(path).ok()?;
            seen.insert(path.to_owned());
            Some(text)
        });
        seen.insert(file);
    }
    let tests = sources(&folder).into_iter().filter(|file| {
        file.extension().is_some_and(|rs| rs == "rs") && !file.starts_with(folder.join("support"))
    });
    for file in tests {
        assert!(seen.contains(&file), "{} is in no program of tests/Cargo.toml", file.display());
    }
}

#[test]
fn the_check_catches_a_feature_that_is_not_named() {
    let needs = |text: &str| {
        let folder = Path::new("a");
        let mut open = |path: &Path| {
            let name = path.strip_prefix("a").ok()?.with_extension("");
            Some(format!("use waterwheel::net::{{\n    {},\n}};\n", name.display()))
        };
        Vec::from_iter(needs(&Source { text, folder, modules: folder }, &mut open))
    };
    assert_eq!(needs("use waterwheel::protocols::http::{self, Reply};\n"), ["http"]);
    assert_eq!(needs("use support::web::{Lab, ok};\n"), ["http"]);
    assert_eq!(
        needs("use waterwheel::protocols::{\n    tls,\n    ws::Socket,\n};\n"),
        ["tls", "ws"]
    );
    assert_eq!(needs("#[path = \"ws\"]\nmod peer;\nuse waterwheel::Signal;\n"), ["process", "ws"]);
    assert_eq!(needs("mod tcp;\nmod tls;\n"), ["tls"]);
    assert!(needs("#[cfg(feature = \"ws\")]\n#[path = \"ws\"]\nmod peer;\n").is_empty());
    assert!(needs("#[cfg(feature = \"ws\")]\nmod http;\n").is_empty());
    assert_eq!(needs("#[cfg(feature = \"http\")]\nmod ws;\nmod tcp;\n"), ["ws"]);
    assert!(
        needs("#[cfg(feature = \"tls\")]\nuse waterwheel::protocols::tls;\nuse with::http;")
            .is_empty()
    );
    let manifest = "[features]\nws = []\n\n[[test]]\nname = \"a\"\nrequired-features = [\"ws\"]\n\
        \n[[bench]]\nname = \"b\"\n";
    assert_eq!(Vec::from_iter(declared(manifest, "test", "a")), ["http", "ws"]);
    assert!(declared(manifest, "test", "b").is_empty());
    assert!(declared(manifest, "bench", "b").is_empty());
}

/// Programs that each POSIX system has.
const POSIX: [&str; 7] = ["cat", "grep", "mkfifo", "no-such-program", "sh", "sleep", "true"];

/// The program that a line of a test starts by a name that not every machine knows.
fn client(line: &str) -> Option<&str> {
    let name = line.split("Command::new(\"").nth(1)?.split('"').next()?;
    (!POSIX.contains(&name) && !name.starts_with('/')).then_some(name)
}

#[test]
fn tests_are_skipped_without_their_clients() {
    // They are run by `--ignored` alone, by somebody who has installed what they want.
    let asked_for = [("inject.rs", "strace"), ("slowhttptest.rs", "slowhttptest")];
    for file in sources(&home().join("tests")) {
        let text = fs::read_to_string(&file).unwrap();
        let clients = text.lines().filter(|_| !file.ends_with("layering.rs")).filter_map(client);
        for client in clients {
            let is_asked_for =
                asked_for.iter().any(|(name, of)| file.ends_with(name) && *of == client);
            let file = file.display();
            assert!(is_asked_for, "{file}: {client} belongs into tests/support/clients.rs");
        }
    }
    assert_eq!(client("let nc = std::process::Command::new(\"nc\").arg(x);"), Some("nc"));
    assert_eq!(client("Command::new(\"sh\").args([\"-c\", code])"), None);
    assert_eq!(client("Command::new(python)"), None);
}

/// Words that comments and pages were cleared of, and what to write instead. Most are riddles to a
/// reader whose first language is another. With `///` in front a word must not begin a doc comment,
/// with `;` not the second half of a sentence.
const GIVEN_UP: [(&str, &str); 60] = [
    ("told", "gets, receives, learns; an event is delivered"),
    ("tell", "deliver, report, announce, say"),
    ("tells", "delivers, reports, announces, says"),
    ("hear", "receive, get"),
    ("hears", "receives, gets"),
    ("heard", "received, got"),
    ("/// whether", "\"Returns true if\"; for a field \"True if\""),
    ("; whether", "a sentence of its own: \"Returns true if\""),
    ("whether that", "a sentence with a subject"),
    ("whom", "a noun: which client, which server"),
    ("whoever", "a noun: the client that, the code that"),
    ("for ever", "forever, or without end"),
    ("ever after", "from then on"),
    ("in vain", "without success, or what is missing"),
    ("for want of", "if there is no"),
    ("but for", "except"),
    ("nobody but", "only"),
    ("all but", "everything except, or nearly"),
    ("as good as", "nearly, or counts as"),
    ("all the same", "nevertheless, or equal"),
    ("becomes of", "a sentence with the result as its subject"),
    ("become of", "a sentence with the result as its subject"),
    ("should it", "if it"),
    ("should a", "if a"),
    ("should the", "if the"),
    ("should nothing", "if nothing"),
    ("answers how", "returns how"),
    ("were it", "if it were"),
    ("be it", "or"),
    ("as it were", "nothing"),
    ("come what may", "always"),
    ("shall", "must, will, or is to"),
    ("anew", "again, or from zero"),
    ("afresh", "again, or from zero"),
    ("good-bye", "close, or announce the end"),
    ("goodbye", "close, or announce the end"),
    ("lest", "so that … not"),
    ("thereby", "so"),
    ("therein", "in it"),
    ("thereof", "of it"),
    ("wherein", "in which"),
    ("whereby", "by which"),
    ("whereof", "of which"),
    ("whence", "from where"),
    ("whither", "to where"),
    ("hence", "so"),
    ("henceforth", "from now on"),
    ("hitherto", "until now"),
    ("till", "until"),
    ("thus", "so"),
    ("upon", "on"),
    ("amid", "in the middle of"),
    ("amidst", "in the middle of"),
    ("whilst", "while"),
    ("albeit", "although"),
    ("save for", "except"),
    ("let alone", "a sentence of its own"),
    ("no sooner", "as soon as"),
    ("by and by", "later"),
    ("ought", "should, must"),
];

/// The words of a source's comments, or of a page, each with its line, in lower case. What stands in
/// backquotes is one word, a backquote, and so are code (a picture is none) and each end of a part of
/// a sentence: no phrase reaches across it.
fn comment_words(text: &str, is_page: bool) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    let (mut in_block, mut is_picture, mut in_docs) = (false, false, false);
    for (number, line) in (1..).zip(text.lines()) {
        let start = line.trim_start();
        let comment = match start.strip_prefix("//") {
            _ if is_page => Some(line),
            Some(comment) => Some(comment.trim_start_matches(['/', '!'])),
            None => {
                words.push((number, "`".to_owned()));
                line.split_once(" // ").map(|(_, comment)| comment)
            }
        };
        let is_docs = !is_page && start.starts_with("///");
        if is_docs && !in_docs {
            words.push((number, "///".to_owned()));
        }
        in_docs = is_docs;
        let is_fence = comment.is_some_and(|comment| comment.trim_start().starts_with("```"));
        in_block ^= is_fence;
        is_picture = if is_fence { line.ends_with("```text") } else { is_picture };
        let is_text = !is_fence && (!in_block || is_picture);
        let comment = comment.filter(|_| is_text).unwrap_or("`");
        for (nth, piece) in comment.split('`').enumerate() {
            let apart = |text: &str| text.replace(';', " ; ").replace(['.', ':', ','], " ` ");
            let piece = if nth % 2 == 0 { apart(piece) } else { "`".to_owned() };
            let plain = piece.split_whitespace().map(|word| {
                word.trim_matches(|c: char| !c.is_alphanumeric() && c != ';' && c != '`')
            });
            words.extend(plain.map(|word| (number, word.to_lowercase())));
        }
    }
    words
}

/// The given-up words in a text: the line, the word, and what to write instead.
fn given_up(text: &str, is_page: bool) -> Vec<(usize, &'static str, &'static str)> {
    let words = comment_words(text, is_page);
    let first: BTreeSet<&str> = GIVEN_UP.iter().filter_map(|(p, _)| p.split(' ').next()).collect();
    let at = |from: usize, phrase: &str| {
        let mut rest = words[from..].iter();
        let is_next = |word| rest.next().is_some_and(|(_, found)| found == word);
        phrase.split(' ').all(is_next)
    };
    let begun = words.iter().enumerate().filter(|(_, (_, word))| first.contains(&**word));
    let found = begun.flat_map(|(from, (line, _))| {
        let phrases = GIVEN_UP.iter().filter(move |(phrase, _)| at(from, phrase));
        phrases.map(|(phrase, instead)| (*line, *phrase, *instead))
    });
    found.collect()
}

#[test]
fn words_that_were_given_up_do_not_come_back() {
    let pages = ["README.md", "CONTRIBUTING.md", "glossary.md", "lib.rs"];
    let folders = FLOORS.map(|(floor, _)| floor).into_iter().chain(["examples"]);
    let files = folders.flat_map(|folder| sources(&home().join(folder)));
    let files = files.chain(pages.map(|page| home().join(page)));
    let mut found = Vec::new();
    for file in files.filter(|file| file.extension().is_some_and(|end| end == "rs" || end == "md"))
    {
        let text = fs::read_to_string(&file).unwrap();
        let is_page = file.extension().is_some_and(|end| end == "md");
        let name = file.strip_prefix(home()).unwrap_or(&file).display();
        for (line, word, instead) in given_up(&text, is_page) {
            found.push(format!("{name}:{line}: {word:?}; instead: {instead}"));
        }
    }
    assert!(found.is_empty(), "{} given-up words:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_check_finds_a_given_up_word_in_a_comment_and_nowhere_else() {
    let words = |text| {
        let found = given_up(text, false).into_iter();
        found.map(|(line, word, _)| (line, word)).collect::<Vec<_>>()
    };
    assert_eq!(words("//! One line.\n//! The handler is Told, once."), [(2, "told")]);
    assert_eq!(words("/// Whether it is open.\nfn is_open() {}"), [(1, "/// whether")]);
    assert_eq!(words("/// Sends it; whether all went.\n"), [(1, "; whether")]);
    assert_eq!(words("    // It is done for\n    // want of room."), [(1, "for want of")]);
    assert_eq!(words("let x = 1; // Kept (for ever)."), [(1, "for ever")]);
    assert_eq!(given_up("A page says whom.", true).len(), 1);
    // Code, a name in backquotes, a block, another line's end, and a longer word.
    assert!(words("let told = \"told\";\n/// See `told`.\nfn told() {}").is_empty());
    assert!(words("/// ```\n/// told(1);\n/// ```\n/// It says whether it is open.").is_empty());
    assert!(words("x(); // It is for\ny(); // ever, and thusly").is_empty());
    assert!(given_up("```sh\n told\n```\n", true).is_empty());
    assert_eq!(words("//! ```text\n//!   a ──told──▶ b\n//! ```"), [(2, "told")]);
    let is_lower = |word: &str| word == word.to_lowercase();
    assert!(GIVEN_UP.iter().all(|(word, instead)| is_lower(word) && !instead.is_empty()));
}

/// Names that the code of these floors was cleared of, and what to write instead.
const NAMES_GIVEN_UP: [(&str, &str); 42] = [
    ("Seat", "Group"),
    ("seat", "group"),
    ("farewell", "closes_itself"),
    ("keep_farewell", "set_closes_itself"),
    ("forget_farewell", "clear_closes_itself"),
    ("has_farewell", "closes_itself"),
    ("goodbye", "the end"),
    ("say_goodbye", "announce_end"),
    ("says_goodbye", "must_announce_end"),
    ("owe", "ask_for_drained, or what is pending"),
    ("owes", "has_own_unsent, or what is pending"),
    ("Owed", "Pending"),
    ("owed", "pending, due"),
    ("flush_owed", "flush_own"),
    ("owes_drained", "awaits_drained; is_drained_due"),
    ("owe_drained_when_empty", "ask_for_drained_when_empty"),
    ("Amid", "the middle of what"),
    ("amid", "the middle of what"),
    ("is_amid", "is_mid_message"),
    ("hear", "receive"),
    ("hears", "notes_traffic"),
    ("heard", "received; last_traffic"),
    ("has_heard", "has_received"),
    ("note_heard", "note_traffic"),
    ("HearsCuts", "EofAtCut"),
    ("HEARS_CUTS", "EOF_AT_CUT"),
    ("open_hearing_cuts", "open_with_eof_at_cut"),
    ("is_one_peer", "has_one_peer"),
    ("Told", "what was delivered"),
    ("told", "delivered, reported"),
    ("tell", "deliver, report"),
    ("tells", "delivers, reports"),
    ("has_told", "has_delivered"),
    ("tells_room", "reports_room"),
    ("may_tell_drained", "may_deliver_drained"),
    ("Trouble", "an error, such as AcceptError"),
    ("trouble", "failure; pending_error"),
    ("Ether", "Medium"),
    ("ether", "medium"),
    ("Knock", "Connect"),
    ("knock", "connect_arrived"),
    ("afresh", "without_marks"),
];
/// The floors that were cleared of these names.
const FLOORS_WITH_NAMES: [&str; 4] = ["net", "protocols", "process", "inspect"];

/// The same for the protocols alone. A message of HTTP is a request or a response, on either side.
const PROTOCOL_NAMES_GIVEN_UP: [(&str, &str); 13] = [
    ("Ask", "ClientRequest"),
    ("ask", "request"),
    ("Asked", "a request"),
    ("asked", "a request, or a count of requests"),
    ("Answer", "ClientResponse"),
    ("answer", "response; for a reply, respond"),
    ("AnswerHead", "ClientResponseHead"),
    ("Keeper", "Reaper"),
    ("keeper", "reaper"),
    ("Leash", "SourceGuard"),
    ("leash", "guard"),
    ("Phase", "a state or a stage; a phase is one of the turn"),
    ("Facts", "what they are about"),
];
/// Names that the code of all floors, of the examples and of the pages was cleared of.
const NAMES_GIVEN_UP_EVERYWHERE: [(&str, &str); 1] = [("Unplugged", "VirtualSource")];

/// The given-up names in the code of a text, each with its line, also in what its comments quote; a
/// text in quotes may say anything.
fn names_given_up(
    text: &str,
    given_up: &[(&'static str, &'static str)],
) -> Vec<(usize, &'static str, &'static str)> {
    let code = |line: &str| -> String {
        let mut parts = line.split(" //");
        let (code, comment) = match line.trim_start().starts_with("//") {
            true => ("", line),
            false => (parts.next().unwrap_or(line), parts.next().unwrap_or("")),
        };
        let quoted = comment.split('`').skip(1).step_by(2);
        code.split('"').step_by(2).chain(quoted).collect::<Vec<_>>().join(" ")
    };
    let found = (1..).zip(text.lines()).flat_map(|(number, line)| {
        let code = code(line);
        let names: BTreeSet<&str> =
            code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let found = given_up.iter().filter(|(name, _)| names.contains(name));
        found.map(|(name, instead)| (number, *name, *instead)).collect::<Vec<_>>()
    });
    found.collect()
}

#[test]
fn names_that_were_given_up_do_not_come_back() {
    let mut found = Vec::new();
    for floor in FLOORS_WITH_NAMES {
        let own: &[_] = if floor == "protocols" { &PROTOCOL_NAMES_GIVEN_UP } else { &[] };
        let given_up = [&NAMES_GIVEN_UP, own].concat();
        let files = sources(&home().join(floor)).into_iter();
        // A page speaks to its readers, and has other names.
        for file in files.filter(|file| file.extension().is_some_and(|kind| kind == "rs")) {
            let name = file.strip_prefix(home()).unwrap_or(&file).display();
            let text = fs::read_to_string(&file).unwrap();
            for (line, word, instead) in names_given_up(&text, &given_up) {
                found.push(format!("{name}:{line}: {word}; instead: {instead}"));
            }
        }
    }
    let pages = ["README.md", "CONTRIBUTING.md", "glossary.md", "lib.rs"].map(|p| home().join(p));
    let folders = FLOORS.map(|(floor, _)| floor).into_iter().chain(["examples", "benches"]);
    for file in folders.flat_map(|folder| sources(&home().join(folder))).chain(pages) {
        let name = file.strip_prefix(home()).unwrap_or(&file).display();
        let text = fs::read_to_string(&file).unwrap();
        for (line, word, instead) in names_given_up(&text, &NAMES_GIVEN_UP_EVERYWHERE) {
            found.push(format!("{name}:{line}: {word}; instead: {instead}"));
        }
    }
    assert!(found.is_empty(), "{} given-up names:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_check_finds_a_given_up_name_in_code_and_in_what_comments_quote() {
    let names = |text| {
        let found = names_given_up(text, &PROTOCOL_NAMES_GIVEN_UP).into_iter();
        found.map(|(line, name, _)| (line, name)).collect::<Vec<_>>()
    };
    assert_eq!(names("let x = 1;\nlet ask = Ask::get(x);"), [(2, "Ask"), (2, "ask")]);
    assert_eq!(names("/// A [`Leash`].\nx(); // By `self.keeper`."), [(1, "Leash"), (2, "keeper")]);
    // A longer name, a text, a comment's own words.
    assert!(names("let asks = task.answered(\"ask\"); // Ask for a leash.").is_empty());
    assert!(names("/// Answer it, or ask again.\nfn respond() {}").is_empty());
    let everywhere = names_given_up("register(Unplugged, ready);", &NAMES_GIVEN_UP_EVERYWHERE);
    assert_eq!(everywhere, [(1, "Unplugged", "VirtualSource")]);
}

/// An entry of the glossary: its terms, and the code that is named in front of the colon, which is
/// what the term is, and behind it. What other loops call it is left out.
struct Entry {
    terms: Vec<String>,
    is: Vec<String>,
    names: Vec<String>,
}

/// Every second piece of a text, from the second on: what stands between these marks.
fn between(text: &str, mark: &str) -> Vec<String> {
    text.split(mark).skip(1).step_by(2).map(str::to_owned).collect()
}

fn entries(page: &str) -> Vec<Entry> {
    let entries = page.split("\n* ").skip(1).map(|entry| {
        let entry = entry.split("\n#").next().unwrap_or_default().replace("\n ", "");
        let ours = entry.split("*Elsewhere*").next().unwrap_or_default();
        let (head, body) = ours.split_once(": ").unwrap_or((ours, ""));
        let [is, names] = [head, body].map(|text| between(text, "`"));
        Entry { terms: between(head, "**"), is, names }
    });
    entries.collect()
}

fn name_of(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The names that a text makes public: of items and fields, of what an enum or a trait consists of,
/// and of what is taken over from another crate.
fn public_names(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut in_body = false;
    for line in text.lines() {
        let item = line.trim_start();
        in_body &= line != "}";
        in_body |= ["pub enum ", "pub trait "].iter().any(|start| line.starts_with(start));
        let public = item.strip_prefix("pub ");
        if let Some(used) = public.and_then(|item| item.strip_prefix("use ")) {
            names.extend(used.split(|c: char| !c.is_alphanumeric() && c != '_'));
        } else if public.is_some() || in_body {
            let item = public.unwrap_or(item);
            let kinds =
                ["const fn ", "fn ", "struct ", "enum ", "trait ", "type ", "const ", "mod "];
            let named = kinds.iter().find_map(|kind| item.strip_prefix(kind)).unwrap_or(item);
            names.insert(name_of(named));
        }
    }
    names
}

fn all_floors() -> String {
    FLOORS.iter().map(|(floor, _)| floor_text(floor)).collect()
}

#[test]
fn the_glossary_names_only_what_there_is() {
    let page = fs::read_to_string(home().join("glossary.md")).unwrap();
    let text = all_floors();
    let (public, all) = (public_names(&text), words(&text));
    let entries = entries(&page);
    assert!(entries.len() > 100, "{} entries", entries.len());
    let parts = |code: &String| -> Vec<String> {
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    for Entry { terms, is, names } in &entries {
        for name in is.iter().flat_map(parts) {
            assert!(public.contains(&*name), "{terms:?}: {name} is not public");
        }
        for name in names.iter().flat_map(parts) {
            // A file is a path from the root.
            let is_there = all.contains(&name) || page.contains(&format!("/{name}."));
            assert!(
                is_there || name == "rs" || home().join(&name).exists(),
                "{terms:?}: no {name}"
            );
        }
    }
}

#[test]
fn each_term_of_the_glossary_has_one_entry_under_its_floor() {
    let page = fs::read_to_string(home().join("glossary.md")).unwrap();
    let mut seen = BTreeSet::new();
    for Entry { terms, .. } in entries(&page) {
        assert!(!terms.is_empty(), "an entry begins with its term, in bold");
        for term in terms.iter().flat_map(|terms| terms.split(", ")) {
            assert!(seen.insert(term.to_owned()), "{term} has two entries");
        }
    }
    let floors: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let floors = floors.join(" ").to_lowercase();
    let at: Vec<_> = FLOORS.map(|(floor, _)| floors.find(floor)).into();
    assert!(at.is_sorted() && at[0].is_some(), "the floors, from the bottom: {floors}");
}

#[test]
fn the_check_of_the_glossary_reads_an_entry() {
    let page = "# A\n\n## B\n\n* **a (of b)** (`X::y`): see `z`, or\n  **c**. *Elsewhere*: `uv_q`.\n\n## C\n\n* **d**: e\n";
    let entries = entries(page);
    let [first, second] = &entries[..] else { panic!("{} entries", entries.len()) };
    assert_eq!((&*first.terms, &*first.is), (&["a (of b)".into()][..], &["X::y".into()][..]));
    assert_eq!((&*first.names, &*second.terms), (&["z".into()][..], &["d".into()][..]));
    let text = "pub enum E {\n    Variant(u8),\n}\nstruct Hidden {\n    pub field: u8,\n    own: u8,\n}\n\
        pub trait T {\n    fn method(&self);\n}\nimpl E {\n    pub const fn new() {}\n    fn private() {}\n}\n\
        pub(crate) fn inner() {}\npub use mio::Interest;\n";
    let names = public_names(text);
    for name in ["E", "Variant", "field", "T", "method", "new", "Interest"] {
        assert!(names.contains(name), "{name}");
    }
    for name in ["Hidden", "own", "private", "inner"] {
        assert!(!names.contains(name), "{name}");
    }
}

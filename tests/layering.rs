//! What the sources may not say: each layer knows only those below it, each program names the
//! features that it needs, and no test starts a client that a machine may not have.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use support::home;

/// The floors, from the bottom, and the crates and modules that a floor must not name. No floor names
/// one above it, and every floor leaves `async` and `unsafe` out.
const FLOORS: [(&str, &[&str]); 6] = [
    ("timers", &["mio", "slab", "socket2"]),
    ("reactor", &["net", "socket2"]),
    ("patterns", &["mio", "socket2"]),
    ("net", &["http", "tls", "ws", "rustls", "httparse"]),
    ("protocols", &["slab", "socket2"]),
    ("process", &["slab", "socket2"]),
];
const KEYWORDS: [&str; 3] = ["async", "await", "unsafe"];
/// Only `timers/clock.rs` asks for the time.
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
    let clock = || if file.ends_with("timers/clock.rs") { None } else { clock().copied() };
    word.copied().or_else(looks_up).or_else(clock)
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

#[test]
fn no_floor_names_one_above_it() {
    for (floor, _) in FLOORS {
        let files = sources(&home().join(floor));
        assert!(!files.is_empty(), "{floor} has no sources");
        for file in files {
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
    for floor in ["patterns", "net", "protocols", "process"] {
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
    let floors: [(&str, &[&str]); 3] =
        [("patterns", &below_net), ("protocols", &below_protocols), ("process", &below_protocols)];
    for (floor, below) in floors {
        let used = used_of_the_crate(&floor_text(floor), below);
        assert!(used.is_empty(), "{floor}/ uses what is not public: {used:?}");
    }
    let used = used_of_the_crate("reactor.register_unmasked(x, Readiness::SAID)", &below_net);
    assert_eq!(used, ["register_unmasked"]);
}

/// What a program imports, and the feature that has it.
const FEATURES: [(&str, &str); 9] = [
    ("http", "http"),
    ("web", "http"),
    ("siege", "http"),
    ("browser", "http"),
    ("ws", "ws"),
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
    let brings = |name| if name == "ws" { vec!["ws", "http"] } else { vec![name] };
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

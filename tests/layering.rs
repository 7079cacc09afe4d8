//! What the sources may not say: each layer knows only those below it, each program names the
//! features that it needs, and no test starts a client that a machine may not have.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a layer must not name. Every layer leaves `async` and `unsafe` out.
const FORBIDDEN: [(&str, &[&str]); 3] = [
    ("timers", &["mio", "reactor", "net", "slab", "socket2"]),
    ("reactor", &["net", "socket2"]),
    ("net", &[]),
];
const KEYWORDS: [&str; 3] = ["async", "await", "unsafe"];
/// Only `timers/clock.rs` asks for the time.
const CLOCK: [&str; 5] =
    ["Instant::now", "SystemTime", ".elapsed()", "Timestamp::now", "Zoned::now"];

/// The word that a line of code of that file must not contain; comments may say anything.
fn offence(layer: &str, file: &Path, line: &str) -> Option<&'static str> {
    let code = line.split("//").next()?;
    let (_, above) = FORBIDDEN.iter().find(|(name, _)| *name == layer)?;
    let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let word = KEYWORDS.iter().chain(*above).find(|word| words.contains(word));
    let clock = || CLOCK.iter().find(|read| code.contains(**read));
    word.or_else(|| if file.ends_with("timers/clock.rs") { None } else { clock() }).copied()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

#[test]
fn no_layer_looks_up() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (layer, _) in FORBIDDEN {
        let files = sources(&root.join(layer));
        assert!(!files.is_empty(), "{layer} has no sources");
        for file in files {
            for (number, line) in (1..).zip(fs::read_to_string(&file).unwrap().lines()) {
                let word = offence(layer, &file, line);
                assert_eq!(word, None, "{}:{number}: {line}", file.display());
            }
        }
    }
}

#[test]
fn the_check_catches_an_offending_line() {
    let check = |layer, line| offence(layer, Path::new("layer/file.rs"), line);
    assert_eq!(check("timers", "use mio::Token;"), Some("mio"));
    assert_eq!(check("timers", "use crate::reactor;"), Some("reactor"));
    assert_eq!(check("reactor", "mio::net::TcpStream::connect(address)"), Some("net"));
    assert_eq!(check("net", "let now = Instant::now();"), Some("Instant::now"));
    assert_eq!(check("net", "unsafe { libc::close(3) }"), Some("unsafe"));
    assert_eq!(check("reactor", "/// no `async`, and `Instant::now` only below"), None);
    assert_eq!(check("net", "#![forbid(unsafe_code)]"), None);
    assert_eq!(offence("timers", Path::new("/x/timers/clock.rs"), "Instant::now()"), None);
}

/// What a program imports, and the feature that has it.
const FEATURES: [(&str, &str); 5] =
    [("http", "http"), ("ws", "ws"), ("tls", "tls"), ("child", "process"), ("Signal", "process")];

/// The features without which these lines, and the files that they name, import nothing.
fn needs(text: &str, open: &dyn Fn(&str) -> String) -> BTreeSet<&'static str> {
    let mut needs = BTreeSet::new();
    // From here on a feature's own line, to the end of the item that it switches on.
    let mut is_gated = false;
    let mut import = None::<String>;
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("#[path = \"") {
            let text = if is_gated { String::new() } else { open(path.trim_end_matches("\"]")) };
            needs.extend(self::needs(&text, open));
        } else if line.starts_with("use waterwheel::") || import.is_some() {
            let import = import.get_or_insert_default();
            import.push_str(line);
        }
        is_gated |= line.starts_with("#[cfg(") && line.contains("feature");
        if line.ends_with(';') {
            let import = import.take().filter(|_| !is_gated).unwrap_or_default();
            let words = import.split(|c: char| !c.is_alphanumeric() && c != '_');
            let features = words.filter_map(|word| FEATURES.iter().find(|(name, _)| *name == word));
            needs.extend(features.map(|(_, feature)| *feature));
            is_gated = false;
        }
    }
    needs
}

/// The features that the manifest asks for, for this program; with those that they bring.
fn declared(manifest: &str, kind: &str, name: &str) -> BTreeSet<String> {
    let name = format!("name = \"{name}\"");
    let of_kind = manifest.split("\n[").filter(|table| table.starts_with(&format!("[{kind}]]")));
    let table = of_kind.into_iter().find(|table| table.lines().any(|line| line == name));
    let features = table
        .and_then(|table| table.lines().find_map(|line| line.strip_prefix("required-features = ")));
    let names = features.unwrap_or_default().split('"').skip(1).step_by(2);
    let brings = |name| if name == "ws" { vec!["ws", "http"] } else { vec![name] };
    names.flat_map(brings).map(str::to_owned).collect()
}

#[test]
fn each_program_says_in_the_manifest_which_features_it_needs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for (kind, folder) in [("test", "tests"), ("example", "examples"), ("bench", "benches")] {
        let folder = root.join(folder);
        let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        for file in files.filter(|path| path.extension().is_some_and(|rs| rs == "rs")) {
            let text = fs::read_to_string(&file).unwrap();
            let name = file.file_stem().unwrap().to_str().unwrap();
            let declared = declared(&manifest, kind, name);
            let needs = needs(&text, &|path| fs::read_to_string(folder.join(path)).unwrap());
            let missing: Vec<_> = needs.iter().filter(|need| !declared.contains(**need)).collect();
            assert!(missing.is_empty(), "[[{kind}]] {name} needs required-features = {missing:?}");
            // Cargo refuses to run a program without its features; an empty one would pass.
            let is_emptied = text.lines().any(|line| {
                line.starts_with("#![cfg") && line.contains("feature") // its own first lines
            });
            assert!(!is_emptied, "{name}: its features belong into Cargo.toml");
        }
    }
}

#[test]
fn the_check_catches_a_feature_that_is_not_named() {
    let needs = |text: &str| {
        let open = |path: &str| format!("use waterwheel::net::{{\n    {path},\n}};\n");
        Vec::from_iter(needs(text, &open))
    };
    assert_eq!(needs("use waterwheel::net::http::{self, Reply};\n"), ["http"]);
    assert_eq!(
        needs("use waterwheel::net::{\n    tcp, tls,\n    ws::Socket,\n};\n"),
        ["tls", "ws"]
    );
    assert_eq!(needs("#[path = \"ws\"]\nmod peer;\nuse waterwheel::Signal;\n"), ["process", "ws"]);
    assert!(needs("#[cfg(feature = \"ws\")]\n#[path = \"ws\"]\nmod peer;\n").is_empty());
    assert!(
        needs("#[cfg(feature = \"tls\")]\nuse waterwheel::net::tls;\nuse with::http;").is_empty()
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
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")) {
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

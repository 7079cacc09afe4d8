//! Each layer knows only those below it: the sources are read, and a name that looks up fails.

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

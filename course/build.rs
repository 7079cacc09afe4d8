//! Before a chapter's check is compiled: its file, which is the starter until the student writes it;
//! and which files of earlier chapters are the student's own (`cargo learn keep`).

use std::fs;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=.kept");
    let kept = fs::read_to_string(".kept").unwrap_or_default();
    let mut chapters: Vec<_> = fs::read_dir(".").expect("the course").flatten().collect();
    chapters.sort_by_key(fs::DirEntry::file_name);
    for chapter in chapters {
        let Ok(text) = fs::read_to_string(chapter.path().join("README.md")) else { continue };
        let Some(file) = text.split("*You write `").nth(1).and_then(|rest| rest.split('`').next())
        else {
            continue;
        };
        let file = chapter.path().join(file);
        // A file that is not there makes Cargo run this again, and so it comes back.
        println!("cargo::rerun-if-changed={}", file.display());
        let starter = chapter.path().join("starter.rs");
        if !file.exists() && Path::new(&starter).exists() {
            fs::copy(&starter, &file).expect("the chapter's file can be written");
        }
    }
    for number in kept.split_whitespace() {
        println!("cargo::rustc-cfg=kept=\"{number}\"");
    }
}

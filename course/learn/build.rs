//! Puts the course's own files into the program, so that whatever happens to them while a student's
//! program runs can be undone.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What a chapter's folder has, apart from the file that the student writes.
const FILES: [&str; 9] = [
    "README.md",
    "breaks.rs",
    "check.rs",
    "hints.md",
    "mutants.txt",
    "predict.rs",
    "run.rs",
    "solution.rs",
    "starter.rs",
];

fn main() {
    let course = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the course");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", course.join("Cargo.toml").display());
    let mut table = String::from("pub static FILES: &[(&str, &str)] = &[\n");
    let mut folders: Vec<_> = fs::read_dir(course).expect("the course").flatten().collect();
    folders.sort_by_key(fs::DirEntry::file_name);
    for folder in folders {
        let name = folder.file_name().to_string_lossy().into_owned();
        let files: Vec<String> = if name == "quizzes" || name == "articles" {
            println!("cargo::rerun-if-changed={}", folder.path().display());
            let inside = fs::read_dir(folder.path()).expect("a folder").flatten();
            let mut inside: Vec<_> =
                inside.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
            inside.sort();
            inside
        } else if name.starts_with(|first: char| first.is_ascii_digit()) {
            FILES.map(str::to_owned).to_vec()
        } else {
            continue;
        };
        for file in files {
            let path = folder.path().join(&file);
            println!("cargo::rerun-if-changed={}", path.display());
            if path.exists() {
                let path = path.display().to_string();
                writeln!(table, "    ({:?}, include_str!({path:?})),", format!("{name}/{file}"))
                    .expect("a text grows");
            }
        }
    }
    table.push_str("];\n");
    let out = std::env::var_os("OUT_DIR").expect("Cargo names a folder");
    fs::write(Path::new(&out).join("files.rs"), table).expect("it can be written");
}

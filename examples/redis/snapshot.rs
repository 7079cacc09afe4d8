//! The snapshot: a file of the requests that would make all keys again, and a last one that says
//! so.
//!
//! It is written to another name, synced and renamed: the file is always whole, the old or the new.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::commands::{Call, Run};
use super::db::{Db, Value};
use super::resp::{Parser, Replies};
use super::server::Server;

/// Elements in one request, so that none grows too long.
const ELEMENTS_PER_REQUEST: usize = 1000;
const END: &[u8] = b"*1\r\n$3\r\nEND\r\n";

/// All keys as requests.
pub fn of(db: &Db) -> Vec<u8> {
    let mut out = Replies::default();
    for (key, value, end) in db.iter() {
        let mut strings: Vec<Vec<u8>> = Vec::new();
        let (name, size) = match value {
            Value::String(text) => {
                strings.push(text.clone());
                ("SET", 1)
            }
            Value::List(list) => {
                strings.extend(list.iter().map(|item| item.to_vec()));
                ("RPUSH", 1)
            }
            Value::Hash(hash) => {
                strings.extend(
                    hash.iter().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]),
                );
                ("HSET", 2)
            }
            Value::Set(set) => {
                strings.extend(set.iter().map(|member| member.to_vec()));
                ("SADD", 1)
            }
            Value::Sorted(sorted) => {
                let text = |score| super::resp::double(score).into_bytes();
                strings.extend(
                    sorted.iter().flat_map(|(score, member)| [text(score), member.to_vec()]),
                );
                ("ZADD", 2)
            }
        };
        for some in strings.chunks(ELEMENTS_PER_REQUEST * size) {
            request(&mut out, name, key, some);
        }
        if let Some(end) = end {
            request(&mut out, "PEXPIREAT", key, &[end.to_string().into_bytes()]);
        }
    }
    out.bytes.extend_from_slice(END);
    out.bytes
}

fn request(out: &mut Replies, name: &str, key: &[u8], strings: &[Vec<u8>]) {
    out.array(2 + strings.len());
    out.string(name.as_bytes());
    out.string(key);
    strings.iter().for_each(|text| out.string(text));
}

/// Writes a snapshot in the place of the one before.
pub fn write(file: &Path, all: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let mut out = File::create(&new)?;
    out.write_all(all)?;
    out.sync_all()?;
    fs::rename(&new, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all() // The rename itself.
}

/// Makes the keys of a snapshot; none, if there is no such file.
pub fn load(server: &mut Server, file: &Path) -> Result<(), String> {
    let cannot = |why: &dyn std::fmt::Display| format!("cannot load {}: {why}", file.display());
    let all = match fs::read(file) {
        Ok(all) => all,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot(&error)),
    };
    let Some(mut rest) = all.strip_suffix(END) else { return Err(cannot(&"it has no end")) };
    let mut parser = Parser::default();
    while !rest.is_empty() {
        let length = parser.next(rest).map_err(|error| cannot(&error))?;
        let length = length.ok_or_else(|| cannot(&"it is cut"))?;
        parser.with_strings(rest, |args| {
            let command = server.find(args).map_err(|error| cannot(&error))?;
            let Run::Value(run) = command.run else { return Err(cannot(&"it is no snapshot")) };
            let Server { db, replies, .. } = server;
            run(&mut Call { db, args, replies }).map_err(|error| cannot(&error))
        })?;
        server.replies.bytes.clear();
        rest = &rest[length..];
    }
    Ok(())
}

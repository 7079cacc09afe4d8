//! Lines: a file of text that is its own journal. Whole lines are appended and brought to the disk;
//! at the start an unfinished one, which a crash has left, is cut off.
//!
//! Knows a file; never mentions the loop: a worker calls this.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::Path;

pub struct Lines(File);

impl Lines {
    /// Opens or makes the file, and calls `each` with every line in it, without its end: O(file). Also returns the
    /// bytes that were cut off.
    pub fn open(path: &Path, mut each: impl FnMut(&[u8])) -> Result<(Lines, u64), String> {
        let text = |error: io::Error| error.to_string();
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path).map_err(text)?;
        if !file.metadata().map_err(text)?.is_file() {
            return Ok((Lines(file), 0)); // A pipe or a terminal: nothing to be read again.
        }
        file.try_lock().map_err(|_| "another program has it".to_owned())?;
        let (mut reader, mut line, mut whole) = (BufReader::new(&file), Vec::new(), 0);
        while reader.read_until(b'\n', &mut line).map_err(text)? > 0 && line.ends_with(b"\n") {
            each(&line[..line.len() - 1]);
            whole += line.len() as u64;
            line.clear();
        }
        let torn = line.len() as u64;
        if torn > 0 {
            file.set_len(whole).map_err(text)?;
        }
        Ok((Lines(file), torn))
    }

    /// Writes to a file that somebody else has opened: stdout.
    pub fn of(file: File) -> Lines {
        Lines(file)
    }

    /// Appends lines and brings them to the disk. After an error: what is to be appended again. If
    /// the disk has failed after all was written, that is all of it, since nobody knows what is there.
    pub fn append(&mut self, lines: Vec<u8>) -> Result<(), (Vec<u8>, io::Error)> {
        let mut at = 0;
        while at < lines.len() {
            match self.0.write(&lines[at..]) {
                Ok(0) => return Err((lines[at..].to_vec(), ErrorKind::WriteZero.into())),
                Ok(count) => at += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err((lines[at..].to_vec(), error)),
            }
        }
        match self.0.sync_data() {
            Err(error) if error.kind() != ErrorKind::InvalidInput => Err((lines, error)),
            _ => Ok(()), // A pipe has no disk: EINVAL.
        }
    }
}

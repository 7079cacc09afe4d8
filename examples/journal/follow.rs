//! Follow: reads the lines of a file that others write, through its rotation.
//!
//! Knows files; never mentions the loop: a worker calls this. A file is known by its inode, so one
//! that was renamed is read to its end, also when that happened while nobody looked; then the new one
//! from its start. One that has become shorter is read from its start.
//!
//! # Left out
//! A file that was emptied and has grown beyond the position before anybody looked: it looks the same.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes that are read at once. 64 KiB.
const READ_BYTES: u64 = 64 * 1024;

/// Where to read on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub inode: u64,
    pub at: u64,
}

/// What follows behind the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Perhaps more.
    More,
    /// Nothing in this file: another has its name, and nobody has written to this one since the last
    /// look.
    Nothing,
    /// Nothing: the file was emptied, and these bytes are what was unfinished before.
    Emptied,
}

/// A file that is followed.
pub struct Follow {
    pub path: PathBuf,
    pub position: Position,
    file: Option<File>,
    /// The bytes behind the position, when it was read last.
    unfinished: Vec<u8>,
}

impl Follow {
    /// Reads on at the position, or from the start.
    pub fn new(path: PathBuf, position: Position) -> Follow {
        Follow { path, position, file: None, unfinished: Vec::new() }
    }

    /// The bytes behind the position.
    ///
    /// # Errors
    /// Those of the system; none if there is no such file yet.
    pub fn read(&mut self) -> io::Result<(Vec<u8>, Behind)> {
        if self.file.is_none() {
            self.file = self.open();
        }
        let Some(file) = &mut self.file else { return Ok((Vec::new(), Behind::More)) };
        let (metadata, named) = (file.metadata()?, fs::metadata(&self.path));
        let inode = inode_of(&metadata);
        if inode != self.position.inode {
            self.position = Position { inode, at: 0 };
        }
        if metadata.len() < self.position.at + self.unfinished.len() as u64 {
            return Ok((self.unfinished.clone(), Behind::Emptied));
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.position.at))?;
        file.take(READ_BYTES).read_to_end(&mut bytes)?;
        let is_replaced = named.is_ok_and(|named| inode_of(&named) != inode);
        let is_over = is_replaced && bytes == self.unfinished;
        Ok((bytes, if is_over { Behind::Nothing } else { Behind::More }))
    }

    /// So many of these bytes were taken. Returns true if there may be more at once.
    pub fn took(&mut self, (bytes, behind): &(Vec<u8>, Behind), count: usize) -> bool {
        self.position.at += count as u64;
        self.unfinished = bytes[count..].to_vec();
        match behind {
            Behind::More => return bytes.len() as u64 == READ_BYTES,
            Behind::Nothing => (self.file, self.position) = (None, Position::default()),
            Behind::Emptied => self.position.at = 0,
        }
        true
    }

    /// The file with the position: under its name, or under the one that a rotation gave it.
    fn open(&self) -> Option<File> {
        let inode = self.position.inode;
        let is_same = |file: &File| file.metadata().is_ok_and(|it| inode_of(&it) == inode);
        match File::open(&self.path).ok() {
            Some(file) if inode == 0 || is_same(&file) => Some(file),
            named => self.renamed().and_then(|path| File::open(path).ok()).or(named),
        }
    }

    /// Where the file is that had the name: a rotation leaves it in the same folder.
    fn renamed(&self) -> Option<PathBuf> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let entries = fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
        let mut files =
            entries.flatten().filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
        files.find(|(_, it)| it.is_file() && inode_of(it) == self.position.inode).map(|it| it.0)
    }
}

#[cfg(unix)]
fn inode_of(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// There are none: a file that was renamed is one that has become shorter.
#[cfg(not(unix))]
fn inode_of(_: &Metadata) -> u64 {
    1
}

//! The file of a journal: batches of records, one after the other, each whole or not there.
//!
//! Knows a file; never mentions the loop: a worker calls this.
//!
//! ```text
//!   header   magic 7, version 1, salt 8, CRC-32 of these 4
//!   batch    mark 8 (salt ^ number), length 4, CRC-32 of all else in it 4, records: (length 4, bytes)…
//! ```
//!
//! A batch is written only when the one before is on the disk. So what a crash has torn is the last
//! batch, which nobody relies on yet: it is cut off. A bad batch with a good one behind it was
//! damaged later, and that is an error. No client can put a batch into a record of its own that
//! would be found there: it does not know the salt, a random number of this file.
//!
//! # Left out
//! Finding damage in the last batch: it looks like a torn one.

use std::fs::{File, OpenOptions, remove_file, rename};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::mem;
use std::path::Path;

const MAGIC: &[u8; 7] = b"wheelog";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 20;
const BATCH_HEAD_BYTES: usize = 16;
/// Bytes of a batch of a snapshot: a reader needs memory for one batch.
const SNAPSHOT_BATCH_BYTES: usize = 1024 * 1024;

/// A log that is open for writing.
pub struct Log {
    file: File,
    salt: u64,
    /// The number of the next batch.
    number: u64,
    /// Bytes of the file that are on the disk.
    pub bytes: u64,
    /// True once the system has failed to write what it had taken. From then on nobody knows what
    /// is on the disk: the kernel marks such pages clean, and the next fsync(2) succeeds.
    pub is_broken: bool,
}

impl Log {
    /// Opens or makes a log and calls `replay` with each of its records. Also returns what was cut
    /// off, if anything was.
    pub fn open(
        path: &Path,
        mut replay: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(Log, Option<String>), String> {
        let text = |error: io::Error| error.to_string();
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).open(path).map_err(text)?;
        if !file.metadata().map_err(text)?.is_file() {
            return Err("it is no file".to_owned()); // A device may have no end.
        }
        let mut all = Vec::new();
        file.read_to_end(&mut all).map_err(text)?;
        if all.is_empty() {
            return Log::begin(file, path).map(|log| (log, None)).map_err(text);
        }
        let salt = salt(&all)?;
        let (mut at, mut number) = (HEADER_BYTES, 0);
        while let Some(records) = batch(&all[at..], salt, number) {
            let (mut rest, length) = (records, records.len());
            while let Some((record, others)) = split(rest) {
                replay(record).map_err(|error| format!("{error}, in the batch at byte {at}"))?;
                rest = others;
            }
            (at, number) = (at + BATCH_HEAD_BYTES + length, number + 1);
        }
        let later = |from: usize| {
            let mark = all[from..].first_chunk().map_or(0, |mark| u64::from_le_bytes(*mark) ^ salt);
            let may_be = mark > number && mark - number <= all.len() as u64;
            may_be && batch(&all[from..], salt, mark).is_some()
        };
        if (at..all.len()).any(later) {
            return Err(format!("it is damaged at byte {at}: good records follow"));
        }
        let torn = all.len() - at;
        if torn > 0 {
            file.set_len(at as u64).and_then(|()| file.sync_all()).map_err(text)?;
        }
        let note = (torn > 0).then(|| format!("{torn} bytes of an unfinished write are cut off"));
        Ok((Log { file, salt, number, bytes: at as u64, is_broken: false }, note))
    }

    /// Writes a header: the file is empty.
    fn begin(mut file: File, path: &Path) -> io::Result<Log> {
        let salt = RandomState::new().hash_one(path);
        let mut header = [MAGIC, &[VERSION][..], &salt.to_le_bytes()].concat();
        header.extend(crc32(&[&header]).to_le_bytes());
        file.write_all(&header)?;
        file.sync_all()?;
        sync_folder(path)?;
        Ok(Log { file, salt, number: 0, bytes: HEADER_BYTES as u64, is_broken: false })
    }

    /// Makes a log from a snapshot, not yet in the place of another.
    pub fn create(path: &Path, snapshot: super::Snapshot) -> io::Result<Log> {
        let log = Log::filled(path, snapshot);
        if log.is_err() {
            let _ = remove_file(path); // A full disk has no room for half of a snapshot.
        }
        log
    }

    fn filled(path: &Path, snapshot: super::Snapshot) -> io::Result<Log> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        file.set_len(0)?;
        let mut log = Log::begin(file, path)?;
        let (mut records, mut result) = (Vec::new(), Ok(()));
        snapshot(&mut |record| {
            push(&mut records, record);
            if records.len() >= SNAPSHOT_BATCH_BYTES {
                let full = mem::take(&mut records);
                result = mem::replace(&mut result, Ok(())).and_then(|()| log.write(&full));
            }
        });
        result.and_then(|()| log.write(&records)).and_then(|()| log.file.sync_data())?;
        Ok(log)
    }

    /// Takes the place of the log at `path`, with the batches that went to that one since the
    /// snapshot. After an error that one is still in its place.
    pub fn replace(mut self, since: &[Vec<u8>], from: &Path, path: &Path) -> io::Result<Log> {
        since.iter().try_for_each(|records| self.write(records))?;
        self.file.sync_data()?;
        rename(from, path)?;
        self.is_broken = sync_folder(path).is_err(); // Which of both would a crash leave?
        Ok(self)
    }

    /// Stores a batch of records. After an error none of them is there, unless the log is broken.
    pub fn store(&mut self, records: &[u8]) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other("the log could not be written to the disk before"));
        }
        let before = (self.bytes, self.number);
        self.is_broken = true; // Until all of it has gone well.
        let written = self.write(records);
        if written.is_err() {
            // A full disk, most likely. Cut back to what is on it already, the file is as it was.
            (self.bytes, self.number) = before;
            self.file.set_len(self.bytes)?;
        }
        self.file.sync_data()?;
        self.is_broken = false;
        written
    }

    #[cfg(test)]
    pub fn set_file(&mut self, file: File) {
        self.file = file;
    }

    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        let mark = (self.number ^ self.salt).to_le_bytes();
        let length = u32::try_from(records.len()).map_err(io::Error::other)?.to_le_bytes();
        let crc = crc32(&[&mark, &length, records]).to_le_bytes();
        self.file.write_all(&[&mark, &length[..], &crc, records].concat())?;
        self.bytes += (BATCH_HEAD_BYTES + records.len()) as u64;
        self.number += 1;
        Ok(())
    }
}

/// A new name is on the disk when its folder is: fsync(2).
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// The salt in the header.
fn salt(file: &[u8]) -> Result<u64, String> {
    match file.split_at_checked(HEADER_BYTES).map(|(header, _)| header.split_at(16)) {
        _ if !file.starts_with(MAGIC) => Err("it is no journal".to_owned()),
        _ if file.get(7).is_some_and(|version| *version != VERSION) => {
            Err(format!("it is of version {}; this program knows {VERSION}", file[7]))
        }
        Some((head, crc)) if crc == crc32(&[head]).to_le_bytes() => {
            Ok(head.last_chunk().map_or(0, |salt| u64::from_le_bytes(*salt)))
        }
        _ => Err("its header is damaged".to_owned()),
    }
}

/// The records of the batch in front of the bytes, if it is whole and of this number.
fn batch(bytes: &[u8], salt: u64, number: u64) -> Option<&[u8]> {
    let (mark, rest) = bytes.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let records = rest.get(..u32::from_le_bytes(*length) as usize)?;
    let is_whole = u64::from_le_bytes(*mark) == salt ^ number
        && crc32(&[mark, length, records]) == u32::from_le_bytes(*crc);
    is_whole.then_some(records)
}

/// Adds a record to a batch.
pub fn push(batch: &mut Vec<u8>, record: &[u8]) {
    batch.extend_from_slice(&(record.len() as u32).to_le_bytes());
    batch.extend_from_slice(record);
}

fn split(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = records.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// CRC-32 as Ethernet has it (IEEE 802.3): the remainder, bits reversed, by a table of all bytes.
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        crc = (crc >> 8) ^ CRC_TABLE[(crc as u8 ^ byte) as usize];
    }
    !crc
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut crc, mut bit) = (at as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

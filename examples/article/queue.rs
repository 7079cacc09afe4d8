//! beanstalkd's protocol, as a client speaks it: commands out, answers in, no socket.
//!
//! ```text
//!   put 0 0 60 5⏎hello⏎   ───▶                ⏎ is CR LF
//!                         ◀───  INSERTED 1⏎
//!   reserve⏎              ───▶
//!                         ◀───  RESERVED 1 5⏎hello⏎
//! ```
//!
//! Answers come in the order of the commands. While a `reserve` waits for a job, no other command of the
//! same connection is done.

use waterwheel::net::{Codec, Frame, FrameError};

/// Bytes of the first line of an answer, its end included: the longest name has 200.
const LINE_BYTES_MAX: usize = 256;
/// Bytes of a job.
pub const JOB_BYTES_MAX: usize = 65_535;
/// Seconds that a worker has for a job, before another one gets it.
const TIME_TO_RUN: u32 = 60;

pub fn put(body: &[u8]) -> Vec<u8> {
    let head = format!("put 0 0 {TIME_TO_RUN} {}\r\n", body.len());
    [head.as_bytes(), body, b"\r\n"].concat()
}

/// Asks for a job; the answer comes when there is one.
pub const RESERVE: &[u8] = b"reserve\r\n";
/// Asks for a job that is there now.
pub const RESERVE_NOW: &[u8] = b"reserve-with-timeout 0\r\n";

pub fn delete(job: u64) -> Vec<u8> {
    format!("delete {job}\r\n").into_bytes()
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    Inserted(u64),
    /// A job, and its bytes.
    Reserved(u64, &'a [u8]),
    /// There is no job now, or the time for one that the client has is nearly up.
    NoJob,
    Deleted,
    /// The job that was to be deleted is another worker's by now, or gone.
    NotFound,
    /// The queue has not done it, and says why.
    Failed(&'a str),
}

/// The answer in a frame of [`Answers`].
pub fn answer(frame: &[u8]) -> Answer<'_> {
    let line = frame.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = str::from_utf8(line).unwrap_or("no text");
    let mut words = line.split(' ');
    let word = words.next().unwrap_or_default();
    match (word, words.next().and_then(|number| number.parse().ok())) {
        ("INSERTED", Some(job)) => Answer::Inserted(job),
        ("RESERVED", Some(job)) => Answer::Reserved(job, &frame[line.len() + 2..frame.len() - 2]),
        ("TIMED_OUT" | "DEADLINE_SOON", None) => Answer::NoJob,
        ("DELETED", None) => Answer::Deleted,
        ("NOT_FOUND", None) => Answer::NotFound,
        _ => Answer::Failed(line),
    }
}

/// Finds answers in bytes.
#[derive(Clone, Debug, Default)]
pub struct Answers;

impl Codec for Answers {
    fn decode(&mut self, input: &[u8]) -> Result<Option<Frame>, FrameError> {
        let most = input.len().min(LINE_BYTES_MAX);
        let Some(end) = input[..most].windows(2).position(|two| two == b"\r\n") else {
            let too_long = FrameError::TooLong { bytes_max: LINE_BYTES_MAX };
            return if most < LINE_BYTES_MAX { Ok(None) } else { Err(too_long) };
        };
        let mut all = end + 2;
        if let Some(rest) = input[..end].strip_prefix(b"RESERVED ") {
            let bytes = str::from_utf8(rest).ok().and_then(|rest| rest.split_once(' '));
            let bytes = bytes.and_then(|(_, bytes)| bytes.parse::<usize>().ok());
            let bytes =
                bytes.ok_or(FrameError::Malformed("RESERVED, and not a job and a length"))?;
            if bytes > JOB_BYTES_MAX {
                return Err(FrameError::TooLong { bytes_max: JOB_BYTES_MAX });
            }
            all += bytes + 2;
            match input.get(..all) {
                None => return Ok(None),
                Some(all) if all.ends_with(b"\r\n") => {}
                Some(_) => return Err(FrameError::Malformed("a job without an end")),
            }
        }
        Ok(Some(Frame { payload: 0..all, consumed: all }))
    }

    fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        out.extend_from_slice(payload);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a stream that comes in these pieces.
    fn found(pieces: &[&[u8]]) -> Result<Vec<String>, FrameError> {
        let (mut input, mut all) = (Vec::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            while let Some(frame) = Answers.decode(&input)? {
                all.push(format!("{:?}", answer(&input[frame.payload])));
                input.drain(..frame.consumed);
            }
        }
        Ok(all)
    }

    #[test]
    fn answers_are_the_same_wherever_the_stream_is_cut() {
        let stream = b"INSERTED 7\r\nRESERVED 18446744073709551615 4\r\na\r\nb\r\nRESERVED 1 0\r\n\r\n\
            TIMED_OUT\r\nDEADLINE_SOON\r\nDELETED\r\nNOT_FOUND\r\nOUT_OF_MEMORY\r\nINSERTED x\r\n\r\n";
        let expected = [
            "Inserted(7)",
            "Reserved(18446744073709551615, [97, 13, 10, 98])",
            "Reserved(1, [])",
            "NoJob",
            "NoJob",
            "Deleted",
            "NotFound",
            "Failed(\"OUT_OF_MEMORY\")",
            "Failed(\"INSERTED x\")",
            "Failed(\"\")",
        ];
        for cut in 0..=stream.len() {
            let (first, second) = stream.split_at(cut);
            assert_eq!(found(&[first, second]).unwrap(), expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(found(&bytes).unwrap(), expected);
    }

    #[test]
    fn a_stream_of_no_answers_is_refused() {
        let long = "x".repeat(LINE_BYTES_MAX);
        for (stream, error) in [
            (long.as_str(), "longer than 256 bytes"),
            ("RESERVED 1 65536\r\n", "longer than 65535 bytes"),
            ("RESERVED 1 99999999999999999999\r\n", "not a job and a length"),
            ("RESERVED 1 -1\r\n", "not a job and a length"),
            ("RESERVED 1\r\n", "not a job and a length"),
            ("RESERVED 1 2\r\nabcd", "a job without an end"),
        ] {
            let why = found(&[stream.as_bytes()]).unwrap_err().to_string();
            assert!(why.contains(error), "{stream:?}: {why}");
        }
    }

    #[test]
    fn commands_are_those_of_the_protocol() {
        assert_eq!(put(b"hello"), b"put 0 0 60 5\r\nhello\r\n");
        assert_eq!(delete(7), b"delete 7\r\n");
    }
}

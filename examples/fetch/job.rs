//! A job: one URL, and its progress.

use waterwheel::SourceId;
use waterwheel::net::Conn;
use waterwheel::protocols::http::Call;

pub struct Job {
    pub url: String,
    pub call: SourceId<Call>,
    /// The output. Jobs that share it write one after the other.
    pub out: SourceId<Conn>,
    /// 0 until the head is there.
    pub status: u16,
    pub got_bytes: u64,
    /// `None` if the server does not give the number.
    pub total_bytes: Option<u64>,
    pub ended: bool,
}

impl Job {
    pub fn new(url: &str, call: SourceId<Call>, out: SourceId<Conn>) -> Job {
        let (url, status, got_bytes, total_bytes, ended) = (url.to_owned(), 0, 0, None, false);
        Job { url, call, out, status, got_bytes, total_bytes, ended }
    }

    /// The bytes of the whole body, if that number is known.
    fn whole_bytes(&self) -> Option<u64> {
        if self.ended { Some(self.got_bytes) } else { self.total_bytes }
    }
}

/// Returns true if no job before this one still writes to the same output.
pub fn has_turn(jobs: &[Job], at: usize) -> bool {
    jobs[..at].iter().all(|before| before.ended || before.out != jobs[at].out)
}

/// The bytes of all jobs so far, and those of all whole bodies, if that number is known.
pub fn bytes(jobs: &[Job]) -> (u64, Option<u64>) {
    (jobs.iter().map(|job| job.got_bytes).sum(), jobs.iter().map(Job::whole_bytes).sum())
}

//! The reasons why a job has no result.
//!
//! Knows only their names; `mod.rs` finds the reason.

use std::fmt;
use std::io;

/// The reason why a job has no result.
#[derive(Debug)]
pub enum JobError {
    /// As many jobs wait as [`Builder::jobs_max`](crate::reactor::Builder::jobs_max) allows.
    Full,
    /// [`Context::cancel_job`](crate::Context::cancel_job) took it back before it began.
    Cancelled,
    /// Its work panicked, with this message.
    Panicked(String),
    /// There is no worker, and the system refused to start one: `EAGAIN`, see pthread_create(3).
    NoWorker(io::Error),
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobError::Full => f.write_str("too many jobs wait for a worker"),
            JobError::Cancelled => f.write_str("the job was cancelled"),
            JobError::Panicked(message) => write!(f, "the job panicked: {message}"),
            JobError::NoWorker(error) => write!(f, "cannot start a worker thread: {error}"),
        }
    }
}

impl std::error::Error for JobError {}

/// `WouldBlock` for too many, `Interrupted` for a job that was cancelled, the system's own kind for
/// a thread that could not be started.
impl From<JobError> for io::Error {
    fn from(error: JobError) -> io::Error {
        let kind = match &error {
            JobError::Full => io::ErrorKind::WouldBlock,
            JobError::Cancelled => io::ErrorKind::Interrupted,
            JobError::Panicked(_) => io::ErrorKind::Other,
            JobError::NoWorker(error) => error.kind(),
        };
        io::Error::new(kind, error)
    }
}

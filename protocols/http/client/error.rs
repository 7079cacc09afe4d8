//! Why a call has failed.
//!
//! # Read next
//! `transfer.rs`: where the errors come from.

use std::fmt;
use std::io::{self, ErrorKind};

use http::StatusCode;

use crate::net::Reason;
use crate::patterns::Broken;
use crate::protocols::http::Refusal;

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallStage {
    /// Waiting for one of its host's connections.
    Queue,
    /// Looking up, connecting, and the handshakes with a proxy and of TLS.
    Connect,
    /// Sending the request.
    Send,
    /// Waiting for the head of the response.
    Head,
    /// Receiving the body.
    Body,
    /// The call as a whole.
    Total,
}

impl fmt::Display for CallStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CallStage::Queue => "waiting for a connection",
            CallStage::Connect => "connecting",
            CallStage::Send => "sending the request",
            CallStage::Head => "waiting for the response",
            CallStage::Body => "receiving the body",
            CallStage::Total => "the call",
        })
    }
}

/// Why a call has failed. Each names the URL, without its credentials.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The request is not valid. Nothing was sent.
    Request {
        /// Of the call.
        url: Box<str>,
        /// The reason.
        why: Box<str>,
    },
    /// No connection came about: the lookup, connect(2), a proxy or the TLS handshake.
    Connect {
        /// Of the call.
        url: Box<str>,
        /// The error, with every address that was tried.
        error: io::Error,
    },
    /// A limit on time was up.
    Timeout {
        /// Of the call.
        url: Box<str>,
        /// The stage that took too long.
        stage: CallStage,
    },
    /// The connection broke, or ended before the response was whole.
    Lost {
        /// Of the call.
        url: Box<str>,
        /// How far the call had come.
        stage: CallStage,
        /// How the connection ended. `Finished`: the server closed it.
        reason: Reason,
    },
    /// The response is malformed, or two readers might read it differently.
    Refused {
        /// Of the call.
        url: Box<str>,
        /// The reason.
        refusal: Refusal,
    },
    /// The body is longer than the limit on collected bytes.
    TooLong {
        /// Of the call.
        url: Box<str>,
        /// The limit.
        bytes_max: u64,
    },
    /// One more redirect than allowed, or one that leads nowhere.
    Redirect {
        /// Of the call.
        url: Box<str>,
        /// The reason.
        why: Box<str>,
    },
    /// The promise was not settled by its call.
    Promise(Broken),
}

impl Error {
    /// The URL, if a call is behind it.
    pub fn url(&self) -> Option<&str> {
        match self {
            Error::Request { url, .. }
            | Error::Connect { url, .. }
            | Error::Timeout { url, .. }
            | Error::Lost { url, .. }
            | Error::Refused { url, .. }
            | Error::TooLong { url, .. }
            | Error::Redirect { url, .. } => Some(url),
            Error::Promise(_) => None,
        }
    }

    /// Returns true if a limit on time was up, the loop's or the promise's.
    pub fn is_timeout(&self) -> bool {
        match self {
            Error::Timeout { .. } | Error::Promise(Broken::TimedOut(_)) => true,
            Error::Lost { reason: Reason::WriteTimeout, .. } => true,
            Error::Connect { error, .. } => error.kind() == ErrorKind::TimedOut,
            _ => false,
        }
    }
}

impl Error {
    /// The status that a gateway's client gets for this (RFC 9110, 15.6): 504 if a limit on time
    /// was up, 503 if that was the wait for a connection, 400 if the request cannot be sent, and 502 for
    /// all else.
    pub fn gateway_status(&self) -> StatusCode {
        match self {
            Error::Request { .. } => StatusCode::BAD_REQUEST,
            Error::Timeout { stage: CallStage::Queue, .. } => StatusCode::SERVICE_UNAVAILABLE,
            error if error.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Request { url, why } => write!(f, "{url}: the request cannot be sent: {why}"),
            Error::Connect { url, error } => write!(f, "{url}: {error}"),
            Error::Timeout { url, stage } => write!(f, "{url}: {stage} took too long"),
            Error::Lost { url, stage, reason: Reason::Finished } => {
                write!(f, "{url}: the server closed the connection while {stage}")
            }
            Error::Lost { url, stage, reason } => {
                write!(f, "{url}: the connection broke while {stage}: {reason}")
            }
            Error::Refused { url, refusal } => write!(f, "{url}: a bad response: {refusal}"),
            Error::TooLong { url, bytes_max } => {
                write!(f, "{url}: the body is longer than {bytes_max} bytes")
            }
            Error::Redirect { url, why } => write!(f, "{url}: not redirected: {why}"),
            Error::Promise(broken) => broken.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// For promises.
impl From<Broken> for Error {
    fn from(broken: Broken) -> Error {
        Error::Promise(broken)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            _ if error.is_timeout() => ErrorKind::TimedOut,
            Error::Connect { error, .. } => error.kind(),
            Error::Request { .. } => ErrorKind::InvalidInput,
            Error::Lost { reason: Reason::Finished, .. } => ErrorKind::UnexpectedEof,
            Error::Lost { .. } => ErrorKind::ConnectionReset,
            Error::Refused { .. } | Error::TooLong { .. } => ErrorKind::InvalidData,
            _ => ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

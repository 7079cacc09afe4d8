//! Why a message is refused: a status and plain words.
//!
//! # Read next
//! `head.rs`: where most of them come from.

use std::fmt;

use http::StatusCode;

use super::response::Response;

/// Why a message was refused: what a server answers with, and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: u16,
    why: &'static str,
}

impl Refusal {
    pub(crate) const fn new(status: u16, why: &'static str) -> Refusal {
        Refusal { status, why }
    }

    /// 400: not HTTP, or HTTP that two readers might read differently.
    pub(super) const fn bad(why: &'static str) -> Refusal {
        Refusal::new(400, why)
    }

    /// The answer to a request that is refused so.
    pub(crate) fn response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        Response::text(self.why).status(status)
    }

    /// The status of the answer to a request that is refused so.
    pub fn status(self) -> u16 {
        self.status
    }

    /// What is wrong, in a few words.
    pub fn why(self) -> &'static str {
        self.why
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl std::error::Error for Refusal {}

//! Why a message is refused: a status and plain words.
//!
//! # Read next
//! `head.rs`: the source of most refusals.

use std::fmt;

use http::StatusCode;

use super::response::Response;

/// Why a message was refused: a status and a text, for the response and for the log.
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

    /// The response to a request that is refused for this reason.
    pub(crate) fn response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        Response::text(self.why).status(status)
    }

    /// The status of the response to a request that is refused for this reason.
    pub fn status(self) -> u16 {
        self.status
    }

    /// The reason, in a few words.
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

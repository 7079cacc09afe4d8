//! For systems that do not report where a datagram arrived: `packet_info.rs`, always refused.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use super::Arrival;

/// There is none.
#[derive(Debug)]
pub(super) enum Control {}

impl Control {
    pub(super) fn ask<T>(_: &T, _: bool) -> io::Result<Control> {
        Err(unsupported())
    }

    pub(super) fn receive<T>(
        &mut self,
        _: &T,
        _: &mut [u8],
    ) -> io::Result<(usize, SocketAddr, Option<Arrival>)> {
        match *self {}
    }
}

pub(super) fn send_from<T>(_: &T, _: &[u8], _: &SocketAddr, _: IpAddr) -> io::Result<usize> {
    Err(unsupported())
}

fn unsupported() -> io::Error {
    let why = "where a datagram arrives is known on Linux, with the feature packet-info";
    io::Error::new(ErrorKind::Unsupported, why)
}

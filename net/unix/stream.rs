//! Unix streams as the transport of a connection.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;

use mio::net::UnixStream;

use crate::net::transport::Transport;

impl Transport for UnixStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    fn write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [piece] => Write::write(self, piece),
            pieces => self.write_vectored(pieces),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn is_silent(&mut self) -> bool {
        let peeked = socket2::SockRef::from(&*self).peek(&mut [MaybeUninit::uninit()]);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn holds_descriptor(&self) -> bool {
        true
    }

    #[cfg(feature = "peer-cred")]
    fn peer_cred(&self) -> io::Result<super::Credentials> {
        crate::net::cred::of(self)
    }
}

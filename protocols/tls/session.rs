//! The session: one side of a TLS connection, without any I/O.
//!
//! Knows rustls's unbuffered connections; never mentions streams or readiness.
//!
//! Ciphertext goes in, plaintext comes out, and the reverse; all buffers are the caller's:
//!
//! ```text
//!   take_in   [ records … | incomplete ]  ──▶  plain(bytes), records of its own into `out`
//!   seal      plaintext ──▶ `out`
//!   finish    close_notify ──▶ `out`
//! ```
//!
//! The bytes that `take_in` leaves are to be given to it again, unchanged and in front of the next
//! ones: a record is decrypted in place, and only when all of it is there.
//!
//! # Read next
//! `sealed.rs`: where the ciphertext lies.

use std::io::IoSlice;

use rustls::client::UnbufferedClientConnection;
use rustls::server::{Acceptor, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError};
use rustls::unbuffered::{InsufficientSizeError, UnbufferedStatus};
use rustls::{CommonState, Error, ProtocolVersion};

use super::sealed::Sealed;

/// Bytes of plaintext that one record has at most (RFC 8446, 5.1).
pub(super) const RECORD_BYTES: usize = 16 * 1024;
/// Bytes of such a record on the wire, at most: with the header, and all that TLS 1.2 lets a cipher
/// add.
pub(super) const RECORD_WIRE_BYTES: usize = RECORD_BYTES + 5 + 2048;
/// Bytes that a record has on the wire beyond its plaintext, with any cipher there is.
const OVERHEAD_BYTES: usize = 64;

/// One side of a TLS connection.
pub(super) struct Session {
    side: Side,
    /// Looks for the name in the client's first message; rustls does not report it to a
    /// server that has its own buffers. `None` when it is known.
    hello: Option<Box<Acceptor>>,
    server_name: Option<Box<str>>,
    /// True once the peer's close_notify was taken in.
    closed: bool,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
}

/// Calls rustls with the input that is not used up yet, for either side.
macro_rules! process {
    ($side:expr, $input:expr, $status:ident => $then:expr) => {
        match $side {
            Side::Client(client) => {
                let $status = client.process_tls_records($input);
                $then
            }
            Side::Server(server) => {
                let $status = server.process_tls_records($input);
                $then
            }
        }
    };
}

impl Session {
    pub(super) fn client(client: UnbufferedClientConnection, name: &str) -> Session {
        let side = Side::Client(Box::new(client));
        Session { side, hello: None, server_name: Some(name.into()), closed: false }
    }

    pub(super) fn server(server: UnbufferedServerConnection) -> Session {
        let hello = Some(Box::default());
        Session { side: Side::Server(Box::new(server)), hello, server_name: None, closed: false }
    }

    pub(super) fn state(&self) -> &CommonState {
        match &self.side {
            Side::Client(client) => client,
            Side::Server(server) => server,
        }
    }

    pub(super) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    /// Returns true if the peer needs the last sealed bytes to complete its handshake. A server of
    /// TLS 1.3 seals only tickets at the end, and no client waits for those.
    pub(super) fn is_awaited(&self) -> bool {
        let is_server = matches!(self.side, Side::Server(_));
        !is_server || self.state().protocol_version() != Some(ProtocolVersion::TLSv1_3)
    }

    /// Returns true if the peer has announced the end of its input.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Looks at ciphertext that has just come, for the name.
    pub(super) fn look_for_name(&mut self, mut new: &[u8]) {
        while !new.is_empty()
            && let Some(hello) = &mut self.hello
        {
            let read = hello.read_tls(&mut new);
            let accepted = hello.accept();
            match (read, &accepted) {
                (Ok(count), Ok(None)) if count > 0 => {}
                // Found, or broken: then the session reports the error.
                _ => self.hello = None,
            }
            if let Ok(Some(accepted)) = accepted {
                self.server_name = accepted.client_hello().server_name().map(Into::into);
            }
        }
    }

    /// Takes in records; returns how many bytes of `input` are used up. The rest is incomplete.
    ///
    /// # Errors
    /// The peer's mistake. The alert for the peer is in `out`.
    pub(super) fn take_in(
        &mut self,
        input: &mut [u8],
        out: &mut Sealed,
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, Error> {
        let mut at = 0;
        loop {
            let closed = &mut self.closed;
            let rest = &mut input[at..];
            let (done, step) = process!(&mut self.side, rest, status => {
                step(status, out, plain, closed)
            });
            at += done;
            match step {
                Ok(Step::On) => {}
                Ok(Step::Rest) => return Ok(at),
                Err(error) => {
                    self.encode_alert(&mut input[at..], out);
                    return Err(error);
                }
            }
        }
    }

    /// Encodes the alert that rustls has for an error. It stops there: going on, rustls would come
    /// to the bad records again.
    fn encode_alert(&mut self, input: &mut [u8], out: &mut Sealed) {
        while self.state().wants_write() {
            let step = process!(&mut self.side, input, status => {
                step(status, out, &mut |_| {}, &mut false).1
            });
            if step.is_err() {
                return;
            }
        }
    }

    /// Encrypts from `pieces`, behind their first `skip` bytes, `most` bytes at most; returns how
    /// many. `partial` is the input that [`take_in`](Session::take_in) has left.
    ///
    /// The end of a piece is the end of a ring buffer and does not end a record: equal bytes make
    /// equal records.
    ///
    /// # Errors
    /// Nothing may be sent: the session has failed, or its keys are used up.
    pub(super) fn seal(
        &mut self,
        pieces: &[IoSlice<'_>],
        mut skip: usize,
        mut most: usize,
        partial: &mut [u8],
        out: &mut Sealed,
    ) -> Result<usize, Error> {
        let mut parts = pieces.iter().filter_map(|piece| {
            let part = &piece[skip.min(piece.len())..];
            skip -= piece.len() - part.len();
            let part = &part[..part.len().min(most)];
            most -= part.len();
            (!part.is_empty()).then_some(part)
        });
        let Some(first) = parts.next() else { return Ok(0) };
        match parts.next() {
            None => self.write(partial, out, Output::Plain(first)).map(|()| first.len()),
            Some(second) => {
                self.seal_joined([first, second].into_iter().chain(parts), partial, out)
            }
        }
    }

    /// Encrypts parts as if they were one: bytes that do not fill a record wait for the next part.
    #[cold]
    fn seal_joined<'a>(
        &mut self,
        parts: impl Iterator<Item = &'a [u8]>,
        partial: &mut [u8],
        out: &mut Sealed,
    ) -> Result<usize, Error> {
        let (mut record, mut filled, mut sealed) = ([0; RECORD_BYTES], 0, 0);
        for mut part in parts {
            sealed += part.len();
            if filled > 0 {
                let (front, back) = part.split_at(part.len().min(RECORD_BYTES - filled));
                record[filled..filled + front.len()].copy_from_slice(front);
                filled += front.len();
                part = back;
                if filled == RECORD_BYTES {
                    self.write(partial, out, Output::Plain(&record))?;
                    filled = 0;
                }
            }
            let (whole, rest) = part.split_at(part.len() - part.len() % RECORD_BYTES);
            if !whole.is_empty() {
                self.write(partial, out, Output::Plain(whole))?;
            }
            record[filled..filled + rest.len()].copy_from_slice(rest);
            filled += rest.len();
        }
        if filled > 0 {
            self.write(partial, out, Output::Plain(&record[..filled]))?;
        }
        Ok(sealed)
    }

    /// Announces that no more will be sent.
    ///
    /// # Errors
    /// Nothing may be sent: the session has failed, or is in the middle of the handshake.
    pub(super) fn finish(&mut self, partial: &mut [u8], out: &mut Sealed) -> Result<(), Error> {
        self.write(partial, out, Output::CloseNotify)
    }

    fn write(
        &mut self,
        partial: &mut [u8],
        out: &mut Sealed,
        output: Output<'_>,
    ) -> Result<(), Error> {
        loop {
            let (closed, rest) = (&mut self.closed, &mut *partial);
            let sent = process!(&mut self.side, rest, status => {
                write_step(status, out, &output, closed)?
            });
            if sent {
                return Ok(());
            }
        }
    }
}

/// The next thing to be sent.
enum Output<'a> {
    Plain(&'a [u8]),
    CloseNotify,
}

/// How to go on.
enum Step {
    On,
    /// More input is wanted.
    Rest,
}

/// Handles one state of rustls while input is taken in; also returns how many bytes of it are used
/// up.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Sealed,
    plain: &mut dyn FnMut(&[u8]),
    closed: &mut bool,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state, .. } = status;
    let step = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain(record.payload);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Step::On),
            }
        },
        Ok(state) => handle_common(state, out, closed)
            .map(|handled| if handled { Step::On } else { Step::Rest }),
        Err(error) => Err(error),
    };
    (discard, step)
}

/// Handles the states that reading and writing have in common. Returns true if this was one.
fn handle_common<Data>(
    state: ConnectionState<'_, '_, Data>,
    out: &mut Sealed,
    closed: &mut bool,
) -> Result<bool, Error> {
    match state {
        ConnectionState::EncodeTlsData(data) => encode(data, out)?,
        ConnectionState::TransmitTlsData(sent) => sent.done(), // It will be: it is in `out`.
        ConnectionState::PeerClosed => *closed = true,
        // Early data is switched off: there is none.
        _ => return Ok(false),
    }
    Ok(true)
}

/// Puts a record that rustls has made into `out`.
fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Sealed) -> Result<(), Error> {
    let mut room = 0;
    loop {
        match data.encode(&mut out.room(room)[..room]) {
            Ok(count) => {
                out.put(count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                room = required_size;
            }
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
}

/// Handles one state of rustls while output is written. Returns true if the output was sealed.
fn write_step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Sealed,
    output: &Output<'_>,
    closed: &mut bool,
) -> Result<bool, Error> {
    let mut traffic = match status.state? {
        ConnectionState::WriteTraffic(traffic) => traffic,
        state => {
            let on = handle_common(state, out, closed)?;
            return if on { Ok(false) } else { Err(Error::HandshakeNotComplete) };
        }
    };
    let plain_bytes = if let Output::Plain(plain) = output { plain.len() } else { 0 };
    let mut room = plain_bytes + (plain_bytes / RECORD_BYTES + 1) * OVERHEAD_BYTES;
    loop {
        let sealed = match output {
            Output::Plain(plain) => traffic.encrypt(plain, out.room(room)),
            Output::CloseNotify => traffic.queue_close_notify(out.room(room)),
        };
        match sealed {
            Ok(count) => {
                out.put(count);
                return Ok(true);
            }
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                room = required_size;
            }
            Err(EncryptError::EncryptExhausted) => return Err(Error::EncryptError),
        }
    }
}

//! Frames in place of bytes: a codec between a connection and its handler.
//!
//! Knows a codec and a connection.
//!
//! # Read next
//! `link.rs`: two connections joined.

use super::codec::{Codec, FrameError};
use super::conn::Conn;
use super::event::{Event, Reason};
use crate::reactor::{Context, SourceId};

/// An event that a connection delivers to a handler of frames.
#[derive(Debug)]
pub enum Framed<'a> {
    /// A frame, without the bytes that mark its ends.
    Frame(&'a [u8]),
    /// The stream is not a sequence of frames. The handler may still answer; the connection is
    /// closed when this event returns, and `Closed` gives the same reason.
    Error(FrameError),
    /// As [`Event::Drained`].
    Drained,
    /// As [`Event::Eof`].
    Eof,
    /// As [`Event::Closed`].
    Closed(Reason),
}

/// Makes a handler of frames into a handler of bytes.
///
/// An incomplete frame stays in the connection's backlog, so frames longer than
/// [`Limits::backlog_bytes_max`](super::Limits::backlog_bytes_max) (1 MiB) need that raised, too. A
/// handler that deregisters its connection loses the bytes read behind the frame. That is right for
/// a line that asks for TLS (`tls::Server::accept` has an example). If the next protocol may begin
/// in the same read, handle [`Event::Data`] and decode there.
///
/// ```no_run
/// use waterwheel::{Reactor, net::{Framed, Lines, framed, tcp}};
///
/// let mut reactor = Reactor::new()?;
/// tcp::listen(&mut reactor, "127.0.0.1:7001", |reactor, _, incoming| {
///     incoming.open(reactor, framed(Lines::new(1024), |reactor, lines: &mut u32, conn, event| {
///         if let Framed::Frame(line) = event {
///             *lines += 1;
///             let _ = conn.write(reactor, format!("{} bytes\n", line.len()).as_bytes());
///         }
///     }));
/// })?;
/// reactor.run(&mut 0)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn framed<S, C, F>(
    mut codec: C,
    mut handler: F,
) -> impl FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Event<'_>) + 'static
where
    S: 'static,
    C: Codec,
    F: FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Framed<'_>) + 'static,
{
    move |reactor, state, conn, event| match event {
        Event::Data(input) => {
            let mut at = 0;
            // The handler may have closed the connection, or paused it, in answer to a frame.
            let wants_more = |reactor: &Context<S>| {
                reactor.get(conn).is_some_and(|conn| !conn.is_closing() && !conn.is_paused())
            };
            while at < input.len() && wants_more(reactor) {
                match codec.decode(&input[at..]) {
                    Ok(Some(frame)) => {
                        let payload = at + frame.payload.start..at + frame.payload.end;
                        at += frame.consumed;
                        handler(reactor, state, conn, Framed::Frame(&input[payload]));
                    }
                    Ok(None) => break,
                    Err(error) => return refuse(reactor, state, conn, error, &mut handler),
                }
            }
            if let Some(conn) = reactor.get_mut(conn) {
                conn.unread(input.len() - at);
            }
        }
        Event::Drained => handler(reactor, state, conn, Framed::Drained),
        Event::Eof => {
            let rest = reactor[conn].backlog().to_vec();
            if !rest.is_empty() {
                match codec.finish(&rest) {
                    Ok(None) => {}
                    Ok(Some(frame)) => {
                        handler(reactor, state, conn, Framed::Frame(&rest[frame.payload]));
                    }
                    Err(error) => return refuse(reactor, state, conn, error, &mut handler),
                }
            }
            if reactor.get(conn).is_some_and(|conn| !conn.is_closing()) {
                handler(reactor, state, conn, Framed::Eof);
            }
        }
        Event::Closed(reason) => handler(reactor, state, conn, Framed::Closed(reason)),
    }
}

/// Delivers the error to the handler, and closes: no more frames will come.
fn refuse<S: 'static>(
    reactor: &mut Context<S>,
    state: &mut S,
    conn: SourceId<Conn>,
    error: FrameError,
    handler: &mut impl FnMut(&mut Context<S>, &mut S, SourceId<Conn>, Framed<'_>),
) {
    handler(reactor, state, conn, Framed::Error(error));
    if let Some(conn) = reactor.get_mut(conn) {
        conn.close_for(error);
    }
}

impl Conn {
    /// Closes because of a bad frame; the unsent bytes are still sent.
    fn close_for(&mut self, error: FrameError) {
        self.close();
        self.end_with(Reason::Frame(error));
    }
}

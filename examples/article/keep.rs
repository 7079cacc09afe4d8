//! A connection that comes back: it is made again, after a pause, whenever it could not be made or was lost.
//!
//! Knows connections and a codec; what is said over it is its owner's.
//!
//! ```text
//!           made              lost
//!   ───▶ Up ────▶ Frame … ──────────▶ Down ──┐
//!    ▲                                       │ 0.1 s, 0.2 s, … 2 s, each cut short at random: or all
//!    └───────────────────────────────────────┘ that have lost it would come back at the same moment
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use waterwheel::net::tcp::Connect;
use waterwheel::net::{Codec, Conn, Framed, HostPort, Stream, framed};
use waterwheel::patterns::Backoff;
use waterwheel::{Context, SourceId};

use super::cli;

/// How long one attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What happens to a connection that is kept.
pub enum News<'a> {
    Up(SourceId<Conn>),
    Frame(&'a [u8]),
    /// It was there, and is lost. What was written and not answered may have arrived or not.
    Down,
}

type OnNews<S> = dyn Fn(&mut Context<S>, &mut S, News<'_>);

struct Kept<S: 'static, C> {
    addr: String,
    codec: C,
    on: Box<OnNews<S>>,
    /// The pauses that are left; all of them again when a frame has come.
    pauses: RefCell<Box<dyn Iterator<Item = Duration>>>,
}

/// Keeps a connection to `addr` as long as the loop runs.
///
/// # Errors
/// `addr` is no host and port.
pub fn keep<S: 'static, C: Codec + Clone>(
    reactor: &mut Context<S>,
    addr: &str,
    codec: C,
    on: impl Fn(&mut Context<S>, &mut S, News<'_>) + 'static,
) -> std::io::Result<()> {
    addr.parse::<HostPort>()?;
    let (addr, on, pauses) = (addr.to_owned(), Box::new(on), RefCell::new(pauses()));
    connect(reactor, Rc::new(Kept { addr, codec, on, pauses }));
    Ok(())
}

fn pauses() -> Box<dyn Iterator<Item = Duration>> {
    Box::new(Backoff::new(u32::MAX).first(PAUSE_FIRST).most(PAUSE_MAX).pauses())
}

fn connect<S: 'static, C: Codec + Clone>(reactor: &mut Context<S>, kept: Rc<Kept<S, C>>) {
    let connect = Connect::new().timeout(CONNECT_TIMEOUT).keepalive(Some(cli::KEEPALIVE));
    let again = kept.clone();
    let done = move |reactor: &mut Context<S>, state: &mut S, result| match result {
        Ok(stream) => open(reactor, state, stream, again),
        Err(error) => {
            log::info!("{error}");
            connect_later(reactor, again);
        }
    };
    if let Err(error) = connect.open(reactor, &kept.addr, done) {
        log::warn!("{}: {error}", kept.addr); // Out of descriptors, for now.
        connect_later(reactor, kept);
    }
}

fn connect_later<S: 'static, C: Codec + Clone>(reactor: &mut Context<S>, kept: Rc<Kept<S, C>>) {
    let pause = kept.pauses.borrow_mut().next().unwrap_or(PAUSE_MAX);
    reactor.after(pause, move |reactor, _| connect(reactor, kept));
}

fn open<S: 'static, C: Codec + Clone>(
    reactor: &mut Context<S>,
    state: &mut S,
    stream: Stream,
    kept: Rc<Kept<S, C>>,
) {
    cli::say(format_args!("connected to {}", kept.addr));
    let here = kept.clone();
    let handler = move |reactor: &mut Context<S>, state: &mut S, _, event: Framed<'_>| match event {
        Framed::Frame(frame) => {
            *here.pauses.borrow_mut() = pauses();
            (here.on)(reactor, state, News::Frame(frame));
        }
        Framed::Error(error) => log::warn!("{}: {error}", here.addr),
        Framed::Closed(reason) => {
            cli::say(format_args!("lost {}: {reason}", here.addr));
            (here.on)(reactor, state, News::Down);
            connect_later(reactor, here.clone());
        }
        Framed::Drained | Framed::Eof => {}
    };
    let conn = stream.open(reactor, framed(kept.codec.clone(), handler));
    (kept.on)(reactor, state, News::Up(conn));
}

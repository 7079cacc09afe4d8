//! Connecting by name.
//!
//! Knows names and their resolver; `../race.rs` tries the addresses.
//!
//! A lookup blocks, for seconds when a name server is silent, so it is a job
//! ([`Context::offload`]). It does not hold the loop. A lookup that has begun cannot be stopped:
//! its worker is busy until the system gives it up, and if all workers have such a lookup, other
//! jobs wait.
//!
//! # Read next
//! `../codec.rs`: from bytes to frames.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::connect::TcpConnector;
use super::listen::keep_alive;
use crate::net::address::HostPort;
use crate::net::race::{self, enter, race};
use crate::net::stream::Stream;
use crate::reactor::{Context, SourceId};

/// A TCP connection that is being made to a name.
pub type Race = race::Race<TcpConnector>;

/// The time between two attempts, as RFC 8305 (section 8) recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The default of [`Connect::timeout`].
const TIMEOUT: Duration = Duration::from_secs(10);

type Resolver = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Connects to a name and a port, `example.org:80` (see [`HostPort`](crate::net::HostPort) for the
/// forms), and calls `done` once: with the stream, or with an error that lists every address and
/// its error, or says that the name has no address.
/// `timeout` is for all of it, the lookup included. [`Connect`] sets up the rest.
///
/// ```no_run
/// use std::time::Duration;
/// use waterwheel::{Reactor, net::{Event, tcp}};
///
/// let mut reactor = Reactor::new()?;
/// let timeout = Duration::from_secs(5);
/// tcp::connect_name(&mut reactor, "example.org:80", timeout, |reactor, _, result| match result {
///     Ok(stream) => {
///         let conn = stream.open(reactor, |_, _, _, event| println!("{event:?}"));
///         let _ = conn.write(reactor, b"HEAD / HTTP/1.0\r\n\r\n");
///     }
///     Err(error) => eprintln!("{error}"),
/// })?;
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `InvalidInput` if it is not a host and a port. Nothing was begun; `done` will not be called.
#[track_caller]
pub fn connect_name<S, F>(
    reactor: &mut Context<S>,
    name: &str,
    timeout: Duration,
    done: F,
) -> io::Result<SourceId<Race>>
where
    S: 'static,
    F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
{
    Connect::new().timeout(timeout).open(reactor, name, done)
}

/// Sets up [`connect_name`].
///
/// ```no_run
/// use std::time::Duration;
/// use waterwheel::{Reactor, net::tcp};
///
/// let mut reactor = Reactor::<()>::new()?;
/// let connect = tcp::Connect::new()
///     .timeout(Duration::from_secs(5))
///     .resolver(|name| Ok(vec![format!("127.0.0.1:{}", name.len()).parse().unwrap()]));
/// connect.open(&mut reactor, "service.internal:80", |_, _, result| println!("{result:?}"))?;
/// reactor.run(&mut ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Connect {
    timeout: Duration,
    attempt_delay: Duration,
    keepalive: Option<Duration>,
    resolver: Arc<Resolver>,
}

impl Default for Connect {
    fn default() -> Connect {
        let resolver = |name: &str| Ok(name.to_socket_addrs()?.collect());
        Connect {
            timeout: TIMEOUT,
            attempt_delay: ATTEMPT_DELAY,
            keepalive: None,
            resolver: Arc::new(resolver),
        }
    }
}

impl Connect {
    /// The defaults.
    pub fn new() -> Connect {
        Connect::default()
    }

    /// How long all of it may take, from the lookup on. 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Connect {
        self.timeout = timeout;
        self
    }

    /// The time after which the next address is tried, too. 250 ms.
    pub fn attempt_delay(mut self, delay: Duration) -> Connect {
        self.attempt_delay = delay;
        self
    }

    /// Lets the kernel ask a silent peer if it is there; see
    /// [`Listen::keepalive`](super::Listen::keepalive). Off.
    pub fn keepalive(mut self, every: Option<Duration>) -> Connect {
        self.keepalive = every;
        self
    }

    /// The function that finds the addresses of a name such as `example.org:80`, each family in
    /// order of preference. It is called on a worker and may block. The system's getaddrinfo(3).
    pub fn resolver<R>(mut self, resolver: R) -> Connect
    where
        R: Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Connects to `name`; see [`connect_name`]. An address such as `[::1]:80`, also with a zone as
    /// in `[fe80::1%eth0]:80`, is not looked up.
    ///
    /// # Errors
    /// As [`connect_name`].
    #[track_caller]
    pub fn open<S, F>(
        &self,
        reactor: &mut Context<S>,
        name: &str,
        done: F,
    ) -> io::Result<SourceId<Race>>
    where
        S: 'static,
        F: FnOnce(&mut Context<S>, &mut S, io::Result<Stream>) + 'static,
    {
        let times = (self.timeout, self.attempt_delay);
        let address = name.parse::<HostPort>()?.address();
        // It is dropped with the callback, which the race drops when it is over or removed.
        let wanted = Arc::new(());
        let lives = Arc::downgrade(&wanted);
        let keepalive = self.keepalive;
        let done = move |reactor: &mut Context<S>, state: &mut S, result: io::Result<Stream>| {
            drop(wanted);
            if let (Ok(stream), Some(every)) = (&result, keepalive)
                && let Some(socket) = stream.socket()
                && let Err(error) = keep_alive(&socket, every)
            {
                log::debug!("cannot set SO_KEEPALIVE: {error}"); // The peer may be gone already.
            }
            done(reactor, state, result);
        };
        let id = race(reactor, name.to_owned(), times, TcpConnector::to, done)?;
        match address {
            Ok(Some(address)) => enter(reactor, id, Ok(vec![address])),
            Err(error) => enter(reactor, id, Err(error)),
            Ok(None) => self.look_up(reactor, id, lives),
        }
        Ok(id)
    }

    #[track_caller]
    fn look_up<S: 'static>(&self, reactor: &mut Context<S>, id: SourceId<Race>, lives: Weak<()>) {
        let (name, resolver) = (reactor[id].name().to_owned(), self.resolver.clone());
        let look_up = move || match lives.strong_count() {
            0 => Ok(Vec::new()), // Removed before its turn came.
            _ => resolver(&name),
        };
        let job = reactor.offload(look_up, move |reactor, _, found| {
            enter(reactor, id, found.unwrap_or_else(|error| Err(error.into())));
        });
        reactor.unref(job); // The race holds the loop, until it is removed.
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("timeout", &self.timeout)
            .field("attempt_delay", &self.attempt_delay)
            .field("keepalive", &self.keepalive)
            .finish_non_exhaustive()
    }
}

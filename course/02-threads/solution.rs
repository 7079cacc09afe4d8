//! Why not a thread each? A server with a thread for each client, and a limit on their number.
//!
//! # Contract
//! * `start` returns at once. Each client is served by a thread of its own: `serve` is called with
//!   it, and when `serve` returns or panics, the client's connection is closed.
//! * At most `clients_max` clients are served at a time. One more reads exactly `busy\n` and then
//!   the end, and nobody waits for it.
//! * A client's place is free before its connection is closed: a client that reads the end of
//!   its old connection finds room for a new one. A `serve` that panics frees its place, too.
//! * `stop` closes the listener, so no new client comes. Then it waits until each client has been
//!   served to its end. It gives how many were served, those whose `serve` has panicked included.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// What `start` has started.
pub struct Server {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    accepting: JoinHandle<usize>,
}

impl Server {
    /// Serves the clients that come to the listener.
    pub fn start(listener: TcpListener, clients_max: usize, serve: fn(&TcpStream)) -> Server {
        let address = listener.local_addr().expect("a listener has an address");
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let accepting = thread::spawn(move || accept(listener, clients_max, serve, &stop));
        Server { address, stopping, accepting }
    }

    /// Lets no new client come, waits for those that are served, and gives how many were served.
    pub fn stop(self) -> usize {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // `accept` waits. This client wakes it.
        self.accepting.join().expect("the accepting thread does not panic")
    }
}

/// The first thread: accepts until it is to stop. Gives how many clients were served.
fn accept(listener: TcpListener, max: usize, serve: fn(&TcpStream), stop: &AtomicBool) -> usize {
    let (places, mut served) = (AtomicUsize::new(0), 0);
    // The scope ends when all threads in it have ended: it joins them.
    thread::scope(|scope| {
        loop {
            let accepted = listener.accept();
            if stop.load(Ordering::SeqCst) {
                break drop(listener);
            }
            let Ok((mut client, _)) = accepted else { continue };
            if places.load(Ordering::SeqCst) == max {
                let _ = client.write_all(b"busy\n"); // It may have gone.
                continue;
            }
            places.fetch_add(1, Ordering::SeqCst);
            served += 1;
            let places = &places;
            scope.spawn(move || {
                let _ = panic::catch_unwind(AssertUnwindSafe(|| serve(&client)));
                places.fetch_sub(1, Ordering::SeqCst);
                drop(client);
            });
        }
    });
    served
}

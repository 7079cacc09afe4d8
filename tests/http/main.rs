//! HTTP/1.1: the server, the client, and those who mean harm.

mod bodies;
mod client;
mod client_edges;
mod client_queue;
mod early;
mod edges;
mod forward;
mod hostile;
#[cfg(feature = "tls")]
mod https;
mod limits;
mod logged;
mod next;
mod replies;
mod rules;
mod server;
mod smuggling;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod trouble;
mod ways;
mod wire;

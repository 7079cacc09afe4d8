//! What is fuzzed: for each target a function of bytes that panics when a promise is broken.
//!
//! `../../fuzz` gives them to libFuzzer; `main.rs` to `cargo test`, with what the fuzzer has kept
//! and with bytes from a seed.

mod acts;
mod balance;
#[cfg(feature = "http")]
mod chunked;
mod codecs;
mod contract;
mod fold;
#[cfg(feature = "http")]
mod http_request;
#[cfg(feature = "http")]
mod http_response;
mod logs;
mod metrics;
mod mq;
mod mqtt;
mod reactor;
mod redis;
#[cfg(feature = "http")]
mod rpc;
mod scheduler;
mod wheel;
#[cfg(feature = "ws")]
mod ws;

pub use balance::balance;
#[cfg(feature = "http")]
pub use chunked::chunked;
pub use codecs::codecs;
#[cfg(feature = "http")]
pub use http_request::http_request;
#[cfg(feature = "http")]
pub use http_response::http_response;
pub use logs::logs;
pub use metrics::metrics;
pub use mq::mq;
pub use mqtt::{mqtt, mqtt_stream};
pub use reactor::{COMPARED, reactor};
pub use redis::redis;
#[cfg(feature = "http")]
pub use rpc::rpc;
pub use scheduler::scheduler;
pub use wheel::wheel;
#[cfg(feature = "ws")]
pub use ws::ws;

use support::Rng;

/// Longer inputs find nothing that these do not, and slow the fuzzer down.
pub const BYTES_MAX: usize = 4096;

/// Cuts a stream into pieces by chance.
fn cut<'a>(mut stream: &'a [u8], rng: &mut Rng) -> Vec<&'a [u8]> {
    let longest = 1 << rng.below(11);
    let mut pieces = Vec::new();
    while !stream.is_empty() {
        let at = stream.len().min(1 + rng.below(longest) as usize);
        pieces.push(&stream[..at]);
        stream = &stream[at..];
    }
    pieces
}

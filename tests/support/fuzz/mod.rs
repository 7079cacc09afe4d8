//! What is fuzzed: for each target a function of bytes that panics when a promise is broken.
//!
//! `../../../fuzz` gives them to libFuzzer; `../../fuzz_corpus.rs` to `cargo test`, with what the
//! fuzzer has kept and with bytes from a seed.

mod acts;
mod codecs;
mod contract;
mod reactor;
mod wheel;

pub use codecs::codecs;
pub use reactor::reactor;
pub use wheel::wheel;

/// Longer inputs find nothing that these do not, and slow the fuzzer down.
pub const BYTES_MAX: usize = 4096;

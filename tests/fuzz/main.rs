//! The fuzz targets without a fuzzer: what it has kept, and bytes from a seed.
//!
//! With a fuzzer, for as long as one likes:
//! `cargo install cargo-fuzz --locked && cargo +nightly fuzz run reactor`

#[path = "mod.rs"]
mod fuzz;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use fuzz::BYTES_MAX;
use support::{Rng, ceiling};

/// Runs a target over its corpus and over `rounds` inputs from a seed; an input that fails is
/// printed, to be kept.
fn replay(name: &str, rounds: usize, target: fn(&[u8])) {
    let _ceiling = ceiling(Duration::from_secs(120));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let kept: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!kept.is_empty(), "{} is empty", folder.display());
    for file in kept {
        let bytes = fs::read(&file).unwrap();
        let ran = catch_unwind(|| target(&bytes));
        assert!(ran.is_ok(), "{name} fails over {}", file.display());
    }
    let mut rng = Rng::new();
    for round in 0..rounds {
        let longest = if round % 10 == 0 { BYTES_MAX } else { 300 };
        let length = rng.below(longest as u64);
        // Half of them of few different bytes: those choose the same again and again.
        let few = if rng.below(2) == 0 { 256 } else { 1 + rng.below(20) };
        let bytes: Vec<u8> = (0..length).map(|_| rng.below(few) as u8).collect();
        let ran = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
        assert!(ran.is_ok(), "{name} fails over {bytes:?}");
    }
}

#[test]
fn the_wheel_is_a_sorted_map_whatever_the_bytes_ask_of_it() {
    replay("wheel", 3000, fuzz::wheel);
}

#[test]
fn frames_are_those_of_the_definition_whatever_the_bytes_are() {
    replay("codecs", 3000, fuzz::codecs);
}

#[test]
fn requests_of_the_job_queue_are_those_of_the_definition_whatever_the_bytes_are() {
    replay("mq", 6000, fuzz::mq);
}

#[test]
fn messages_of_syslog_are_those_of_the_definition_whatever_the_bytes_are() {
    replay("logs", 1500, fuzz::logs);
}

#[test]
fn the_loop_keeps_its_contract_whatever_the_bytes_ask_of_it() {
    replay("reactor", 3000, fuzz::reactor);
    let compared = fuzz::COMPARED.load(std::sync::atomic::Ordering::Relaxed);
    println!("{compared} states of the loop are those of its records");
    assert!(compared > 10_000, "{compared}");
}

#[test]
fn the_keys_of_redis_are_counted_whatever_the_bytes_ask_of_them() {
    replay("redis", 2000, fuzz::redis);
}

#[test]
fn topics_match_as_a_list_of_filters_does_whatever_the_packets_are() {
    replay("mqtt", 2000, fuzz::mqtt);
    // Bytes from a seed are seldom packets.
    let mut rng = Rng::new();
    for _ in 0..2000 {
        let bytes = fuzz::mqtt_stream(&mut rng);
        let ran = catch_unwind(|| fuzz::mqtt(&bytes));
        assert!(ran.is_ok(), "mqtt fails over {bytes:?}");
    }
}

#[test]
fn upstreams_are_left_out_by_the_rules_whatever_the_bytes_do_to_them() {
    replay("balance", 1000, fuzz::balance);
}

#[test]
fn the_page_of_metrics_is_prometheuss_whatever_the_bytes_are() {
    replay("metrics", 2000, fuzz::metrics);
    replay("metrics", 4000, |bytes| fuzz::metrics(&[&[1], bytes].concat()));
}

#[test]
fn crontabs_records_and_replies_are_those_of_the_definition_whatever_the_bytes_are() {
    replay("scheduler", 5000, fuzz::scheduler);
}

#[cfg(feature = "http")]
#[test]
fn messages_of_rpc_are_those_of_the_definition_whatever_the_bytes_are() {
    replay("rpc", 3000, fuzz::rpc);
}

#[cfg(feature = "http")]
#[test]
fn chunked_bodies_are_those_of_the_grammar_whatever_the_bytes_are() {
    replay("chunked", 6000, fuzz::chunked);
}

#[cfg(feature = "http")]
#[test]
fn requests_are_those_of_the_grammar_whatever_the_bytes_are() {
    replay("http_request", 6000, fuzz::http_request);
}

#[cfg(feature = "ws")]
#[test]
fn messages_are_those_that_tungstenite_finds_whatever_the_bytes_are() {
    replay("ws", 3000, fuzz::ws);
}

#[cfg(feature = "http")]
#[test]
fn answers_are_whole_when_they_are_and_are_not_two_whatever_the_bytes_are() {
    replay("http_response", 3000, fuzz::http_response);
}

//! The upstreams of the example `balance`, whatever happens to them: never more than half are out, none that
//! is out is chosen while there is a healthy one, and retries stay within their budget.
//!
//! The first three bytes choose how many there are and how one is chosen; each one behind them is an event.

#[allow(dead_code)] // Its other part is the program's.
#[path = "../../examples/balance"]
mod example {
    pub mod pool;
}

use std::net::IpAddr;
use std::time::{Duration, Instant};

use example::pool::{By, FAILURES_MAX, Pool, RETRIES_SAVED_MAX, RETRY_PERCENT, UPSTREAMS_MAX};
use support::Rng;

pub fn balance(bytes: &[u8]) {
    let (head, events) = bytes.split_at(bytes.len().min(3));
    let mut rng = Rng::from_bytes(head);
    let count = 1 + rng.below(UPSTREAMS_MAX as u64) as usize;
    let by = [By::Round, By::Least, By::Client][rng.below(3) as usize];
    let mut pool = Pool::new((0..count).map(|at| at.to_string()), by);
    let (mut now, mut requests, mut under_way) = (Instant::now(), 0_u64, Vec::new());
    for event in events {
        let of = usize::from(event / 8);
        match event % 8 {
            0..3 => {
                let tried = if event % 8 == 2 { 1 << (of % count) } else { 0 };
                let client = Some(IpAddr::from([127, 0, 0, of as u8]));
                let healthy: Vec<usize> = (0..count)
                    .filter(|at| {
                        let one = &pool.upstreams[*at];
                        one.out.is_none() && one.failures_in_row < FAILURES_MAX
                    })
                    .collect();
                let outs: Vec<_> = pool.upstreams.iter().map(|one| one.out).collect();
                let at = pool.pick(now, client, tried);
                requests += u64::from(tried == 0 && at.is_some());
                let Some(at) = at else {
                    // All that are in were tried.
                    assert!(tried != 0 && pool.has_healthy(now) || count == 1);
                    continue;
                };
                assert_eq!(tried >> at & 1, 0, "tried before");
                let is_out = outs[at].is_some_and(|until| now < until);
                assert!(!is_out || healthy.is_empty(), "{at} is out, and {healthy:?} are not");
                under_way.push(at);
            }
            3 | 4 if !under_way.is_empty() => {
                let at = under_way.swap_remove(of % under_way.len());
                pool.upstreams[at].under_way -= 1;
                if event % 8 == 3 {
                    pool.works(at, now);
                } else {
                    pool.fails(at, now);
                }
            }
            5 => pool.fails(of % count, now), // A check.
            6 => _ = pool.may_retry(),
            _ => now += Duration::from_millis(1 << (of % 18)),
        }
        let out = pool.upstreams.iter().filter(|one| one.out.is_some()).count();
        assert!(out * 2 <= count, "{out} of {count} are out");
        let earned = RETRIES_SAVED_MAX * 100 + requests * RETRY_PERCENT;
        assert!(pool.retries * 100 <= earned, "{} retries", pool.retries);
        assert!(pool.retry_after(now) <= 61);
        let all: usize = pool.upstreams.iter().map(|one| one.under_way).sum();
        assert_eq!(all, under_way.len());
    }
}

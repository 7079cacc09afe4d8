//! The upstreams: which one is next, which ones are left out, and how often one may try again.
//!
//! Plain data; time is passed in. It never mentions a connection or a message.
//!
//! ```text
//!        FAILURES_MAX in a row, and at most half are out      time is up
//!   in ──────────────────────────────────────────────▶ out ──────────────▶ one a second on trial
//!   ▲                                                   ▲ it fails: twice as long  │
//!   └─────────────────────── it is answered ◀───────────┴──────────────────────────┘
//! ```

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So many upstreams are a set of bits.
pub const UPSTREAMS_MAX: usize = 64;
/// Failures in a row after which an upstream is left out.
pub const FAILURES_MAX: u32 = 3;
/// How long it is left out at first; then twice as long each time, up to the limit.
pub const OUT: Duration = Duration::from_secs(1);
pub const OUT_MAX: Duration = Duration::from_secs(60);
/// Hundredths of a retry that each request earns, as in Finagle's `RetryBudget`: when everything fails,
/// the load grows by a fifth and does not double.
pub const RETRY_PERCENT: u64 = 20;
/// Retries that are saved up; there at the start.
pub const RETRIES_SAVED_MAX: u64 = 100;

/// How an upstream is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// One after the other.
    Round,
    /// The one with the fewest requests under way.
    Least,
    /// Always the same one for the address of a client; if that is out, always the same other one.
    Client,
}

#[derive(Default)]
pub struct Upstream {
    pub name: String,
    /// Until when it is left out. From then on one request in each `OUT` may try.
    pub out: Option<Instant>,
    on_trial: bool,
    /// How often it was left out, since that was forgotten.
    outs: u32,
    back_since: Option<Instant>,
    pub failures_in_row: u32,
    pub under_way: usize,
    pub requests: u64,
    pub failures: u64,
    /// Until the head of a response, averaged: the last one counts an eighth.
    pub latency: Duration,
}

impl Upstream {
    /// A response has begun so long after its request.
    pub fn note(&mut self, after: Duration) {
        let before = if self.latency.is_zero() { after } else { self.latency };
        self.latency = (before * 7 + after) / 8;
    }

    /// Returns true if it may get a request: it is in, or its time is up.
    fn is_open(&self, now: Instant) -> bool {
        self.out.is_none_or(|until| now >= until)
    }

    /// How long it is left out the next time.
    fn out_time(&self) -> Duration {
        (OUT * (1 << self.outs.min(16))).min(OUT_MAX)
    }
}

pub struct Pool {
    pub upstreams: Vec<Upstream>,
    by: By,
    /// Where the next turn begins.
    next: usize,
    /// In hundredths of a retry.
    saved: u64,
    pub retries: u64,
}

impl Pool {
    pub fn new(names: impl IntoIterator<Item = String>, by: By) -> Pool {
        let upstream = |name| Upstream { name, ..Upstream::default() };
        let upstreams: Vec<_> = names.into_iter().map(upstream).collect();
        assert!((1..=UPSTREAMS_MAX).contains(&upstreams.len()));
        Pool { upstreams, by, next: 0, saved: RETRIES_SAVED_MAX * 100, retries: 0 }
    }

    /// Chooses an upstream for a request, none of those in the set `tried`. If all are broken it is one
    /// of those that are out: no worse than no attempt.
    pub fn pick(&mut self, now: Instant, client: Option<IpAddr>, tried: u64) -> Option<usize> {
        let open = self.best(client, tried, |one| one.is_open(now));
        let at = match self.has_healthy(now) {
            true => open?,
            false => open.or_else(|| self.best(client, tried, |_| true))?,
        };
        self.next = (at + 1) % self.upstreams.len();
        let one = &mut self.upstreams[at];
        one.under_way += 1;
        one.requests += 1;
        if one.out.is_some_and(|until| now >= until) {
            (one.out, one.on_trial) = (Some(now + OUT), true); // The next one may try after that.
        }
        if tried == 0 {
            self.saved = (self.saved + RETRY_PERCENT).min(RETRIES_SAVED_MAX * 100);
        }
        Some(at)
    }

    /// The best of those that `may`. O(number of upstreams).
    fn best(
        &self,
        of: Option<IpAddr>,
        tried: u64,
        may: impl Fn(&Upstream) -> bool,
    ) -> Option<usize> {
        let count = self.upstreams.len();
        let turn = (0..count).map(|step| (self.next + step) % count);
        let mut open = turn.filter(|at| tried >> at & 1 == 0 && may(&self.upstreams[*at]));
        match self.by {
            By::Round => open.next(),
            By::Least => open.min_by_key(|at| self.upstreams[*at].under_way),
            // The highest number that client and upstream draw together (rendezvous hashing): without
            // one upstream only its own clients move.
            By::Client => open.max_by_key(|at| draw(of, &self.upstreams[*at].name)),
        }
    }

    /// Returns true if there is an upstream that is not known to be broken.
    pub fn has_healthy(&self, now: Instant) -> bool {
        self.upstreams.iter().any(|one| one.is_open(now) && one.failures_in_row < FAILURES_MAX)
    }

    /// Takes one retry out of the budget, if there is one.
    pub fn may_retry(&mut self) -> bool {
        let may = self.saved >= 100;
        if may {
            self.saved -= 100;
            self.retries += 1;
        }
        may
    }

    /// An upstream has answered, or passed a check. That it had to be left out is forgotten when it has
    /// been back for as long as it would be out: one that flaps is out for longer and longer.
    pub fn works(&mut self, at: usize, now: Instant) {
        let one = &mut self.upstreams[at];
        one.on_trial = false;
        if one.out.take().is_some() {
            one.back_since = Some(now);
        } else if one.back_since.is_some_and(|since| now >= since + one.out_time()) {
            one.outs = 0;
        }
        one.failures_in_row = 0;
    }

    /// It has not, or has failed a check.
    pub fn fails(&mut self, at: usize, now: Instant) {
        let out = self.upstreams.iter().filter(|one| one.out.is_some()).count();
        let may_go = out < self.upstreams.len() / 2;
        let one = &mut self.upstreams[at];
        one.failures += 1;
        one.failures_in_row = one.failures_in_row.saturating_add(1);
        let may_go = one.out.map_or(may_go, |until| now >= until || one.on_trial);
        if one.failures_in_row >= FAILURES_MAX && may_go {
            (one.out, one.on_trial) = (Some(now + one.out_time()), false);
            one.outs += 1;
        }
    }

    /// The seconds until the first that is out may try, 1 at least.
    pub fn retry_after(&self, now: Instant) -> u64 {
        let waits = self.upstreams.iter().filter_map(|one| one.out);
        waits.min().map_or(1, |until| until.saturating_duration_since(now).as_secs() + 1)
    }
}

/// A number for a client and an upstream, the same in every run of this program.
fn draw(client: Option<IpAddr>, upstream: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (client, upstream).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: usize, by: By) -> Pool {
        Pool::new((0..count).map(|at| format!("up{at}")), by)
    }

    fn client(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(number.to_be_bytes()))
    }

    fn fail_out(pool: &mut Pool, at: usize, now: Instant) {
        (0..FAILURES_MAX).for_each(|_| pool.fails(at, now));
    }

    #[test]
    fn each_has_its_turn_and_those_that_were_tried_have_none() {
        let (mut pool, now) = (pool(3, By::Round), Instant::now());
        let picked = [0; 6].map(|_| pool.pick(now, None, 0).unwrap());
        assert_eq!(picked, [0, 1, 2, 0, 1, 2]);
        assert_eq!(pool.pick(now, None, 0b011), Some(2));
        assert_eq!(pool.pick(now, None, 0b111), None);
    }

    #[test]
    fn an_upstream_is_out_for_twice_as_long_each_time_and_then_on_trial() {
        let (mut pool, mut now) = (pool(2, By::Round), Instant::now());
        fail_out(&mut pool, 0, now);
        for (round, seconds) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            let until = pool.upstreams[0].out.unwrap();
            assert_eq!(until - now, Duration::from_secs(seconds), "{round}");
            assert_eq!(pool.retry_after(now), seconds + 1);
            now = until - Duration::from_millis(1);
            assert_eq!([0; 3].map(|_| pool.pick(now, None, 0)), [Some(1); 3]);
            now = until;
            assert_eq!(pool.pick(now, None, 0b10), Some(0), "on trial");
            assert_eq!([0; 3].map(|_| pool.pick(now, None, 0)), [Some(1); 3], "one at a time");
            pool.fails(0, now);
        }
        now += OUT_MAX;
        pool.works(0, now);
        assert_eq!(pool.upstreams[0].out, None);
        fail_out(&mut pool, 0, now);
        assert_eq!(pool.upstreams[0].out, Some(now + OUT_MAX), "it flaps");
        now += OUT_MAX;
        pool.works(0, now);
        now += OUT_MAX;
        pool.works(0, now);
        fail_out(&mut pool, 0, now);
        assert_eq!(pool.upstreams[0].out, Some(now + OUT), "that was forgotten");
    }

    #[test]
    fn long_requests_of_one_that_is_out_do_not_keep_it_out() {
        let (mut pool, now) = (pool(2, By::Round), Instant::now());
        assert_eq!(pool.pick(now, None, 0), Some(0)); // A WebSocket, which stays.
        fail_out(&mut pool, 0, now);
        assert_eq!(pool.pick(now + OUT, None, 0b10), Some(0));
        // The client of that one went before there was a response.
        assert_eq!(pool.pick(now + OUT, None, 0b10), None);
        assert_eq!(pool.pick(now + 2 * OUT, None, 0b10), Some(0));
        pool.works(0, now + 2 * OUT);
        assert_eq!(pool.upstreams[0].out, None);
    }

    #[test]
    fn never_more_than_half_are_out() {
        for count in 1..=UPSTREAMS_MAX {
            let (mut pool, now) = (pool(count, By::Round), Instant::now());
            (0..count).for_each(|at| fail_out(&mut pool, at, now));
            let out = pool.upstreams.iter().filter(|one| one.out.is_some()).count();
            assert_eq!(out, count / 2);
            assert!(!pool.has_healthy(now) && pool.pick(now, None, 0).is_some());
        }
    }

    #[test]
    fn the_fewest_under_way_are_those_of_the_fastest() {
        let (mut pool, now) = (pool(3, By::Least), Instant::now());
        // The first takes four turns for a request, the others one.
        let mut ends = Vec::new();
        for turn in 0..400 {
            let at = pool.pick(now, None, 0).unwrap();
            ends.push((turn + if at == 0 { 4 } else { 1 }, at));
            let at = pool.pick(now, None, 0).unwrap();
            ends.push((turn + if at == 0 { 4 } else { 1 }, at));
            ends.retain(|(end, at)| {
                let is_over = *end <= turn + 1;
                pool.upstreams[*at].under_way -= usize::from(is_over);
                !is_over
            });
        }
        let requests: Vec<u64> = pool.upstreams.iter().map(|one| one.requests).collect();
        assert!(requests[0] * 2 < requests[1] && requests[0] * 2 < requests[2], "{requests:?}");
    }

    #[test]
    fn a_client_stays_where_it_is_and_only_those_of_a_lost_upstream_move() {
        let (mut pool, now) = (pool(5, By::Client), Instant::now());
        let mut counts = [0; 5];
        let before: Vec<usize> =
            (0..10_000).map(|number| pool.pick(now, client(number), 0).unwrap()).collect();
        before.iter().for_each(|at| counts[*at] += 1);
        assert!(counts.iter().all(|count| (1800..2200).contains(count)), "{counts:?}");
        fail_out(&mut pool, 2, now);
        let mut moved = [0; 5];
        for (number, at) in before.into_iter().enumerate() {
            let now_at = pool.pick(now, client(number as u32), 0).unwrap();
            assert!(now_at == at || at == 2, "{number}: {at} to {now_at}");
            moved[now_at] += usize::from(at == 2);
        }
        assert!(moved[2] == 0 && moved.iter().filter(|count| **count > 350).count() == 4);
    }

    #[test]
    fn retries_are_a_fifth_of_the_requests_and_what_was_saved() {
        let (mut pool, now) = (pool(2, By::Round), Instant::now());
        let at_once = (0..1000).filter(|_| pool.may_retry()).count() as u64;
        assert_eq!(at_once, RETRIES_SAVED_MAX);
        let mut later = 0;
        for _ in 0..1000 {
            pool.pick(now, None, 0);
            pool.pick(now, None, 1); // A second attempt earns nothing.
            later += u64::from(pool.may_retry());
        }
        assert_eq!(later, 1000 * RETRY_PERCENT / 100);
        assert_eq!(pool.retries, at_once + later);
    }
}

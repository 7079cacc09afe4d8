//! The wheel against the sorted map, with operations, times and leaps that the bytes choose.

use support::Rng;
use support::wheel::Pair;

pub fn wheel(bytes: &[u8]) {
    let mut rng = Rng::from_bytes(bytes);
    let mut pair = Pair::default();
    pair.quiet = rng.below(2) == 1;
    while !rng.is_spent() {
        match rng.below(16) {
            0 => {
                let ticks = rng.next() >> rng.below(64);
                pair.leap(ticks, &mut rng);
            }
            1..5 => pair.turn(&mut rng),
            _ => pair.meddle(&mut rng),
        }
        pair.check_next_deadline();
    }
    pair.leap(u64::MAX, &mut rng);
    assert!(pair.order.is_empty(), "what is armed expires");
    pair.cancel_all();
}

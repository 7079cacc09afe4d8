//! Predict: two timers, both less than 64 ticks ahead. On which level of the wheel do they stand?

#[path = "solution.rs"]
#[allow(dead_code)]
#[rustfmt::skip]
mod wheel;

fn main() {
    let mut wheel = wheel::Wheel::new();
    wheel.expire(70); // The hand is at 70.
    wheel.arm(70 + 57, "tea");
    wheel.arm(70 + 60, "egg");
    let count = |level: usize| wheel.occupied[level].count_ones();
    println!("level 0: {}, level 1: {}", count(0), count(1));
    println!(
        "answer: {}",
        match (count(0), count(1)) {
            (2, 0) => 'a',
            (1, 1) => 'b',
            (0, 2) => 'c',
            _ => '?',
        }
    );
}

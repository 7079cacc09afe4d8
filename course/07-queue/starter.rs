//! What runs first? A queue with three lanes, which is emptied a turn at a time.
//!
//! # Contract
//! * `push` puts a value behind all that wait in its lane.
//! * `begin_turn` fixes the batch: all values that are in the queue at that moment. It gives their
//!   number.
//! * `pop` gives the batch's next value: High before Normal before Low, and within a lane first in,
//!   first out. It gives `None` when the batch is used up, and before the first turn.
//! * What is pushed after `begin_turn` waits for the next turn, whatever its lane.
//! * All of the batch can be popped in its turn: no value of it waits because of others.
//! * If a turn begins before the batch is used up, nothing is lost: the rest belongs to the new one.

use std::collections::VecDeque;

/// Where a value waits; orders the values of one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    High,
    Normal,
    Low,
}

/// Values that wait for their turn.
pub struct Queue<T> {
    values: VecDeque<T>,
}

impl<T> Queue<T> {
    pub fn new() -> Queue<T> {
        Queue { values: VecDeque::new() }
    }

    pub fn push(&mut self, _lane: Lane, value: T) {
        self.values.push_back(value);
    }

    pub fn begin_turn(&mut self) -> usize {
        // Yours: remember what belongs to this turn. Then: three lanes.
        self.values.len()
    }

    pub fn pop(&mut self) -> Option<T> {
        self.values.pop_front()
    }

    /// How many values wait, in this turn's batch and behind it.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

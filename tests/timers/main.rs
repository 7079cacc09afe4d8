//! Time: the wheel alone, and timers as callbacks see them.

mod ticks;
mod timers;
mod wheel;

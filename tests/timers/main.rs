//! Time: the wheel alone, and timers as callbacks see them.

mod timers;
mod wheel;

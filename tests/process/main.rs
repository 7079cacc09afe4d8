//! Children and signals. A test that sends a signal to its own process runs alone in one.

mod children;
mod signals;

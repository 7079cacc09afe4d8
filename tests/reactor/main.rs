//! The loop: sources, posts, hosts, and callbacks that behave badly.

mod components;
mod embedded;
mod forged;
mod gate;
mod kernel;
mod places;
mod records;
mod remote;
mod stale;
mod unruly;

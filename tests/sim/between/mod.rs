//! The examples between processes: their servers, with clients whose network is slow and fails.

mod mqtt;
mod redis;

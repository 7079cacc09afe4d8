//! The examples between processes: their servers, with clients whose network is slow and fails.

#[cfg(feature = "http")]
mod balance;
mod logs;
mod mq;
mod mqtt;
mod redis;
#[cfg(feature = "http")]
mod rpc;
#[cfg(all(unix, feature = "cron", feature = "http", feature = "process"))]
mod scheduler;

//! The examples between processes: their servers, with clients whose network is slow and fails.

#[cfg(feature = "http")]
mod balance;
mod mq;
mod mqtt;
mod redis;
#[cfg(feature = "http")]
mod rpc;

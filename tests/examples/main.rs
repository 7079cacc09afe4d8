//! The examples: each does what its header promises, with the clients that the header names.

#[cfg(all(target_os = "linux", feature = "http", feature = "process", feature = "tls"))]
mod article;
#[cfg(feature = "http")]
mod balance;
mod cores;
mod ending;
#[cfg(feature = "http")]
mod fetch;
mod headers;
#[cfg(feature = "http")]
mod http;
mod inject;
#[cfg(feature = "http")]
mod live;
#[cfg(feature = "http")]
mod load;
#[cfg(feature = "tls")]
mod logs;
#[cfg(feature = "http")]
mod metrics;
mod mq;
mod mqtt;
mod nc;
mod nc_clients;
mod proxy;
mod redis;
#[cfg(feature = "http")]
mod rpc;
#[cfg(all(unix, feature = "cron", feature = "http", feature = "process"))]
mod scheduler;
#[cfg(all(unix, feature = "cron", feature = "http", feature = "process"))]
mod scheduler_minutes;
#[cfg(all(unix, feature = "cron", feature = "http", feature = "process"))]
mod scheduler_shared;
#[cfg(feature = "process")]
mod shell;
mod socks;
mod vanished;
#[cfg(all(unix, feature = "tls"))]
mod vault;
#[cfg(feature = "ws")]
mod wschat;

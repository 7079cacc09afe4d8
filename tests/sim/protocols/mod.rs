//! What is spoken over those networks.

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http_client;
#[cfg(feature = "http")]
mod http_storm;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "ws")]
mod ws;

//! TLS on the loop.

//! The fuzz targets' bodies, which the ordinary tests share.

#[path = "../tests/support/fuzz/mod.rs"]
pub mod fuzz;
#[path = "../tests/support/mod.rs"]
mod support;

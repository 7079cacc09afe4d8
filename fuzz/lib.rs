//! The fuzz targets' bodies, which the ordinary tests share.

#[path = "../tests/fuzz/mod.rs"]
pub mod fuzz;

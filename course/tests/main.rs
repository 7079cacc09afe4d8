//! The course as a whole: its checks, and its text.

mod chapters;
mod proof;
mod rill;
mod text;

//! What concerns the tree that you have: how its sources are built, how they read, and which tests your
//! machine cannot run. Cargo runs test programs in the order of their names, so this one comes last.

mod layering;
mod machine;
mod reading;

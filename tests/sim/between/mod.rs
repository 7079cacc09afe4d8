//! The servers among the examples that stand between processes, in those networks.

mod mq;

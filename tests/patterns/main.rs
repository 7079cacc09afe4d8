//! Ways to arrange callbacks: promises, the bus, jobs, tasks, and all of them at once.

mod bus;
mod combinators;
#[cfg(feature = "cron")]
mod cron;
mod offload;
mod promises;
mod services;
mod services_chaos;
mod tasks;
mod tasks_chaos;
mod tasks_model;
mod tasks_trouble;

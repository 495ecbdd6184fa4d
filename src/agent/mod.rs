//! Floor 4: the composition root. It joins the rooms with channels of `model` types, supervises them, and stops them
//! in order: collectors, pipeline, spool, last report, MQTT disconnect.
//!
//! Threads: the caller's tokio runtime (hub link, twin, snapshots' schedule), the core (`core.rs`), and the capture
//! threads (`capture.rs`), which `lanes.rs` keeps. Snapshots run on threads of their own (`snapshots/collectors.rs`), and
//! one more listens for devices that come and go (`snapshots/hotplug.rs`).

mod capture;
mod configuration;
mod core;
mod crash_book;
mod crashes;
pub mod diagnostics;
mod keeper;
mod lanes;
mod methods;
mod report;
mod run;
mod snapshots;
mod start;
mod status;
mod storage;
#[cfg(test)]
mod twin_model;
mod unstored;
mod watchdog;

pub use start::{Agent, AgentError, AgentOptions, Handle};
pub use status::{CoreStatus, LinkStatus, QueueStatus, Status, TwinStatus};

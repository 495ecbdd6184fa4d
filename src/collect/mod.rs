//! Collectors: what the machine tells, as observations and snapshots of `model` types.
//!
//! Snapshots are taken with [`snapshot::take`]. What happens streams from a [`Source`], which [`lane::open`] chooses.
//! Each source does no more than say which process did what, and its folder turns that into observations, so that a
//! new source needs no new path.

mod audit;
pub mod baseline;
mod connections;
mod ebpf;
mod fanotify;
pub mod lane;
mod listening_ports;
pub mod logins;
mod owners;
mod process;
pub mod redact;
mod resync;
pub mod snapshot;
pub mod source;
mod system_information;

use crate::model::event::EventName;

pub use source::{BATCH, Coverage, Drained, GATHER, Loss, Source, SourceChoice, SourceError};

/// The events about the device that this version collects.
pub const COLLECTORS: &[EventName] = &[
    EventName::ProcessCreate,
    EventName::ProcessTerminate,
    EventName::ConnectionCreate,
    EventName::Login,
    EventName::ListeningPorts,
    EventName::SystemInformation,
    EventName::OSBaseline,
];

/// Those of [`COLLECTORS`] that are snapshots.
pub const SNAPSHOTS: &[EventName] = &[EventName::ListeningPorts, EventName::SystemInformation, EventName::OSBaseline];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_collector_is_a_snapshot_or_a_stream() {
        for name in COLLECTORS {
            assert_ne!(SNAPSHOTS.contains(name), lane::STREAMS.contains(*name), "{name}");
        }
        assert!(SNAPSHOTS.iter().all(|name| COLLECTORS.contains(name)));
    }
}

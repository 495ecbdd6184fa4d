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
pub mod firewall;
pub mod hardware;
pub mod lane;
mod listening_ports;
mod local_users;
pub mod logins;
#[cfg(test)]
mod machines;
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
    EventName::LocalUsers,
    EventName::ListeningPorts,
    EventName::FirewallConfiguration,
    EventName::SystemInformation,
    EventName::ConnectedHardware,
    EventName::OSBaseline,
];

/// Those of [`COLLECTORS`] that are snapshots.
pub const SNAPSHOTS: &[EventName] = &[
    EventName::LocalUsers,
    EventName::ListeningPorts,
    EventName::FirewallConfiguration,
    EventName::SystemInformation,
    EventName::ConnectedHardware,
    EventName::OSBaseline,
];

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

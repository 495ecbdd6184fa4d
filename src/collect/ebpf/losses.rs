//! What the kernel's programs could not tell.

use std::io;

use crate::collect::Loss;
use crate::model::event::EventName;
use crate::model::event_set::EventSet;
use crate::model::time::Timestamp;
use crate::sys::bpf::{Program, Programs};

const FULL: &str = "the ring between the kernel and the agent was full";
const NO_ROOM: &str = "the ring between the kernel and the agent had no room for connections";
const FLOOD: &str = "more than 200 new UDP peers in a second";

/// Whose records are counted, of which events they are, and why some are lost.
const COUNTED: [(Program, EventName, &str); 4] = [
    (Program::Exec, EventName::ProcessCreate, FULL),
    (Program::Exit, EventName::ProcessTerminate, FULL),
    (Program::Tcp, EventName::ConnectionCreate, NO_ROOM),
    (Program::Udp, EventName::ConnectionCreate, NO_ROOM),
];

/// The counts that were told already.
#[derive(Debug, Default)]
pub(super) struct Losses {
    records: [u64; COUNTED.len()],
    flood: u64,
}

impl Losses {
    /// What those of the programs that run lost since this was asked last, between `start` and `end`.
    pub(super) fn since(
        &mut self,
        programs: &Programs,
        runs: impl Fn(Program) -> bool,
        start: Timestamp,
        end: Timestamp,
    ) -> io::Result<Vec<Loss>> {
        let mut losses = Vec::new();
        let mut count = |told: &mut u64, all: u64, event, reason: &str| {
            let fresh = all.saturating_sub(*told);
            *told = all;
            if fresh > 0 {
                let (events, reason) = (EventSet::of(&[event]), reason.to_owned());
                losses.push(Loss { events, start, end, at_most: Some(fresh), reason });
            }
        };
        for ((program, event, reason), told) in COUNTED.into_iter().zip(&mut self.records) {
            if runs(program) {
                count(told, programs.lost(program)?, event, reason);
            }
        }
        if runs(Program::Udp) {
            count(&mut self.flood, programs.flooded()?, EventName::ConnectionCreate, FLOOD);
        }
        Ok(losses)
    }
}

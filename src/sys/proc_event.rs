//! The messages of the kernel's process connector (`CONFIG_PROC_EVENTS`): one for each fork, exec and exit.
//!
//! Each netlink message carries a `cn_msg` (`linux/connector.h`) and in it a `proc_event` (`linux/cn_proc.h`), in the
//! machine's byte order, not padded in between:
//!
//! ```text
//! cn_msg      0  u32  idx, 1 for this connector       4  u32  val, 1
//!             8  u32  seq: counts the events and answers of one CPU from boot on
//!             12 u32  ack: 0; in an answer, that of the question plus one
//!             16 u16  length of what follows          18 u16  flags
//! proc_event  20 u32  what: 0 answer, 1 fork, 2 exec, 0x8000_0000 exit, others not wanted here
//!             24 u32  CPU; all ones in an answer that is not counted, on old kernels
//!             28 u64  time since boot in ns
//!             36 …    answer: u32 errno
//!                     fork: u32 parent thread, parent process, child thread, child process
//!                     exec: u32 thread, process
//!                     exit: u32 thread, process, exit code, exit signal
//! question    20 u32  1 listen, 2 ignore
//! ```
//!
//! The kernel counts per CPU whether or not a datagram found room, so a hole in `seq` is the exact number of lost
//! messages of all kinds.

use std::collections::BTreeMap;

use super::netlink::{u16_at, u32_at, u64_at};

/// One thing that happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcEvent {
    /// A process (not a mere thread) was made.
    Fork {
        /// Who made it.
        parent: u32,
        /// Its id.
        child: u32,
    },
    /// A process started a program.
    Exec {
        /// Its id.
        pid: u32,
    },
    /// A process (not a mere thread) ended.
    Exit {
        /// Its id.
        pid: u32,
        /// How, as `wait(2)` tells it: the signal in the lowest 7 bits, else the exit code in the 8 bits above.
        status: u32,
    },
}

/// The kernel's own count of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The CPU that counted it.
    pub cpu: u32,
    /// Its number on that CPU.
    pub sequence: u32,
    /// When, on the monotonic clock.
    pub nanoseconds: u64,
}

/// A decoded connector message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The answer to a question of any listener of the machine; `errno` is 0 for yes.
    Answer {
        /// The question's mark.
        to: u32,
        /// How it was counted, if it was.
        counted: Option<Counted>,
        /// What was wrong.
        errno: u32,
    },
    /// An event; `None` if it is of a kind that is not wanted here.
    Event {
        /// How it was counted.
        counted: Counted,
        /// What happened.
        event: Option<ProcEvent>,
    },
}

/// Decodes the body of one netlink message; `None` if it is not from this connector or is cut short.
#[must_use]
pub fn decode(body: &[u8]) -> Option<Decoded> {
    if (u32_at(body, 0)?, u32_at(body, 4)?) != (1, 1) {
        return None;
    }
    let sequence = u32_at(body, 8)?;
    let event = body.get(20..20 + usize::from(u16_at(body, 16)?))?;
    let (what, data) = (u32_at(event, 0)?, event.get(16..)?);
    let counted = Counted { cpu: u32_at(event, 4)?, sequence, nanoseconds: u64_at(event, 8)? };
    let field = |i: usize| u32_at(data, i * 4);
    let event = match what {
        0 => {
            let to = u32_at(body, 12)?.wrapping_sub(1);
            let counted = (counted.cpu != u32::MAX).then_some(counted);
            return Some(Decoded::Answer { to, counted, errno: field(0)? });
        }
        1 => {
            let (parent, thread, child) = (field(1)?, field(2)?, field(3)?);
            (thread == child).then_some(ProcEvent::Fork { parent, child })
        }
        2 => Some(ProcEvent::Exec { pid: field(1)? }),
        0x8000_0000 => {
            let (thread, pid, status) = (field(0)?, field(1)?, field(2)?);
            (thread == pid).then_some(ProcEvent::Exit { pid, status })
        }
        _ => None,
    };
    Some(Decoded::Event { counted, event })
}

/// Messages that never came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// How many, of all kinds.
    pub count: u32,
    /// When the last one before them was counted, on the monotonic clock in ns.
    pub after: u64,
    /// When the first one behind them was counted.
    pub before: u64,
}

/// Finds holes in the counters of the CPUs.
#[derive(Debug, Default)]
pub struct Sequences(BTreeMap<u32, (u32, u64)>);

impl Sequences {
    /// More CPUs than any board has; a number beyond it is not a CPU.
    const CPUS: usize = 8192;

    /// Takes the next message of a CPU and gives the hole before it. The first one sets the mark. A number that is
    /// more than half a round ahead was counted anew: it sets the mark too.
    pub fn hole_before(&mut self, next: Counted) -> Option<Hole> {
        let last = self.0.get(&next.cpu).copied();
        if last.is_some() || self.0.len() < Self::CPUS {
            self.0.insert(next.cpu, (next.sequence, next.nanoseconds));
        }
        let (last, after) = last?;
        let count = next.sequence.wrapping_sub(last.wrapping_add(1));
        // A task may be stopped between taking the time and being counted.
        let after = after.min(next.nanoseconds);
        (1..=u32::MAX / 2).contains(&count).then_some(Hole { count, after, before: next.nanoseconds })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(sequence: u32, what: u32, cpu: u32, fields: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [1_u32, 1, sequence, 78] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes.extend_from_slice(&40_u16.to_ne_bytes());
        bytes.extend_from_slice(&0_u16.to_ne_bytes());
        for number in [what, cpu] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes.extend_from_slice(&123_456_789_u64.to_ne_bytes());
        for i in 0..6 {
            bytes.extend_from_slice(&fields.get(i).copied().unwrap_or(0).to_ne_bytes());
        }
        bytes
    }

    fn event(what: u32, fields: &[u32]) -> Option<ProcEvent> {
        match decode(&body(9, what, 1, fields)).unwrap() {
            Decoded::Event { counted, event } => {
                assert_eq!(counted, Counted { cpu: 1, sequence: 9, nanoseconds: 123_456_789 });
                event
            }
            other @ Decoded::Answer { .. } => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_three_wanted_events_are_read() {
        assert_eq!(event(1, &[10, 11, 20, 20]), Some(ProcEvent::Fork { parent: 11, child: 20 }));
        assert_eq!(event(2, &[20, 21]), Some(ProcEvent::Exec { pid: 21 }));
        assert_eq!(event(0x8000_0000, &[20, 20, 256, 17]), Some(ProcEvent::Exit { pid: 20, status: 256 }));
        // New and ended threads are not processes; a change of uid is not wanted.
        assert_eq!(event(1, &[10, 11, 21, 20]), None);
        assert_eq!(event(0x8000_0000, &[21, 20]), None);
        assert_eq!(event(4, &[20, 20, 1000, 1000]), None);
    }

    #[test]
    fn an_answer_carries_its_errno() {
        let old = Decoded::Answer { to: 77, counted: None, errno: 1 };
        assert_eq!(decode(&body(5, 0, u32::MAX, &[1])), Some(old));
        let counted = Decoded::Answer {
            to: 77,
            counted: Some(Counted { cpu: 3, sequence: 5, nanoseconds: 123_456_789 }),
            errno: 0,
        };
        assert_eq!(decode(&body(5, 0, 3, &[0])), Some(counted));
    }

    #[test]
    fn what_is_foreign_or_cut_is_left() {
        let whole = body(1, 2, 0, &[5, 5]);
        assert!(decode(&whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(decode(&whole[..end]), None, "{end}");
        }
        let mut foreign = whole.clone();
        foreign[0..4].copy_from_slice(&3_u32.to_ne_bytes());
        assert_eq!(decode(&foreign), None);
        let mut short = whole;
        short[16..18].copy_from_slice(&8_u16.to_ne_bytes());
        assert_eq!(decode(&short), None);
    }

    #[test]
    fn holes_are_counted_per_cpu_and_over_the_turn() {
        let mut sequences = Sequences::default();
        for (cpu, sequence, missing) in [
            (0, u32::MAX - 1, 0),
            (1, 5, 0),
            (0, u32::MAX, 0),
            (0, 0, 0),
            (1, 9, 3),
            (0, 3, 2),
            (1, 10, 0),
            // Counted anew.
            (1, 0, 0),
            (1, 1, 0),
        ] {
            let hole = sequences.hole_before(Counted { cpu, sequence, nanoseconds: u64::from(sequence) });
            assert_eq!(hole.map_or(0, |h| h.count), missing, "cpu {cpu} number {sequence}");
            assert!(hole.is_none_or(|h| h.before == u64::from(sequence)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn any_fields_are_survived(sequence: u32, what: u32, cpu: u32, fields in prop::collection::vec(any::<u32>(), 6)) {
            prop_assert!(decode(&body(sequence, what, cpu, &fields)).is_some());
        }

        /// However events are lost, the holes add up to what was lost between the first and the last that arrived.
        #[test]
        fn holes_add_up(start: u32, kept in prop::collection::vec(any::<bool>(), 1..200)) {
            let mut sequences = Sequences::default();
            let numbers: Vec<u32> = kept
                .iter()
                .enumerate()
                .filter(|(_, kept)| **kept)
                .map(|(i, _)| start.wrapping_add(u32::try_from(i).unwrap()))
                .collect();
            let missing: u32 = numbers
                .iter()
                .filter_map(|n| sequences.hole_before(Counted { cpu: 3, sequence: *n, nanoseconds: 0 }))
                .map(|hole| hole.count)
                .sum();
            if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
                let span = last.wrapping_sub(*first) + 1;
                prop_assert_eq!(missing, span - u32::try_from(numbers.len()).unwrap());
            }
        }
    }
}

//! What the kernel tells of each thread that ended (`linux/taskstats.h`).
//!
//! A body of generic netlink with command 2. Attribute 4 holds attributes 1 (u32: number of the thread) and 3, the
//! record; attribute 5, of groups, is not read. Numbers in the machine's byte order:
//!
//! ```text
//! 0    u16   version                         4    u32   status, as of wait(2)
//! 8    u8    flags: 0x20 the last thread of its process (from version 12 on)
//! 80   32 B  the short name, ends with NUL   120  u32   user
//! 128  u32   number of the thread            132  u32   process id of the parent
//! 368  u32   process id (version 12)         376  u64   microseconds since the process was made (version 12)
//! 384  u64   device of the program, in the kernel's own form (version 12)
//! 392  u64   its inode (version 12)
//! ```
//!
//! Version 15 (Linux 6.14) has new members in between; version 16 moved them to the end. Other kernels may have done the
//! same under another number, so the places are not taken from the version: a record about ourselves shows them.
//! Before version 12 (Linux 5.19) the end of a thread and that of a process look alike.

use std::time::Duration;

use super::file_id::FileId;
use super::generic_netlink::{attributes, split};
use super::netlink::{u16_at, u32_at, u64_at};

/// The kernel's command: something ended, or an answer.
const NEW: u8 = 2;
const OF_THREAD: u16 = 4;
const RECORD: u16 = 3;
/// The first version that tells processes from threads.
pub const FIRST_VERSION: u16 = 12;
/// Flag: no thread of the process is left.
const LAST: u8 = 0x20;
const NAME: usize = 32;

/// Where the members are that moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// By how much the short name and what follows it are further back.
    names: usize,
    /// By how much the process id and what follows it are further back.
    group: usize,
}

impl Layout {
    /// Every layout that is known, the usual one first.
    pub const KNOWN: [Self; 2] = [Self { names: 0, group: 0 }, Self { names: 48, group: 96 }];

    /// Whether a record of this process reads right with it.
    #[must_use]
    pub fn fits(self, body: &[u8], own: u32) -> bool {
        decode(body, self).is_some_and(|ended| ended.thread == own && ended.pid == own)
    }
}

/// The end of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Number of the thread.
    pub thread: u32,
    /// Its process.
    pub pid: u32,
    /// Whether it was the last one of its process.
    pub last: bool,
    /// As of `wait(2)`.
    pub status: u32,
    /// Process id of the parent.
    pub parent: u32,
    /// Real user id.
    pub user: u32,
    /// The kernel's short name of it.
    pub name: String,
    /// Since the process was made.
    pub run_time: Duration,
    /// The program; `None` for a thread of the kernel.
    pub program: Option<FileId>,
}

/// The version of the record in a body.
#[must_use]
pub fn version(body: &[u8]) -> Option<u16> {
    u16_at(record(body)?, 0)
}

fn record(body: &[u8]) -> Option<&[u8]> {
    let (command, mut all) = split(body)?;
    let (_, of_thread) = all.find(|(kind, _)| *kind == OF_THREAD).filter(|_| command == NEW)?;
    Some(attributes(of_thread).find(|(kind, _)| *kind == RECORD)?.1)
}

/// Reads the record in a body of generic netlink; `None` if there is none, or an older one.
#[must_use]
pub fn decode(body: &[u8], layout: Layout) -> Option<Ended> {
    let record = record(body).filter(|record| u16_at(record, 0).is_some_and(|version| version >= FIRST_VERSION))?;
    let Layout { names, group } = layout;
    let name = record.get(80 + names..)?.get(..NAME)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let (device, inode) = (u64_at(record, 384 + group)?, u64_at(record, 392 + group)?);
    Some(Ended {
        thread: u32_at(record, 128 + names)?,
        pid: u32_at(record, 368 + group)?,
        last: record.get(8)? & LAST != 0,
        status: u32_at(record, 4)?,
        parent: u32_at(record, 132 + names)?,
        user: u32_at(record, 120 + names)?,
        name: String::from_utf8_lossy(name).into_owned(),
        run_time: Duration::from_micros(u64_at(record, 376 + group)?),
        program: (inode != 0).then(|| FileId::from_kernel(device, inode)),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::super::generic_netlink;
    use super::*;

    /// A body as the kernel makes it, with a record in `layout`.
    pub(crate) fn body(version: u16, layout: Layout, ended: &Ended) -> Vec<u8> {
        let mut record = vec![0; 560];
        let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &version.to_ne_bytes());
        put(4, &ended.status.to_ne_bytes());
        put(8, &[if ended.last { LAST } else { 0 }]);
        put(80 + layout.names, ended.name.as_bytes());
        put(120 + layout.names, &ended.user.to_ne_bytes());
        put(128 + layout.names, &ended.thread.to_ne_bytes());
        put(132 + layout.names, &ended.parent.to_ne_bytes());
        put(368 + layout.group, &ended.pid.to_ne_bytes());
        put(376 + layout.group, &u64::try_from(ended.run_time.as_micros()).unwrap().to_ne_bytes());
        if let Some(FileId { device: (major, minor), inode }) = ended.program {
            put(384 + layout.group, &u64::from((major << 8) | minor).to_ne_bytes());
            put(392 + layout.group, &inode.to_ne_bytes());
        }
        // Number of the thread, an empty attribute for the alignment, the record.
        let mut nested = generic_netlink::body(0, 1, &ended.thread.to_ne_bytes()).split_off(4);
        nested.extend(generic_netlink::body(0, 6, b"").split_off(4));
        nested.extend(generic_netlink::body(0, RECORD, &record).split_off(4));
        generic_netlink::body(NEW, OF_THREAD | 0x8000, &nested)
    }

    pub(crate) fn ended(pid: u32) -> Ended {
        Ended {
            thread: pid,
            pid,
            last: true,
            status: 0x0700,
            parent: 42,
            user: 1000,
            name: "sensord".to_owned(),
            run_time: Duration::from_micros(1_234_567),
            program: Some(FileId { device: (179, 2), inode: 4711 }),
        }
    }

    #[test]
    fn a_record_is_read_in_each_layout_and_each_is_known_by_our_own() {
        for (index, layout) in Layout::KNOWN.into_iter().enumerate() {
            let body = body(15, layout, &ended(300));
            assert_eq!(decode(&body, layout), Some(ended(300)));
            assert_eq!(version(&body), Some(15));
            let fitting: Vec<_> = Layout::KNOWN.into_iter().map(|layout| layout.fits(&body, 300)).collect();
            assert_eq!(fitting, (0..2).map(|other| other == index).collect::<Vec<_>>());
        }
    }

    #[test]
    fn older_records_and_shorter_ones_are_none() {
        let layout = Layout::KNOWN[0];
        assert_eq!(decode(&body(11, layout, &ended(300)), layout), None);
        let whole = body(12, layout, &ended(300));
        assert_eq!(decode(&whole[..300], layout), None);
        let kernel_thread = Ended { program: None, last: false, ..ended(2) };
        assert_eq!(decode(&body(16, layout, &kernel_thread), layout), Some(kernel_thread));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            for layout in Layout::KNOWN {
                let _ = decode(&bytes, layout);
                let mut record = 13_u16.to_ne_bytes().to_vec();
                record.extend_from_slice(&bytes);
                let nested = generic_netlink::body(0, RECORD, &record).split_off(4);
                let _ = decode(&generic_netlink::body(NEW, OF_THREAD, &nested), layout);
            }
        }
    }
}

//! Which connections are new, and who opened them: pure.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::payload::Direction;
use crate::sys::connections::{Connected, Look};

/// A connection that was not told before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) socket: Connected,
    pub(super) direction: Direction,
}

/// More connections than end within a second on a board.
const ENDED: usize = 65_536;

/// The connections of the last look, and those that were told since.
#[derive(Debug)]
pub(super) struct Ledger {
    known: HashSet<u64>,
    /// Told, and not in the last look any more: the notice of their end may still be on its way.
    vanished: HashSet<u64>,
    /// Told, and the notice of their end came since the last look: what is left of a socket (`FIN_WAIT2`) bears its
    /// cookie.
    ended: HashSet<u64>,
    listening: HashSet<(IpAddr, u16)>,
    loopback: bool,
}

impl Ledger {
    /// Nothing is known yet. `loopback`: whether connections of the machine with itself are told.
    pub(super) fn new(loopback: bool) -> Self {
        Self {
            known: HashSet::new(),
            vanished: HashSet::new(),
            ended: HashSet::new(),
            listening: HashSet::new(),
            loopback,
        }
    }

    /// Takes a look; gives what is new in it. What is in it
    /// and in the one before is known from then on, so this is bounded by the looks.
    pub(super) fn look(&mut self, look: &Look) -> Vec<Told> {
        self.listening = look.listening.iter().map(|(address, port)| (address.to_canonical(), *port)).collect();
        let before = std::mem::take(&mut self.known);
        self.known.extend(look.connected.iter().map(|socket| socket.cookie));
        self.vanished = before.difference(&self.known).copied().collect();
        let ended = std::mem::take(&mut self.ended);
        let is_new = |socket: &&Connected| !before.contains(&socket.cookie) && !ended.contains(&socket.cookie);
        look.connected.iter().filter(is_new).filter_map(|socket| self.told(socket)).collect()
    }

    /// Takes a notice; gives the connection if it was never told and once was one.
    pub(super) fn destroyed(&mut self, socket: &Connected) -> Option<Told> {
        if !socket.tcp {
            return None;
        }
        if self.known.remove(&socket.cookie) || self.vanished.remove(&socket.cookie) {
            self.ends(socket.cookie);
            return None;
        }
        let told = self.told(socket)?;
        // The answer to our SYN is the first byte that TCP counts as acknowledged.
        let answered = socket.bytes.is_none_or(|(sent, received)| sent + received > 0);
        let told = (answered || told.direction == Direction::In).then_some(told)?;
        self.ends(socket.cookie);
        Some(told)
    }

    fn ends(&mut self, cookie: u64) {
        if self.ended.len() < ENDED {
            self.ended.insert(cookie);
        }
    }

    fn told(&self, socket: &Connected) -> Option<Told> {
        let to_itself = socket.remote.to_canonical().is_loopback();
        (self.loopback || !to_itself).then(|| Told { socket: *socket, direction: self.direction(socket) })
    }

    /// The side that listens did not open it.
    fn direction(&self, socket: &Connected) -> Direction {
        let local = socket.local.to_canonical();
        let any = [local, Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        if socket.tcp && any.into_iter().any(|address| self.listening.contains(&(address, socket.local_port))) {
            Direction::In
        } else {
            Direction::Out
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn socket(cookie: u64, local_port: u16, remote: &str) -> Connected {
        Connected {
            tcp: true,
            local: Ipv4Addr::new(192, 0, 2, 1).into(),
            local_port,
            remote: remote.parse().unwrap(),
            remote_port: 40_000,
            cookie,
            uid: 0,
            inode: 9,
            bytes: None,
        }
    }

    fn look(connected: &[Connected], listening: &[(&str, u16)]) -> Look {
        let listening = listening.iter().map(|(address, port)| (address.parse().unwrap(), *port)).collect();
        Look { connected: connected.to_vec(), listening, cut: false }
    }

    #[test]
    fn a_connection_is_told_once_with_its_direction() {
        let mut ledger = Ledger::new(false);
        let (to_us, by_us) = (socket(1, 22, "198.51.100.1"), socket(2, 50_000, "198.51.100.2"));
        for any in ["::", "0.0.0.0", "192.0.2.1", "::ffff:192.0.2.1"] {
            let told = ledger.look(&look(&[to_us, by_us], &[(any, 22)]));
            let directions: Vec<_> = told.iter().map(|t| t.direction).collect();
            assert_eq!(directions, [Direction::In, Direction::Out], "{any}");
            assert_eq!(ledger.look(&look(&[to_us, by_us], &[(any, 22)])), []);
            assert_eq!(ledger.look(&Look::default()), []);
        }
        let told = ledger.look(&look(&[to_us], &[("192.0.2.9", 22)]));
        assert_eq!(told[0].direction, Direction::Out, "another address listens");
    }

    #[test]
    fn what_came_and_went_between_two_looks_is_told_if_it_was_answered() {
        let mut ledger = Ledger::new(false);
        ledger.look(&look(&[socket(1, 50_000, "198.51.100.1")], &[("::", 22)]));
        assert_eq!(ledger.destroyed(&socket(1, 50_000, "198.51.100.1")), None, "it was there before");
        let short = |cookie, port, bytes| Connected { bytes, inode: 0, ..socket(cookie, port, "198.51.100.1") };
        assert!(ledger.destroyed(&short(2, 50_001, Some((1, 0)))).is_some());
        assert_eq!(ledger.destroyed(&short(3, 50_001, Some((0, 0)))), None, "nobody answered");
        assert_eq!(ledger.destroyed(&short(4, 22, Some((0, 0)))).unwrap().direction, Direction::In);
        let udp = Connected { tcp: false, ..short(5, 50_001, None) };
        assert_eq!(ledger.destroyed(&udp), None);
        assert_eq!(ledger.look(&look(&[udp], &[])).len(), 1);
    }

    #[test]
    fn what_the_machine_says_to_itself_is_told_on_request() {
        for remote in ["127.0.0.1", "::1", "::ffff:127.0.0.53"] {
            let look = look(&[socket(1, 50_000, remote)], &[]);
            assert_eq!(Ledger::new(false).look(&look), [], "{remote}");
            assert_eq!(Ledger::new(true).look(&look).len(), 1, "{remote}");
        }
    }

    proptest! {
        /// Over any looks and notices, early and late ones, each connection is told once.
        #[test]
        fn each_connection_is_told_once(steps in prop::collection::vec(prop::collection::btree_set(0_u64..12, 0..6), 1..10)) {
            let mut ledger = Ledger::new(false);
            let mut told: Vec<u64> = Vec::new();
            let mut alive = std::collections::BTreeSet::new();
            // A cookie is never used again: each step has its own, and shares some with the one before.
            for (number, step) in steps.iter().enumerate() {
                let now: std::collections::BTreeSet<u64> = step.iter().map(|c| c / 6 + (number as u64 + c % 2) * 2).collect();
                let mut seen: Vec<_> = now.iter().map(|c| socket(*c, 50_000, "198.51.100.1")).collect();
                let (early, late): (Vec<u64>, Vec<u64>) =
                    std::mem::replace(&mut alive, now.clone()).difference(&now).partition(|cookie| *cookie % 3 != 0);
                let mut notices = |ledger: &mut Ledger, gone: Vec<u64>| {
                    for cookie in gone {
                        told.extend(ledger.destroyed(&socket(cookie, 50_000, "198.51.100.1")).map(|t| t.socket.cookie));
                    }
                };
                // Something of one is left when the others are gone, also of one that no look has seen.
                let left: Vec<u64> = early.iter().copied().chain([1000 + number as u64]).collect();
                notices(&mut ledger, left.clone());
                seen.extend(left.iter().filter(|c| *c % 2 == 0).map(|c| socket(*c, 50_000, "198.51.100.1")));
                let fresh = ledger.look(&look(&seen, &[]));
                notices(&mut ledger, late);
                told.extend(fresh.iter().map(|t| t.socket.cookie));
            }
            let mut once = told.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), told.len(), "{:?}", told);
        }
    }
}

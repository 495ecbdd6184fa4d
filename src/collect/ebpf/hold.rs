//! New connections, held back for a moment: if one ends in it, its event says how much went over it, and for how long.
//! Nothing stays: what does not end in time is told without, and the oldest makes room.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::payload::ConnectionCreate;
use crate::model::time::{Mono, Timestamp};
use crate::sys::bpf::record::Closed;

/// How long a connection is held back.
pub(super) const HOLD: Duration = Duration::from_secs(1);
/// Most connections that are held back.
pub(super) const MOST: usize = 256;

/// A connection that is held back.
#[derive(Debug)]
pub(super) struct Held {
    /// When it was made.
    pub(super) at: Timestamp,
    /// The kernel's name of its socket.
    pub(super) socket: u64,
    /// When it was made, in nanoseconds since boot.
    pub(super) when: u64,
    pub(super) what: Box<ConnectionCreate>,
}

impl Held {
    fn due(&self) -> Mono {
        Mono::from_boot(Duration::from_nanos(self.when)).after(HOLD)
    }
}

/// Those that are held back, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Hold(VecDeque<Held>);

impl Hold {
    /// Holds a connection back; gives the oldest if there are too many.
    pub(super) fn put(&mut self, held: Held) -> Option<Held> {
        let oldest = if self.0.len() >= MOST { self.0.pop_front() } else { None };
        self.0.push_back(held);
        oldest
    }

    /// A connection has ended; gives it, if it is held back, with what is known now. `ExtraDetails`: `BytesSent` and
    /// `BytesReceived`, data only; `DurationMilliseconds`.
    pub(super) fn ended(&mut self, end: &Closed) -> Option<Held> {
        let place = self.0.iter().rposition(|held| (held.socket, held.when) == (end.socket, end.opened))?;
        let mut held = self.0.remove(place)?;
        for (key, value) in [
            ("BytesSent", end.sent),
            ("BytesReceived", end.received),
            ("DurationMilliseconds", end.when.saturating_sub(end.opened) / 1_000_000),
        ] {
            held.what.extra_details.insert(key.to_owned(), value.to_string());
        }
        Some(held)
    }

    /// The next one whose time is up; any, if `now` is `None`.
    pub(super) fn take_due(&mut self, now: Option<Mono>) -> Option<Held> {
        let due = self.0.front().is_some_and(|held| now.is_none_or(|now| held.due() <= now));
        if due { self.0.pop_front() } else { None }
    }

    /// When the time of the next one is up.
    pub(super) fn due(&self) -> Option<Mono> {
        self.0.front().map(Held::due)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::model::payload::{Direction, ExtraDetails, Port};

    const SECOND: u64 = 1_000_000_000;

    fn held(socket: u64, when: u64) -> Held {
        let what = ConnectionCreate {
            remote_address: std::net::IpAddr::from(Ipv4Addr::new(192, 0, 2, 7)).into(),
            remote_port: Port(443),
            local_address: None,
            local_port: None,
            direction: Direction::Out,
            protocol: "tcp".to_owned(),
            process_id: 1,
            user_id: None,
            executable: String::new(),
            command_line: None,
            extra_details: ExtraDetails::new(),
        };
        Held { at: Timestamp::trusted(jiff::Timestamp::UNIX_EPOCH), socket, when, what: Box::new(what) }
    }

    fn end(socket: u64, opened: u64, when: u64) -> Closed {
        Closed { when, socket, opened, sent: 10, received: 20 }
    }

    const fn at(nanoseconds: u64) -> Mono {
        Mono::from_boot(Duration::from_nanos(nanoseconds))
    }

    #[test]
    fn an_end_adds_what_is_known_then() {
        let mut hold = Hold::default();
        hold.put(held(7, 1000));
        assert!(hold.ended(&end(8, 1000, 2000)).is_none());
        assert!(hold.ended(&end(7, 999, 2000)).is_none(), "an earlier connection with this socket");
        let details = hold.ended(&end(7, 1000, 1000 + SECOND / 4)).unwrap().what.extra_details;
        let expected = [("BytesReceived", "20"), ("BytesSent", "10"), ("DurationMilliseconds", "250")];
        assert_eq!(details, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert!(hold.ended(&end(7, 1000, 2000)).is_none() && hold.due().is_none());
    }

    #[test]
    fn nothing_is_held_longer_than_a_second() {
        let mut hold = Hold::default();
        hold.put(held(7, 1000));
        assert_eq!(hold.due(), Some(at(1000 + SECOND)));
        assert!(hold.take_due(Some(at(999 + SECOND))).is_none());
        assert!(hold.take_due(Some(at(1000 + SECOND))).is_some() && hold.due().is_none());
        hold.put(held(7, 1000));
        assert!(hold.take_due(None).is_some());
    }

    proptest! {
        /// Over any openings, ends and times, each connection comes out once.
        #[test]
        fn each_connection_comes_out_once(steps in prop::collection::vec((0_u64..400, 0_u8..8), 1..900)) {
            let mut hold = Hold::default();
            let (mut opened, mut out) = (Vec::new(), Vec::new());
            for (number, (socket, what)) in steps.into_iter().enumerate() {
                let when = number as u64 * SECOND / 300;
                let fresh = match what {
                    0 => hold.take_due(Some(at(when))),
                    1 => opened.iter().rfind(|(s, _)| *s == socket).and_then(|(s, w)| hold.ended(&end(*s, *w, when))),
                    _ => {
                        opened.push((socket, when));
                        hold.put(held(socket, when))
                    }
                };
                out.extend(fresh.map(|held| (held.socket, held.when)));
                prop_assert!(hold.0.len() <= MOST);
            }
            out.extend(std::iter::from_fn(|| hold.take_due(None)).map(|held| (held.socket, held.when)));
            out.sort_unstable();
            opened.sort_unstable();
            prop_assert_eq!(out, opened);
        }
    }
}

//! Which observations are identical, and what an aggregated event keeps of them (protocol reference 4.5).
//!
//! | event | the same in all of them | not kept |
//! |---|---|---|
//! | ProcessCreate | Executable, CommandLine, UserId, UserName, and `Hash` of `ExtraDetails` if there is one | both process ids |
//! | ProcessTerminate | Executable, ExitStatus | process id |
//! | ConnectionCreate, `Out` | Executable, CommandLine, UserId, Protocol, LocalAddress, RemoteAddress, RemotePort | process id, LocalPort |
//! | ConnectionCreate, `In` | the same, but LocalPort instead of RemotePort | process id, RemotePort |
//!
//! Ids that are not kept are 0; so is the port of the other side, which the schema requires; LocalPort is left out. The
//! remaining `ExtraDetails` are those of the first hit. Other events are never aggregated.
//!
//! The key is the event name, a colon, and SHA-256 in hex over the fields in a fixed order, each preceded by whether it
//! is there and by its length, so no two lists of fields share one text.

use sha2::{Digest, Sha256};

use crate::model::payload::{ConnectionCreate, Direction, Payload, Port};

/// The member of `ExtraDetails` that tells a changed program from the one before.
const HASH: &str = "Hash";

/// The key of an observation; `None` if its kind is never aggregated.
pub(super) fn key(what: &Payload) -> Option<String> {
    let mut fields = Fields(Sha256::new());
    match what {
        Payload::ProcessCreate(p) => {
            fields.text(Some(&p.executable));
            fields.text(Some(&p.user_id));
            fields.text(p.user_name.as_deref());
            fields.text(Some(&p.command_line));
            if let Some(hash) = p.extra_details.get(HASH) {
                fields.text(Some(hash));
            }
        }
        Payload::ProcessTerminate(p) => {
            fields.text(Some(&p.executable));
            fields.text(Some(&p.exit_status.to_string()));
        }
        Payload::ConnectionCreate(c) => connection(c, &mut fields),
        _ => return None,
    }
    let mut key = format!("{}:", what.event());
    for byte in fields.0.finalize() {
        key.extend([byte >> 4, byte & 15].into_iter().filter_map(|digit| char::from_digit(digit.into(), 16)));
    }
    Some(key)
}

fn connection(c: &ConnectionCreate, fields: &mut Fields) {
    let (direction, port) = match c.direction {
        Direction::In => ("In", c.local_port),
        Direction::Out => ("Out", Some(c.remote_port)),
    };
    fields.text(Some(direction));
    fields.text(Some(&c.executable));
    fields.text(c.command_line.as_deref());
    fields.text(c.user_id.as_deref());
    fields.text(Some(&c.protocol));
    fields.text(c.local_address.map(|a| a.to_string()).as_deref());
    fields.text(Some(&c.remote_address.to_string()));
    fields.text(port.map(|p| p.to_string()).as_deref());
}

struct Fields(Sha256);

impl Fields {
    fn text(&mut self, field: Option<&str>) {
        self.0.update([u8::from(field.is_some())]);
        let field = field.unwrap_or_default();
        self.0.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(field);
    }
}

/// The observation without what differs between identical ones.
pub(super) fn common_part(mut what: Payload) -> Payload {
    match &mut what {
        Payload::ProcessCreate(p) => {
            p.process_id = 0;
            p.parent_process_id = 0;
        }
        Payload::ProcessTerminate(p) => p.process_id = 0,
        Payload::ConnectionCreate(c) => {
            c.process_id = 0;
            match c.direction {
                Direction::In => c.remote_port = Port(0),
                Direction::Out => c.local_port = None,
            }
        }
        _ => {}
    }
    what
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::payload::{ProcessCreate, ProcessTerminate};

    fn process(user_id: &str, user_name: Option<&str>, command_line: &str) -> ProcessCreate {
        ProcessCreate {
            executable: "/bin/sh".into(),
            process_id: 7,
            parent_process_id: 1,
            user_id: user_id.into(),
            user_name: user_name.map(Into::into),
            command_line: command_line.into(),
            ..Default::default()
        }
    }

    fn key_of(process: &ProcessCreate) -> String {
        key(&Payload::ProcessCreate(process.clone())).unwrap()
    }

    #[test]
    fn a_process_start_is_known_by_program_user_arguments_and_hash() {
        let base = process("0", None, "sh -c true");
        let same = key_of(&base);
        assert!(same.starts_with("ProcessCreate:"));
        assert_eq!(same.len(), 14 + 64);
        let mut other = base.clone();
        other.process_id = 99;
        other.parent_process_id = 98;
        other.extra_details.insert("A".into(), "b".into());
        assert_eq!(key_of(&other), same);
        other.extra_details.insert("Hash".into(), "00ff".into());
        assert_ne!(key_of(&other), same, "the same command line of a changed program");
        for different in [
            ProcessCreate { executable: "/bin/bash".into(), ..base.clone() },
            process("1", None, "sh -c true"),
            process("0", Some(""), "sh -c true"),
            process("0", None, "sh -c false"),
        ] {
            assert_ne!(key_of(&different), same);
        }
        // What moves from one field to the next is not the same thing.
        assert_ne!(key_of(&process("0s", None, "h")), key_of(&process("0", None, "sh")));
    }

    #[test]
    fn an_end_is_known_by_program_and_status() {
        let end = |executable: &str, process_id, exit_status| {
            let end = ProcessTerminate { executable: executable.into(), process_id, exit_status, ..Default::default() };
            key(&Payload::ProcessTerminate(end)).unwrap()
        };
        assert_eq!(end("/bin/a", 1, 0), end("/bin/a", 2, 0));
        assert_ne!(end("/bin/a", 1, 0), end("/bin/a", 1, 1));
        assert_ne!(end("/bin/a", 1, 0), end("/bin/b", 1, 0));
    }

    fn connected(direction: Direction) -> ConnectionCreate {
        let address = |text: &str| text.parse::<IpAddr>().unwrap().into();
        ConnectionCreate {
            remote_address: address("192.0.2.7"),
            remote_port: Port(443),
            local_address: Some(address("192.0.2.1")),
            local_port: Some(Port(50_000)),
            direction,
            protocol: "tcp".into(),
            process_id: 7,
            user_id: Some("0".into()),
            executable: "/usr/bin/curl".into(),
            command_line: Some("curl x".into()),
            extra_details: std::collections::BTreeMap::default(),
        }
    }

    #[test]
    fn a_connection_is_known_by_its_ends_but_for_the_port_that_was_free() {
        type Change = fn(&mut ConnectionCreate);
        let both: [(&str, Change); 6] = [
            ("executable", |c| c.executable.push('x')),
            ("command line", |c| c.command_line = None),
            ("user", |c| c.user_id = Some("1".into())),
            ("protocol", |c| c.protocol = "udp".into()),
            ("remote address", |c| c.remote_address = "192.0.2.8".parse::<IpAddr>().unwrap().into()),
            ("local address", |c| c.local_address = None),
        ];
        let local_port: Change = |c| c.local_port = Some(Port(1));
        let remote_port: Change = |c| c.remote_port = Port(1);
        for direction in [Direction::In, Direction::Out] {
            let base = connected(direction);
            let same = key(&Payload::ConnectionCreate(base.clone())).unwrap();
            let changed = |change: Change| {
                let mut other = base.clone();
                other.process_id = 8;
                change(&mut other);
                key(&Payload::ConnectionCreate(other)).unwrap()
            };
            for (what, change) in both {
                assert_ne!(changed(change), same, "{what}");
            }
            assert_eq!(changed(local_port) == same, direction == Direction::Out);
            assert_eq!(changed(remote_port) == same, direction == Direction::In);
        }
        let keys = [Direction::In, Direction::Out].map(|d| key(&Payload::ConnectionCreate(connected(d))));
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn what_differs_is_not_kept() {
        let common = |direction| common_part(Payload::ConnectionCreate(connected(direction))).to_value().unwrap();
        let (inbound, outbound) = (common(Direction::In), common(Direction::Out));
        assert_eq!(
            (&inbound["ProcessId"], &inbound["RemotePort"], &inbound["LocalPort"]),
            (&0.into(), &"0".into(), &"50000".into())
        );
        assert_eq!((&outbound["ProcessId"], &outbound["RemotePort"]), (&0.into(), &"443".into()));
        assert!(outbound.get("LocalPort").is_none());
        let start = common_part(Payload::ProcessCreate(process("0", None, "a"))).to_value().unwrap();
        assert_eq!((&start["ProcessId"], &start["ParentProcessId"]), (&0.into(), &0.into()));
    }
}

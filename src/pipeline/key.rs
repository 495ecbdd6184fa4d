//! Which observations are identical: the key of an aggregate, and what its event shows of the hits (protocol reference
//! 4.5, [decision 0012](../../docs/decisions/0012-aggregation-keys.md)).
//!
//! | event | fields of the key | outside the key, and what the event shows instead |
//! |---|---|---|
//! | ProcessCreate | Executable, UserId, UserName, CommandLine | ProcessId and ParentProcessId: 0 |
//! | ProcessTerminate | Executable, ExitStatus | ProcessId: 0 |
//! | ConnectionCreate, `Out` | Executable, UserId, CommandLine, Direction, Protocol, LocalAddress, RemoteAddress, RemotePort | ProcessId: 0; LocalPort: absent |
//! | ConnectionCreate, `In` | the same with LocalPort in place of RemotePort | ProcessId: 0; RemotePort: `"0"` |
//!
//! In each of them also the `ExtraDetails` that say which program it was, [`PROGRAM_DETAILS`]; all other `ExtraDetails`
//! are those of the first hit. The rest of the events is never aggregated.
//!
//! The text of a key is the event name, a colon, and SHA-256 in hex over the tagged fields, each preceded by its length,
//! so no two lists of fields share one text. Open aggregates are stored under it: a change of the order or the form
//! parts those of the last version from their new hits.

use sha2::{Digest, Sha256};

use crate::model::payload::{Direction, ExtraDetails, Payload, Port};

/// `ExtraDetails` that tell two programs apart where the published fields are the same: a digest of its file, that the
/// file was removed, and the kernel's name of a program whose file could not be read.
const PROGRAM_DETAILS: [&str; 3] = ["Hash", "ExecutableDeleted", "ProcessName"];

/// The key of an observation; `None` if its kind is never aggregated.
pub(super) fn key(what: &Payload) -> Option<String> {
    let mut fields = Fields::default();
    match what {
        Payload::ProcessCreate(process) => {
            fields.add(Some(&process.executable));
            fields.add(Some(&process.user_id));
            fields.add(process.user_name.as_deref());
            fields.add(Some(&process.command_line));
            fields.add_program(&process.extra_details);
        }
        Payload::ProcessTerminate(process) => {
            fields.add(Some(&process.executable));
            fields.add(Some(&process.exit_status.to_string()));
            fields.add_program(&process.extra_details);
        }
        Payload::ConnectionCreate(connection) => {
            let (direction, port) = match connection.direction {
                Direction::In => ("In", connection.local_port),
                Direction::Out => ("Out", Some(connection.remote_port)),
            };
            fields.add(Some(&connection.executable));
            fields.add(connection.user_id.as_deref());
            fields.add(connection.command_line.as_deref());
            fields.add(Some(direction));
            fields.add(Some(&connection.protocol));
            fields.add(connection.local_address.map(|address| address.to_string()).as_deref());
            fields.add(Some(&connection.remote_address.to_string()));
            fields.add(port.map(|port| port.to_string()).as_deref());
            fields.add_program(&connection.extra_details);
        }
        _ => return None,
    }
    let mut key = format!("{}:", what.event());
    for byte in fields.0.finalize() {
        key.extend([byte >> 4, byte & 15].into_iter().filter_map(|digit| char::from_digit(digit.into(), 16)));
    }
    Some(key)
}

/// The observation without what differs between identical ones.
pub(super) fn common_part(mut what: Payload) -> Payload {
    match &mut what {
        Payload::ProcessCreate(process) => {
            process.process_id = 0;
            process.parent_process_id = 0;
        }
        Payload::ProcessTerminate(process) => process.process_id = 0,
        Payload::ConnectionCreate(connection) => {
            connection.process_id = 0;
            match connection.direction {
                Direction::In => connection.remote_port = Port(0),
                Direction::Out => connection.local_port = None,
            }
        }
        _ => {}
    }
    what
}

/// The fields of one key, in their order.
#[derive(Default)]
struct Fields(Sha256);

impl Fields {
    fn add(&mut self, field: Option<&str>) {
        self.0.update([u8::from(field.is_some())]);
        let field = field.unwrap_or_default();
        self.0.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(field);
    }

    /// Only what is there, with its name: without such details a key is that of the published fields alone.
    fn add_program(&mut self, details: &ExtraDetails) {
        for name in PROGRAM_DETAILS {
            if let Some(value) = details.get(name) {
                self.add(Some(name));
                self.add(Some(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::payload::{ConnectionCreate, ProcessCreate, ProcessTerminate};

    fn process() -> ProcessCreate {
        ProcessCreate {
            executable: "/bin/sh".into(),
            process_id: 7,
            parent_process_id: 1,
            user_id: "0".into(),
            user_name: None,
            command_line: "sh -c true".into(),
            extra_details: ExtraDetails::new(),
        }
    }

    fn end() -> ProcessTerminate {
        ProcessTerminate { executable: "/bin/sh".into(), process_id: 7, exit_status: 1, ..Default::default() }
    }

    fn connection(direction: Direction) -> ConnectionCreate {
        ConnectionCreate {
            remote_address: ip("192.0.2.7").into(),
            remote_port: Port(443),
            local_address: Some(ip("192.0.2.1").into()),
            local_port: Some(Port(40_000)),
            direction,
            protocol: "tcp".into(),
            process_id: 7,
            user_id: Some("1000".into()),
            executable: "/usr/bin/curl".into(),
            command_line: Some("curl -s".into()),
            extra_details: ExtraDetails::new(),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn process_key(change: impl FnOnce(&mut ProcessCreate)) -> String {
        let mut changed = process();
        change(&mut changed);
        key(&Payload::ProcessCreate(changed)).unwrap()
    }

    fn end_key(change: impl FnOnce(&mut ProcessTerminate)) -> String {
        let mut changed = end();
        change(&mut changed);
        key(&Payload::ProcessTerminate(changed)).unwrap()
    }

    fn connection_key(direction: Direction, change: impl FnOnce(&mut ConnectionCreate)) -> String {
        let mut changed = connection(direction);
        change(&mut changed);
        key(&Payload::ConnectionCreate(changed)).unwrap()
    }

    fn add(details: &mut ExtraDetails, name: &str, value: &str) {
        details.insert(name.into(), value.into());
    }

    /// Each of these is another key than that of the unchanged observation, and than each other.
    fn assert_apart(base: String, changed: Vec<String>) {
        let mut keys = changed;
        keys.push(base);
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn starts_of_a_program_are_told_apart_by_the_named_fields_and_nothing_else() {
        let base = process_key(|_| {});
        for same in [
            process_key(|p| p.process_id = 99),
            process_key(|p| p.parent_process_id = 98),
            process_key(|p| add(&mut p.extra_details, "CommandLineSource", "proc")),
        ] {
            assert_eq!(same, base);
        }
        assert_apart(
            base,
            vec![
                process_key(|p| p.executable = "/bin/bash".into()),
                process_key(|p| p.user_id = "1".into()),
                process_key(|p| p.user_name = Some(String::new())),
                process_key(|p| p.user_name = Some("root".into())),
                process_key(|p| p.command_line = "sh -c false".into()),
                process_key(|p| add(&mut p.extra_details, "Hash", "ab")),
                process_key(|p| add(&mut p.extra_details, "Hash", "cd")),
                process_key(|p| add(&mut p.extra_details, "ProcessName", "ab")),
                process_key(|p| add(&mut p.extra_details, "ExecutableDeleted", "true")),
            ],
        );
        // What moves from one field to the next is not the same thing.
        let moved = |user_id: &str, command_line: &str| {
            process_key(|p| (p.user_id, p.command_line) = (user_id.into(), command_line.into()))
        };
        assert_ne!(moved("0s", "h"), moved("0", "sh"));
    }

    /// Open aggregates of version 0.1.0 were stored under this key: new hits must find them.
    #[test]
    fn the_key_of_a_start_is_as_it_was_stored_before() {
        assert_eq!(
            process_key(|p| p.user_name = Some("root".into())),
            "ProcessCreate:1ad96d143e073fa9cdeb9f98a42841e19a6fe07a2c3589834ad8f19a340841d4"
        );
    }

    #[test]
    fn ends_of_a_program_are_told_apart_by_program_and_status() {
        let base = end_key(|_| {});
        assert_eq!(end_key(|p| p.process_id = 99), base);
        assert_apart(
            base,
            vec![
                end_key(|p| p.executable = "/bin/bash".into()),
                end_key(|p| p.exit_status = 139),
                end_key(|p| p.exit_status = -1),
                end_key(|p| add(&mut p.extra_details, "ProcessName", "sh")),
            ],
        );
    }

    #[test]
    fn connections_are_told_apart_by_the_named_fields_and_the_port_of_the_service() {
        for direction in [Direction::In, Direction::Out] {
            let key = |change: fn(&mut ConnectionCreate)| connection_key(direction, change);
            let base = key(|_| {});
            assert_eq!(key(|c| c.process_id = 99), base);
            let mut apart = vec![
                key(|c| c.executable = "/usr/bin/wget".into()),
                key(|c| c.user_id = Some("0".into())),
                key(|c| c.user_id = None),
                key(|c| c.command_line = Some("curl -v".into())),
                key(|c| c.command_line = None),
                key(|c| c.protocol = "udp".into()),
                key(|c| c.local_address = None),
                key(|c| c.local_address = Some(ip("192.0.2.2").into())),
                key(|c| c.remote_address = ip("2001:db8::7").into()),
                key(|c| add(&mut c.extra_details, "Hash", "ab")),
            ];
            let (local, remote) = (key(|c| c.local_port = Some(Port(1))), key(|c| c.remote_port = Port(1)));
            let (service, other) = if direction == Direction::In { (local, remote) } else { (remote, local) };
            assert_eq!(other, base);
            apart.push(service);
            assert_apart(base, apart);
        }
        assert_ne!(connection_key(Direction::In, |_| {}), connection_key(Direction::Out, |_| {}));
        let mapped = connection_key(Direction::Out, |c| c.remote_address = ip("::ffff:192.0.2.7").into());
        assert_eq!(mapped, connection_key(Direction::Out, |_| {}));
    }

    #[test]
    fn hits_of_one_key_have_one_common_part() {
        let mut second = connection(Direction::In);
        (second.process_id, second.remote_port) = (8, Port(50_001));
        let (first, second) =
            [connection(Direction::In), second].map(Payload::ConnectionCreate).map(common_part).into();
        assert_eq!(first, second);
        let mut second = connection(Direction::Out);
        (second.process_id, second.local_port) = (8, Some(Port(50_001)));
        let (first, second) =
            [connection(Direction::Out), second].map(Payload::ConnectionCreate).map(common_part).into();
        assert_eq!(first, second);
        let ended = ProcessTerminate { process_id: 0, ..end() };
        assert_eq!(common_part(Payload::ProcessTerminate(end())), Payload::ProcessTerminate(ended));
    }
}

//! One line for each thing that happened, for a person.

use jiff::tz::TimeZone;

use crate::cli::output;
use crate::model::event::{EventName, Observation};
use crate::model::payload::{ConnectionCreate, Direction, Login, LoginResult, Payload, ProcessCreate};

/// The heading above the lines of this event.
pub(super) fn heading(name: EventName) -> String {
    match name {
        EventName::ProcessTerminate => ended("TIME", "PID", "STATUS", "PROGRAM"),
        EventName::ConnectionCreate => connection("TIME", "PID", "PROTO", "FROM", "TO", "PROGRAM"),
        EventName::Login => login("TIME", "RESULT", "USER", "FROM", "OPERATION", "PROGRAM"),
        _ => started("TIME", "PID", "PPID", "USER", "COMMAND"),
    }
}

/// The line of an observation; `None` if there is none for its kind.
pub(super) fn row(observation: &Observation, zone: &TimeZone) -> Option<String> {
    let local = observation.at.local_text(zone);
    // Of 2026-11-22T10:30:00.250+01:00 the time of day.
    let time = local.get(11..23).unwrap_or(&local);
    Some(match &observation.what {
        Payload::ProcessCreate(seen) => {
            let user = seen.user_name.as_deref().unwrap_or(&seen.user_id);
            started(time, &seen.process_id.to_string(), &seen.parent_process_id.to_string(), user, &command(seen))
        }
        Payload::ProcessTerminate(seen) => {
            let name = seen.extra_details.get("ProcessName").map_or("", String::as_str);
            let program = if seen.executable.is_empty() { known(name) } else { &seen.executable };
            ended(time, &seen.process_id.to_string(), &seen.exit_status.to_string(), program)
        }
        Payload::ConnectionCreate(seen) => {
            let (from, to) = ends(seen);
            let pid = if seen.process_id == 0 { "?".to_owned() } else { seen.process_id.to_string() };
            connection(time, &pid, &seen.protocol, &from, &to, known(&seen.executable))
        }
        Payload::Login(seen) => {
            let result = if seen.result == LoginResult::Success { "Success" } else { "Fail" };
            login(time, result, &seen.user_name, &place(seen), &seen.operation, known(&seen.executable))
        }
        _ => return None,
    })
}

/// Where a sign-in came from: the other machine, else the terminal.
fn place(seen: &Login) -> String {
    let detail = |key: &str| seen.extra_details.get(key).cloned();
    let address = seen.remote_address.map(|address| address.to_string());
    address.or_else(|| detail("RemoteHost")).or_else(|| detail("Terminal")).unwrap_or_else(|| "?".to_owned())
}

/// Who opened the connection, and to whom.
fn ends(seen: &ConnectionCreate) -> (String, String) {
    let end = |address: String, port: Option<String>| {
        let port = port.unwrap_or_else(|| "?".to_owned());
        if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
    };
    let remote = end(seen.remote_address.to_string(), Some(seen.remote_port.to_string()));
    let local = end(
        seen.local_address.map_or_else(|| "?".to_owned(), |address| address.to_string()),
        seen.local_port.map(|port| port.to_string()),
    );
    if seen.direction == Direction::In { (remote, local) } else { (local, remote) }
}

fn known(program: &str) -> &str {
    if program.is_empty() { "?" } else { program }
}

/// What a person wants to read: the command line, else the best that is known.
fn command(seen: &ProcessCreate) -> String {
    let name = seen.extra_details.get("ProcessName");
    if !seen.command_line.is_empty() {
        seen.command_line.clone()
    } else if !seen.executable.is_empty() {
        format!("{} (command line gone)", seen.executable)
    } else {
        format!("({} ended before it was read)", name.map_or("program", String::as_str))
    }
}

fn started(time: &str, pid: &str, parent: &str, user: &str, command: &str) -> String {
    format!("{time:<12}  {pid:>7}  {parent:>7}  {:<12}  {}", output::printable(user), output::printable(command))
}

fn ended(time: &str, pid: &str, status: &str, program: &str) -> String {
    format!("{time:<12}  {pid:>7}  {status:>6}  {}", output::printable(program))
}

fn connection(time: &str, pid: &str, protocol: &str, from: &str, to: &str, program: &str) -> String {
    format!("{time:<12}  {pid:>7}  {protocol:<5}  {from:<24}  {to:<24}  {}", output::printable(program))
}

fn login(time: &str, result: &str, user: &str, from: &str, operation: &str, program: &str) -> String {
    let [user, from, operation, program] = [user, from, operation, program].map(output::printable);
    format!("{time:<12}  {result:<7}  {user:<12}  {from:<24}  {operation:<20}  {program}")
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::payload::{ExtraDetails, Port, ProcessTerminate};
    use crate::model::time::Timestamp;

    fn shown(what: Payload) -> String {
        let at = Timestamp::trusted("2026-11-22T09:30:00.25Z".parse().unwrap());
        row(&Observation { at, serial: 0, what }, &TimeZone::UTC).unwrap()
    }

    #[test]
    fn a_gone_process_is_shown_as_such() {
        assert_eq!(command(&ProcessCreate::default()), "(program ended before it was read)");
    }

    #[test]
    fn each_kind_has_lines_below_its_heading() {
        let ended = ProcessTerminate { process_id: 7, exit_status: 137, ..ProcessTerminate::default() };
        let connection = ConnectionCreate {
            remote_address: "2001:db8::7".parse::<IpAddr>().unwrap().into(),
            remote_port: Port(40_000),
            local_address: None,
            local_port: Some(Port(22)),
            direction: Direction::In,
            protocol: "tcp".into(),
            process_id: 0,
            user_id: None,
            executable: "/usr/sbin/sshd\u{1b}".into(),
            command_line: None,
            extra_details: ExtraDetails::new(),
        };
        let login = Login {
            process_id: 812,
            user_id: None,
            user_name: "a\nb".into(),
            operation: "ssh:password".into(),
            executable: "/usr/sbin/sshd".into(),
            remote_address: None,
            remote_port: None,
            local_port: None,
            result: LoginResult::Fail,
            extra_details: ExtraDetails::from([("Terminal".into(), "tty1".into())]),
        };
        let lines = [
            heading(EventName::ProcessTerminate),
            shown(Payload::ProcessTerminate(ended)),
            heading(EventName::ConnectionCreate),
            shown(Payload::ConnectionCreate(connection)),
            heading(EventName::Login),
            shown(Payload::Login(login)),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r"
        TIME              PID  STATUS  PROGRAM
        09:30:00.250        7     137  ?
        TIME              PID  PROTO  FROM                      TO                        PROGRAM
        09:30:00.250        ?  tcp    [2001:db8::7]:40000       ?:22                      /usr/sbin/sshd\u{1b}
        TIME          RESULT   USER          FROM                      OPERATION             PROGRAM
        09:30:00.250  Fail     a\nb          tty1                      ssh:password          /usr/sbin/sshd
        ");
    }
}

//! Misbehaviour on request. Everything is off at first and holds, for all modules, until it is changed.

use serde::{Deserialize, Serialize};

use super::certificates::ServerCertificate;

/// How the hub is to misbehave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a test bench; any mix of them makes sense")]
pub struct Faults {
    /// New connections are refused.
    pub refuse: Option<Refusal>,
    /// Nothing listens on the port and no connection stands. The port stays reserved.
    pub cut: bool,
    /// What becomes of the answers to QoS 1 messages.
    pub pub_ack: PubAckFault,
    /// What becomes of requests for the twin.
    pub twin_get: Option<TwinFault>,
    /// What becomes of reports.
    pub twin_report: Option<TwinFault>,
    /// Desired changes raise the version, but nobody is told.
    pub miss_desired_notices: bool,
    /// Each notice of a desired change comes twice.
    pub duplicate_desired_notices: bool,
    /// Nothing is read from any connection; what arrives waits in the sockets. Keep-alive is not counted.
    pub stall: bool,
    /// The next connection that has brought this many bytes (inside TLS) is closed when it has; then the fault is over.
    pub close_at_byte: Option<u64>,
    /// Stored sessions are forgotten at the next sign-in: `session present` is 0 and no filter is kept.
    pub lose_session: bool,
    /// The certificate shown to new connections.
    pub certificate: ServerCertificate,
}

/// How a new connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// TCP is closed before TLS begins.
    Close,
    /// CONNACK with this code, whatever the credentials.
    ConnAck(u8),
}

/// What becomes of PUBACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PubAckFault {
    /// It comes at once.
    #[default]
    None,
    /// It never comes for what arrives while this holds. The message is stored: observers see it.
    Withhold,
    /// It comes after so many milliseconds.
    LateMs(u64),
    /// It comes twice.
    Duplicate,
    /// Each second one overtakes the one before it. One that is last comes after a second.
    OutOfOrder,
}

/// What becomes of a twin request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TwinFault {
    /// It is answered with this status (429, 500, …) and an error body, and has no effect.
    Status(u16),
    /// It is lost: no answer, no effect.
    Silence,
    /// It takes effect at once, and is answered after so many milliseconds.
    LateMs(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_is_short() {
        let faults: Faults = serde_json::from_str(
            r#"{"refuse":{"conn_ack":5},"pub_ack":{"late_ms":50},"twin_get":{"status":429},"twin_report":"silence"}"#,
        )
        .unwrap();
        assert_eq!(faults.refuse, Some(Refusal::ConnAck(5)));
        assert_eq!(faults.pub_ack, PubAckFault::LateMs(50));
        assert_eq!(faults.twin_get, Some(TwinFault::Status(429)));
        assert_eq!(faults.twin_report, Some(TwinFault::Silence));
        assert!(serde_json::from_str::<Faults>(r#"{"pubak":"withhold"}"#).is_err());
    }
}

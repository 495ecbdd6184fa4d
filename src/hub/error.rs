//! Why there is no link, in types; and what to do next, in words.

use std::fmt;

use thiserror::Error;

use crate::model::time::Timestamp;

/// How fast to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// It may pass by itself: network trouble, throttling, a hub that is being serviced.
    Normal,
    /// It will hardly pass without hands (a key, an identity, a certificate, the clock). Tried slowly, for ever:
    /// clocks get set, identities get created, keys get fixed.
    Slow,
}

/// Return codes of CONNACK other than 0 (MQTT 3.1.1, 3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnackCode {
    /// 1: the server does not speak MQTT 3.1.1.
    ProtocolVersion,
    /// 2: the client id is not accepted.
    ClientId,
    /// 3: unavailable, throttled, or identity disabled.
    Unavailable,
    /// 4: the user name is malformed.
    UserName,
    /// 5: not authorised; by far the usual one.
    NotAuthorized,
}

impl ConnackCode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::ProtocolVersion => 1,
            Self::ClientId => 2,
            Self::Unavailable => 3,
            Self::UserName => 4,
            Self::NotAuthorized => 5,
        }
    }
}

/// What the TLS handshake failed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// No trusted root signed the server's chain.
    UnknownCa,
    /// The certificate is for other names; at most a few of them are listed.
    WrongName {
        /// The names it is for.
        presented: Vec<String>,
    },
    /// The certificate, or one above it, is out of date.
    Expired,
    /// The certificate is not valid yet, so our clock is probably behind.
    NotYetValid,
    /// Anything else, in the library's words.
    Other(String),
}

/// What did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Name resolution.
    Dns,
    /// The TCP connection.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// CONNACK.
    ConnAck,
    /// SUBACK.
    SubAck,
    /// PUBACK of a message.
    PubAck,
    /// Any packet at all.
    AnyPacket,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "no answer to the name look-up",
            Self::Tcp => "no TCP connection",
            Self::Tls => "the TLS handshake did not end",
            Self::ConnAck => "no CONNACK",
            Self::SubAck => "no SUBACK",
            Self::PubAck => "no PUBACK for a message",
            Self::AnyPacket => "nothing heard from the hub",
        })
    }
}

/// Why the link is down. The texts are single lines without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// The name has no address.
    #[error("cannot resolve {name}: {why}; check the host name, the network and the DNS server")]
    Dns {
        /// The name.
        name: String,
        /// The resolver's words.
        why: String,
    },
    /// No address answered.
    #[error("cannot reach {name} port {port}: {why}; check the network, and that a firewall lets TCP {port} out")]
    Tcp {
        /// What was dialled.
        name: String,
        /// The port.
        port: u16,
        /// The last address's error.
        why: String,
    },
    /// The TLS handshake failed.
    #[error("TLS with {name}: {}", tls_text(.fault, .name))]
    Tls {
        /// The name that was expected.
        name: String,
        /// What failed.
        fault: TlsFault,
    },
    /// CONNACK with a code other than 0.
    #[error("the hub refused the sign-in (CONNACK {}): {}", .code.number(), refused_text(*.code, .at))]
    Refused {
        /// The code.
        code: ConnackCode,
        /// Our clock at that moment: a wrong one is a usual cause.
        at: Timestamp,
    },
    /// The connection ended without a reason; the hub never gives one.
    #[error(
        "the connection was closed by the other side; usual causes: second client with this identity, hub in service, quota used up ({why})"
    )]
    ClosedByHub {
        /// What the socket said.
        why: String,
    },
    /// Something did not come in time.
    #[error("{what} within {seconds} s; the connection is given up")]
    Timeout {
        /// What was awaited.
        what: Wait,
        /// How long.
        seconds: u64,
    },
    /// The other side, or the MQTT library, broke the rules.
    #[error("MQTT protocol: {0}; is this an IoT Hub?")]
    Protocol(String),
}

impl LinkError {
    /// How fast to try again. All errors are tried again, for ever.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Refused { code: ConnackCode::Unavailable, .. } => Lane::Normal,
            Self::Refused { .. } | Self::Tls { fault: TlsFault::UnknownCa | TlsFault::WrongName { .. }, .. } => {
                Lane::Slow
            }
            _ => Lane::Normal,
        }
    }

    /// Whether it may pass without anybody's hands.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self.lane(), Lane::Normal)
    }
}

fn tls_text(fault: &TlsFault, name: &str) -> String {
    match fault {
        TlsFault::UnknownCa => {
            "the server's certificate is signed by no trusted root; put a gateway's CA into the file hub.ca_file, or install ca-certificates; otherwise somebody is in between".to_owned()
        }
        TlsFault::WrongName { presented } => {
            let names = if presented.is_empty() { "other names".to_owned() } else { presented.join(", ") };
            format!("the server's certificate is for {names}, not for {name}; check HostName and GatewayHostName")
        }
        TlsFault::Expired => {
            "the server's certificate has expired; check the date of this machine, else renew the server's certificate".to_owned()
        }
        TlsFault::NotYetValid => {
            "the server's certificate is not valid yet; the clock of this machine is probably behind, set it".to_owned()
        }
        TlsFault::Other(why) => format!("{why}; is this an IoT Hub or a gateway, and does it speak TLS 1.2 or newer?"),
    }
}

fn refused_text(code: ConnackCode, at: &Timestamp) -> String {
    match code {
        ConnackCode::ProtocolVersion => "it does not speak MQTT 3.1.1; check HostName and the port".to_owned(),
        ConnackCode::ClientId => "it does not accept the client id; check DeviceId and ModuleId".to_owned(),
        ConnackCode::Unavailable => "unavailable or throttled, or the identity is disabled".to_owned(),
        ConnackCode::UserName => "it does not accept the user name; check HostName, DeviceId and ModuleId".to_owned(),
        ConnackCode::NotAuthorized => {
            let trust = if at.trusted { "" } else { ", which is known to be wrong" };
            format!(
                "wrong key, unknown or disabled device or module, or wrong clock; compare the connection string with the hub, and the clock: now is {}{trust}",
                at.utc_text()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ConnackCode) -> LinkError {
        LinkError::Refused { code, at: Timestamp::trusted("2026-07-01T09:30:00Z".parse().unwrap()) }
    }

    #[test]
    fn lanes_follow_the_cause() {
        assert_eq!(refused(ConnackCode::NotAuthorized).lane(), Lane::Slow);
        assert_eq!(refused(ConnackCode::Unavailable).lane(), Lane::Normal);
        let tls = |fault| LinkError::Tls { name: "h".into(), fault };
        assert!(!tls(TlsFault::UnknownCa).is_retryable());
        assert!(!tls(TlsFault::WrongName { presented: vec![] }).is_retryable());
        assert!(tls(TlsFault::NotYetValid).is_retryable());
        assert!(LinkError::ClosedByHub { why: "end".into() }.is_retryable());
    }

    #[test]
    fn texts_say_what_to_do_on_one_line() {
        let text = refused(ConnackCode::NotAuthorized).to_string();
        assert!(text.contains("CONNACK 5") && text.contains("now is 2026-07-01T09:30:00.000Z"), "{text}");
        let wrong = TlsFault::WrongName { presented: vec!["a".into(), "b".into()] };
        let text = LinkError::Tls { name: "h.net".into(), fault: wrong }.to_string();
        assert!(text.contains("for a, b, not for h.net"), "{text}");
        assert!(!text.contains('\n'));
    }
}

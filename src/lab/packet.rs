//! MQTT 3.1.1, the server's side: what a client sends.
//!
//! A packet is one byte of kind and flags, its remaining length in one to four bytes (seven bits each, least first, top
//! bit = one more follows), then the rest. Texts and data inside carry a length of two bytes in front, most significant
//! first. Source: OASIS MQTT 3.1.1. Anything that is not exactly so is an error, and the hub closes on it.

use thiserror::Error;

use crate::model::secret::Secret;

/// The largest packet that is taken, in bytes: a message of 256 KiB with a long topic fits. Judged before memory is given.
pub(super) const LARGEST: usize = 300 * 1024;

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// Sign-in.
    Connect(Box<Connect>),
    /// A message, with any QoS: to judge it is the session's work.
    Publish(Publish),
    /// The answer to a message of ours; we send none that wants one.
    PubAck,
    /// Filters with the QoS asked for (0 to 2).
    Subscribe { id: u16, filters: Vec<(String, u8)> },
    /// Filters.
    Unsubscribe { id: u16, filters: Vec<String> },
    /// Keep-alive.
    Ping,
    /// An orderly good-bye.
    Disconnect,
}

/// CONNECT. With a `level` other than 4 nothing else is filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Connect {
    pub level: u8,
    pub clean_session: bool,
    pub keep_alive: u16,
    pub client_id: String,
    pub will: Option<Will>,
    pub user_name: Option<String>,
    pub password: Option<Secret>,
}

/// What the hub is to publish when the client goes without DISCONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Will {
    pub topic: String,
    pub body: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
}

/// PUBLISH; `id` is there for QoS 1 and 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub topic: String,
    pub body: Vec<u8>,
    pub id: Option<u16>,
    pub qos: u8,
    pub dup: bool,
    pub retain: bool,
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum PacketError {
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    #[error("a packet of {0} bytes; {LARGEST} are taken")]
    TooLarge(usize),
}

use PacketError::Malformed;

/// Takes the first packet of `bytes` and says how many bytes it had; `None` while it is not whole.
///
/// # Errors
/// The bytes can never become a packet.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Packet, usize)>, PacketError> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, header)) = remaining_length(rest)? else { return Ok(None) };
    let total = 1 + header + length;
    if total > LARGEST {
        return Err(PacketError::TooLarge(total));
    }
    let Some(body) = bytes.get(1 + header..total) else { return Ok(None) };
    Ok(Some((packet(first, Fields(body))?, total)))
}

fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, PacketError> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((value, i + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Malformed("remaining length")) }
}

fn packet(first: u8, mut fields: Fields<'_>) -> Result<Packet, PacketError> {
    let flags = first & 0x0f;
    let wanted = |flag: u8| if flags == flag { Ok(()) } else { Err(Malformed("reserved flags")) };
    let packet = match first >> 4 {
        1 => {
            wanted(0)?;
            let connect = connect(&mut fields)?;
            if connect.level != 4 {
                // The rest has a form that this level does not know.
                return Ok(Packet::Connect(Box::new(connect)));
            }
            Packet::Connect(Box::new(connect))
        }
        3 => return publish(flags, fields),
        4 => {
            wanted(0)?;
            fields.id()?;
            Packet::PubAck
        }
        8 => {
            wanted(2)?;
            subscribe(&mut fields)?
        }
        10 => {
            wanted(2)?;
            let (id, mut filters) = (fields.id()?, Vec::new());
            while filters.is_empty() || !fields.0.is_empty() {
                filters.push(fields.text()?);
            }
            Packet::Unsubscribe { id, filters }
        }
        12 => {
            wanted(0)?;
            Packet::Ping
        }
        14 => {
            wanted(0)?;
            Packet::Disconnect
        }
        5..=7 => return Err(Malformed("a step of QoS 2, which the hub does not have")),
        _ => return Err(Malformed("a kind of packet that clients do not send")),
    };
    if fields.0.is_empty() { Ok(packet) } else { Err(Malformed("bytes after the end")) }
}

fn connect(fields: &mut Fields<'_>) -> Result<Connect, PacketError> {
    let name = fields.text()?;
    let level = fields.byte()?;
    match (name.as_str(), level) {
        ("MQTT", 4) => {}
        ("MQTT" | "MQIsdp", _) => return Ok(Connect { level, ..Connect::default() }),
        _ => return Err(Malformed("protocol name")),
    }
    let flags = fields.byte()?;
    let flag = |bit: u8| flags & (1 << bit) != 0;
    let will_qos = (flags >> 3) & 3;
    if flag(0) || will_qos == 3 || (!flag(2) && (will_qos != 0 || flag(5))) || (flag(6) && !flag(7)) {
        return Err(Malformed("connect flags"));
    }
    let keep_alive = fields.short()?;
    let client_id = fields.text()?;
    let will = if flag(2) {
        Some(Will { topic: fields.text()?, body: fields.data()?.to_vec(), qos: will_qos, retain: flag(5) })
    } else {
        None
    };
    let user_name = if flag(7) { Some(fields.text()?) } else { None };
    let password = if flag(6) { Some(Secret::new(fields.data()?.to_vec())) } else { None };
    Ok(Connect { level, clean_session: flag(1), keep_alive, client_id, will, user_name, password })
}

fn publish(flags: u8, mut fields: Fields<'_>) -> Result<Packet, PacketError> {
    let (dup, qos, retain) = (flags & 8 != 0, (flags >> 1) & 3, flags & 1 != 0);
    if qos == 3 || (dup && qos == 0) {
        return Err(Malformed("publish flags"));
    }
    let topic = fields.text()?;
    if topic.is_empty() || topic.contains(['+', '#']) {
        return Err(Malformed("a topic with wildcards, or none"));
    }
    let id = if qos == 0 { None } else { Some(fields.id()?) };
    Ok(Packet::Publish(Publish { topic, body: fields.0.to_vec(), id, qos, dup, retain }))
}

fn subscribe(fields: &mut Fields<'_>) -> Result<Packet, PacketError> {
    let (id, mut filters) = (fields.id()?, Vec::new());
    while filters.is_empty() || !fields.0.is_empty() {
        let filter = fields.text()?;
        let qos = fields.byte()?;
        if qos > 2 {
            return Err(Malformed("QoS asked for"));
        }
        filters.push((filter, qos));
    }
    Ok(Packet::Subscribe { id, filters })
}

/// The bytes of a packet that are not read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], PacketError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Malformed("cut short"))?;
        self.0 = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, PacketError> {
        Ok(self.take(1)?.first().copied().unwrap_or(0))
    }

    fn short(&mut self) -> Result<u16, PacketError> {
        Ok(self.take(2)?.iter().fold(0, |value, byte| (value << 8) | u16::from(*byte)))
    }

    fn id(&mut self) -> Result<u16, PacketError> {
        match self.short()? {
            0 => Err(Malformed("packet id 0")),
            id => Ok(id),
        }
    }

    fn data(&mut self) -> Result<&'a [u8], PacketError> {
        let length = self.short()?;
        self.take(length.into())
    }

    fn text(&mut self) -> Result<String, PacketError> {
        let text = std::str::from_utf8(self.data()?).map_err(|_| Malformed("text that is not UTF-8"))?;
        if text.contains('\0') { Err(Malformed("a NUL in a text")) } else { Ok(text.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(t: &str) -> Vec<u8> {
        let mut bytes = u16::try_from(t.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(t.as_bytes());
        bytes
    }

    fn whole(first: u8, body: &[u8]) -> Vec<u8> {
        assert!(body.len() < 128);
        let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
        bytes.extend(body);
        bytes
    }

    fn connect_bytes(flags: u8, tail: &[&str]) -> Vec<u8> {
        let mut body = text("MQTT");
        body.extend([4, flags, 0, 60]);
        body.extend(tail.iter().flat_map(|t| text(t)));
        whole(0x10, &body)
    }

    #[test]
    fn a_connect_gives_its_parts() {
        let bytes = connect_bytes(0b1110_1110, &["d/m", "topic", "bye", "user", "pass"]);
        let (packet, used) = decode(&bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        let Packet::Connect(connect) = packet else { panic!("{packet:?}") };
        assert_eq!((connect.level, connect.keep_alive, connect.client_id.as_str()), (4, 60, "d/m"));
        assert!(connect.clean_session);
        let will = connect.will.unwrap();
        assert_eq!((will.topic.as_str(), will.body.as_slice(), will.qos, will.retain), ("topic", &b"bye"[..], 1, true));
        assert_eq!(connect.user_name.as_deref(), Some("user"));
        assert_eq!(connect.password.unwrap().expose(), b"pass");
    }

    #[test]
    fn a_part_of_a_packet_waits_for_the_rest() {
        let bytes = connect_bytes(2, &["d/m"]);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn what_breaks_the_standard_is_refused() {
        let refused = [
            ("reserved connect flag", connect_bytes(0b0000_0011, &["d/m"])),
            ("password without user name", connect_bytes(0b0100_0010, &["d/m", "pass"])),
            ("will QoS without will", connect_bytes(0b0000_1010, &["d/m"])),
            ("bytes after the end", connect_bytes(2, &["d/m", "more"])),
            ("flags of SUBSCRIBE", whole(0x80, &[&[0, 1][..], &text("f"), &[0]].concat())),
            ("SUBSCRIBE to nothing", whole(0x82, &[0, 1])),
            ("packet id 0", whole(0x32, &[&text("t")[..], &[0, 0]].concat())),
            ("QoS 3", whole(0x36, &[&text("t")[..], &[0, 1]].concat())),
            ("DUP with QoS 0", whole(0x38, &text("t"))),
            ("wildcard in a topic", whole(0x30, &text("a/#"))),
            ("NUL in a text", whole(0x30, &text("a\0"))),
            ("PUBREL", whole(0x62, &[0, 1])),
            ("CONNACK from a client", whole(0x20, &[0, 0])),
            ("not UTF-8", whole(0x30, &[0, 1, 0xff])),
        ];
        for (what, bytes) in refused {
            assert!(matches!(decode(&bytes), Err(Malformed(_))), "{what}");
        }
        assert_eq!(decode(&[0x30, 0xff, 0xff, 0xff, 0xff]), Err(Malformed("remaining length")));
    }

    #[test]
    fn a_huge_packet_is_refused_by_its_header() {
        assert!(matches!(decode(&[0x30, 0xff, 0xff, 0xff, 0x7f]), Err(PacketError::TooLarge(_))));
    }

    #[test]
    fn another_level_is_told_apart_from_rubbish() {
        let mut body = text("MQTT");
        body.extend([5, 2, 0, 60, 0]);
        let (packet, _) = decode(&whole(0x10, &body)).unwrap_or_else(|_| panic!("refused")).unwrap();
        assert!(matches!(packet, Packet::Connect(c) if c.level == 5));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn no_body_makes_it_panic(first in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(Some((_, used))) = decode(&whole(first, &body)) {
                prop_assert_eq!(used, body.len() + 2);
            }
        }
    }
}

//! MQTT 3.1.1, the server's side: what the hub sends. The form of a packet is described in `packet.rs`.

/// CONNACK: 0 is welcome, 1 to 5 are the standard's refusals.
pub(super) fn conn_ack(session_present: bool, code: u8) -> Vec<u8> {
    vec![0x20, 2, u8::from(session_present), code]
}

/// PUBLISH with QoS 0; answers, notices and method calls come so.
pub(super) fn publish(topic: &str, body: &[u8]) -> Vec<u8> {
    let name = topic.as_bytes();
    let mut rest = Vec::with_capacity(2 + name.len() + body.len());
    rest.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    rest.extend(name);
    rest.extend(body);
    framed(0x30, &rest)
}

/// PUBACK.
pub(super) fn pub_ack(id: u16) -> Vec<u8> {
    framed(0x40, &id.to_be_bytes())
}

/// SUBACK with the QoS granted for each filter.
pub(super) fn sub_ack(id: u16, granted: &[u8]) -> Vec<u8> {
    framed(0x90, &[&id.to_be_bytes(), granted].concat())
}

/// UNSUBACK.
pub(super) fn unsub_ack(id: u16) -> Vec<u8> {
    framed(0xb0, &id.to_be_bytes())
}

/// PINGRESP.
pub(super) fn pong() -> Vec<u8> {
    vec![0xd0, 0]
}

fn framed(first: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = rest.len();
    loop {
        let low = u8::try_from(length % 128).unwrap_or(0);
        length /= 128;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend(rest);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_many_bytes_as_they_need() {
        assert_eq!(publish("t", b"b"), [0x30, 4, 0, 1, b't', b'b']);
        assert_eq!(publish("t", &[0; 125])[..3], [0x30, 0x80, 1]);
        assert_eq!(publish("t", &vec![0; 20_000])[..4], [0x30, 0xa3, 0x9c, 1]);
        assert_eq!(sub_ack(258, &[1, 0]), [0x90, 4, 1, 2, 1, 0]);
    }
}

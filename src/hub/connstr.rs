//! Connection strings of a module:
//! `HostName=H;DeviceId=d;ModuleId=m;SharedAccessKey=base64[;GatewayHostName=G]`, parts in any order, split at `;` and
//! each at its first `=` (keys end in `=`). Names are exact.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use thiserror::Error;

use crate::model::secret::Secret;

/// Longest device or module id.
const MAX_ID: usize = 128;
/// Longest host name in DNS.
const MAX_HOST: usize = 253;
/// Longest connection string that is looked at; a real one has about 250 bytes.
const MAX_TEXT: usize = 4096;
/// What an id may hold besides letters and digits.
const ID_MARKS: &str = "-.%_#*?!(),:=@$'";

const NAMES: [&str; 5] = ["HostName", "DeviceId", "ModuleId", "SharedAccessKey", "GatewayHostName"];

/// Keys are met with and without padding.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who a module is, and where its hub is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionString {
    /// The hub's name; goes into the user name and the token, also through a gateway.
    pub host_name: String,
    /// The device's id, case-sensitive.
    pub device_id: String,
    /// The module's id, case-sensitive.
    pub module_id: String,
    /// The module's key, decoded.
    pub key: Secret,
    /// The gateway to dial instead of the hub.
    pub gateway: Option<String>,
}

/// What is wrong with a connection string. The key is in none of these texts, nor is any part that could be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectionStringError {
    /// Nothing but blanks.
    #[error(
        "the connection string is empty; copy the module's one from the hub (HostName=…;DeviceId=…;ModuleId=…;SharedAccessKey=…)"
    )]
    Empty,
    /// Not text.
    #[error("the connection string is not UTF-8 text")]
    NotText,
    /// Larger than any real one.
    #[error("the connection string is longer than 4096 bytes: this is something else")]
    TooLong,
    /// A part that holds no `=`, or nothing before it.
    #[error("part {number} of the connection string has no name: expected NAME=VALUE")]
    NoName {
        /// Counted from 1.
        number: usize,
    },
    /// A name that is not one of ours.
    #[error("part {number} of the connection string has an unknown name; {hint}")]
    UnknownName {
        /// Counted from 1.
        number: usize,
        /// The nearest known name, or all of them.
        hint: String,
    },
    /// A name that means another way to sign in.
    #[error("{name} in the connection string: {why}")]
    OtherWay {
        /// The name.
        name: &'static str,
        /// What it means and what to use instead.
        why: &'static str,
    },
    /// The same name twice.
    #[error("{name} is twice in the connection string; keep one")]
    Duplicate {
        /// The name.
        name: &'static str,
    },
    /// Names without which it does not work.
    #[error("the connection string lacks {}", .names.join(" and "))]
    Missing {
        /// The names.
        names: Vec<&'static str>,
    },
    /// A value that cannot be right.
    #[error("{name} in the connection string is malformed: {why}")]
    Malformed {
        /// The name.
        name: &'static str,
        /// What is expected.
        why: &'static str,
    },
    /// The key is not base64.
    #[error("SharedAccessKey in the connection string is not base64; copy it again, whole, with the = at its end")]
    KeyNotBase64,
}

impl ConnectionString {
    /// Reads a connection string; blanks and line ends around it do not matter.
    ///
    /// # Errors
    /// Names the part, never its secret.
    pub fn parse(text: &Secret) -> Result<Self, ConnectionStringError> {
        let text = text.expose_text().ok_or(ConnectionStringError::NotText)?.trim();
        if text.is_empty() {
            return Err(ConnectionStringError::Empty);
        }
        if text.len() > MAX_TEXT {
            return Err(ConnectionStringError::TooLong);
        }
        let [host, device, module, key, gateway] = split(text)?;
        let required = [("HostName", host), ("DeviceId", device), ("ModuleId", module), ("SharedAccessKey", key)];
        let (Some(host), Some(device), Some(module), Some(key)) = (host, device, module, key) else {
            let names = required.iter().filter(|(_, v)| v.is_none()).map(|(n, _)| *n).collect();
            return Err(ConnectionStringError::Missing { names });
        };
        Ok(Self {
            host_name: check_host("HostName", host)?,
            device_id: check_id("DeviceId", device)?,
            module_id: check_id("ModuleId", module)?,
            key: check_key(key)?,
            gateway: gateway.map(|g| check_host("GatewayHostName", g)).transpose()?,
        })
    }

    /// The name to dial, to send in SNI and to look for in the server's certificate: the gateway, else the hub.
    #[must_use]
    pub fn dial_name(&self) -> &str {
        self.gateway.as_deref().unwrap_or(&self.host_name)
    }
}

/// The values by position in [`NAMES`].
fn split(text: &str) -> Result<[Option<&str>; 5], ConnectionStringError> {
    let mut values = [None; NAMES.len()];
    for (i, part) in text.split(';').enumerate() {
        let number = i + 1;
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let (name, value) = part.split_once('=').ok_or(ConnectionStringError::NoName { number })?;
        if name.is_empty() {
            return Err(ConnectionStringError::NoName { number });
        }
        let known = NAMES.iter().zip(values.iter_mut()).find(|(known, _)| **known == name);
        let Some((name, slot)) = known else { return Err(unknown(number, name)) };
        if slot.replace(value).is_some() {
            return Err(ConnectionStringError::Duplicate { name });
        }
    }
    Ok(values)
}

fn unknown(number: usize, name: &str) -> ConnectionStringError {
    let other = |name, why| ConnectionStringError::OtherWay { name, why };
    match name {
        "SharedAccessKeyName" => {
            return other(
                "SharedAccessKeyName",
                "this is a key of the whole hub, which must not be on a device; use the module's own connection string",
            );
        }
        "SharedAccessSignature" => {
            return other(
                "SharedAccessSignature",
                "a ready-made token cannot be renewed; use the SharedAccessKey of the module",
            );
        }
        "x509" => {
            return other("x509", "sign-in by certificate is not available; use a module with a SharedAccessKey");
        }
        _ => {}
    }
    // The name itself is not repeated: in a mangled string it may be a piece of the key.
    let nearest = NAMES
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase()), known))
        .min();
    let hint = match nearest {
        Some((distance, known)) if distance <= 3 => format!("did you mean {known}? Names are case-sensitive"),
        _ => format!("known are {}", NAMES.join(", ")),
    };
    ConnectionStringError::UnknownName { number, hint }
}

fn check_host(name: &'static str, value: &str) -> Result<String, ConnectionStringError> {
    let good = !value.is_empty()
        && value.len() <= MAX_HOST
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if good {
        Ok(value.to_owned())
    } else {
        let why = "expected a host name such as example.azure-devices.net, without scheme, port or path";
        Err(ConnectionStringError::Malformed { name, why })
    }
}

fn check_id(name: &'static str, value: &str) -> Result<String, ConnectionStringError> {
    let why = if value.is_empty() {
        "it is empty"
    } else if value.len() > MAX_ID {
        "an id has at most 128 characters"
    } else if !value.chars().all(|c| c.is_ascii_alphanumeric() || ID_MARKS.contains(c)) {
        "an id holds ASCII letters, digits and - . % _ # * ? ! ( ) , : = @ $ ' only"
    } else if value.contains('#') {
        // A topic may not hold it (MQTT 3.1.1, 4.7.1), so telemetry could never be sent.
        "an id with # cannot be used over MQTT; create a device or module without it"
    } else {
        return Ok(value.to_owned());
    };
    Err(ConnectionStringError::Malformed { name, why })
}

fn check_key(value: &str) -> Result<Secret, ConnectionStringError> {
    match KEY_BASE64.decode(value) {
        Ok(key) if key.is_empty() => {
            Err(ConnectionStringError::Malformed { name: "SharedAccessKey", why: "it is empty" })
        }
        Ok(key) => Ok(Secret::new(key)),
        Err(_) => Err(ConnectionStringError::KeyNotBase64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConnectionString, ConnectionStringError> {
        ConnectionString::parse(&Secret::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn parts_come_in_any_order_with_blanks_around() {
        let a = parse(" HostName=h.azure-devices.net;DeviceId=d;ModuleId=m;SharedAccessKey=AAEC/w== \r\n").unwrap();
        let b = parse("SharedAccessKey=AAEC/w;ModuleId=m;HostName=h.azure-devices.net;DeviceId=d;").unwrap();
        assert_eq!(a, b);
        assert_eq!(a.key.expose(), [0, 1, 2, 255]);
        assert_eq!(a.dial_name(), "h.azure-devices.net");
        assert_eq!(a.gateway, None);
    }

    #[test]
    fn a_gateway_is_dialled_instead() {
        let c =
            parse("HostName=h.net;DeviceId=a=b;ModuleId=m%20;SharedAccessKey=AAAA;GatewayHostName=edge.local").unwrap();
        assert_eq!(c.dial_name(), "edge.local");
        assert_eq!((c.device_id.as_str(), c.module_id.as_str()), ("a=b", "m%20"));
    }

    #[test]
    fn each_fault_has_its_own_error() {
        use ConnectionStringError as E;
        let good = "HostName=h.net;DeviceId=d;ModuleId=m;SharedAccessKey=AAAA";
        assert_eq!(parse("  "), Err(E::Empty));
        assert_eq!(parse(&"x".repeat(5000)), Err(E::TooLong));
        assert_eq!(ConnectionString::parse(&Secret::new(vec![0xff])), Err(E::NotText));
        assert_eq!(parse("HostName=h.net;oops"), Err(E::NoName { number: 2 }));
        assert_eq!(parse("=h.net"), Err(E::NoName { number: 1 }));
        assert_eq!(parse(&format!("{good};DeviceId=e")), Err(E::Duplicate { name: "DeviceId" }));
        assert_eq!(
            parse("HostName=h.net;SharedAccessKey=AAAA"),
            Err(E::Missing { names: vec!["DeviceId", "ModuleId"] })
        );
        assert!(matches!(parse(&format!("{good};x509=true")), Err(E::OtherWay { name: "x509", .. })));
        assert!(matches!(parse(&format!("{good};SharedAccessKeyName=o")), Err(E::OtherWay { .. })));
        for bad in ["HostName=https://h;DeviceId=d", "HostName=h:1;DeviceId=d", "HostName=;DeviceId=d"] {
            assert!(matches!(
                parse(&format!("{bad};ModuleId=m;SharedAccessKey=AAAA")),
                Err(E::Malformed { name: "HostName", .. })
            ));
        }
        for bad in ["", "a/b", "a b", "ä", "a#", "a+"] {
            assert!(matches!(
                parse(&format!("HostName=h;DeviceId={bad};ModuleId=m;SharedAccessKey=AAAA")),
                Err(E::Malformed { name: "DeviceId", .. })
            ));
        }
        assert!(matches!(
            parse("HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey="),
            Err(E::Malformed { name: "SharedAccessKey", .. })
        ));
    }

    #[test]
    fn a_mistyped_name_is_answered_with_the_nearest_one() {
        let error = parse("Hostname=h.net").unwrap_err().to_string();
        assert!(error.contains("did you mean HostName?"), "{error}");
        let error = parse("Bananas=h.net").unwrap_err().to_string();
        assert!(error.contains("known are HostName, DeviceId"), "{error}");
    }

    #[test]
    fn the_key_is_in_no_error() {
        for text in [
            "HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey=SECRET!KEY",
            "HostName=h;DeviceId=d;ModuleId=m;SharedAccesKey=SECRETKEY",
            "HostName=h;DeviceId=d;ModuleId=m;SECRETKEY=",
            "SECRETKEY",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
        }
        assert_eq!(
            parse("HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey=A!AA"),
            Err(ConnectionStringError::KeyNotBase64)
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }
    }
}

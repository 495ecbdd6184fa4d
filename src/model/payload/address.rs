//! Addresses as the schemas want them: IPv4 or IPv6, never a name, a port or a scope.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize, Serializer};

/// The address of one end of a connection. An IPv4 address that an IPv6 socket shows in its mapped form
/// (`::ffff:192.0.2.7`) is held as what it is, `192.0.2.7`: a peer has one spelling, whatever socket it came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(from = "IpAddr")]
pub struct Address(IpAddr);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_one_spelling() {
        for (given, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::ffff:c000:207", "192.0.2.7"),
            ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
            ("::", "::"),
            ("::192.0.2.7", "::c000:207"),
        ] {
            let address = Address::from(given.parse::<IpAddr>().unwrap());
            assert_eq!(serde_json::to_string(&address).unwrap(), format!("\"{shown}\""), "{given}");
            assert_eq!(serde_json::from_str::<Address>(&format!("\"{given}\"")).unwrap(), address);
        }
        for no_address in ["fe80::1%eth0", "host.example", "192.0.2.7:22", ""] {
            assert!(serde_json::from_str::<Address>(&format!("\"{no_address}\"")).is_err(), "{no_address}");
        }
    }
}

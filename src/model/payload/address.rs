//! Addresses as the schemas want them: IPv4 or IPv6 text without scope.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// An address; one that IPv6 only maps from IPv4 (`::ffff:192.0.2.1`) is held and shown as the IPv4 address it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_what_it_means() {
        for (given, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:0:0::1", "2001:db8::1"),
            ("::", "::"),
        ] {
            let address = Address::from(given.parse::<IpAddr>().unwrap());
            assert_eq!(serde_json::to_value(address).unwrap(), shown);
            assert_eq!(serde_json::from_value::<Address>(given.into()).unwrap(), address);
        }
    }
}

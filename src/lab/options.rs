//! What a lab is started with.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::default_twin::default_desired;
use crate::model::secret::Secret;
use crate::sys::clock::{Clock, SystemClock};

/// What a lab is started with. The default is right for a try.
#[derive(Clone)]
pub struct LabOptions {
    /// The device's id: `try-device`.
    pub device: String,
    /// The module's id: `azureiotsecurity`.
    pub module: String,
    /// Where to listen: 127.0.0.1.
    pub bind: IpAddr,
    /// The port; 0, the default, is any.
    pub port: u16,
    /// The hub's name: `lab.azure-devices.net`.
    pub host_name: String,
    /// The module's desired properties: the published default.
    pub desired: Map<String, Value>,
    /// The module's primary key; a random one by default.
    pub primary_key: Option<Secret>,
    /// How long after its expiry a token still opens the door: 5 minutes, as documented.
    pub clock_allowance: Duration,
    /// How long after its token's expiry a connection is cut: 5 minutes, the lower end of what was observed.
    pub cut_after_expiry: Duration,
    /// How long a client may take from TCP to CONNECT: 30 s.
    pub sign_in_limit: Duration,
    /// The clock that tokens are judged by.
    pub clock: Arc<dyn Clock>,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            device: "try-device".to_owned(),
            module: "azureiotsecurity".to_owned(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            host_name: "lab.azure-devices.net".to_owned(),
            desired: default_desired(),
            primary_key: None,
            clock_allowance: Duration::from_secs(300),
            cut_after_expiry: Duration::from_secs(300),
            sign_in_limit: Duration::from_secs(30),
            clock: Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH)),
        }
    }
}

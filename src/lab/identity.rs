//! The identity registry: who may sign in, and what the hub keeps for each.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::observed::Why;
use super::twin::{Notice, Twin};
use crate::model::secret::Secret;

/// A module of a device. Ids are case-sensitive and never encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ModuleId {
    /// The device's id.
    pub device: String,
    /// The module's id on it.
    pub module: String,
}

impl ModuleId {
    /// Names a module.
    #[must_use]
    pub fn new(device: impl Into<String>, module: impl Into<String>) -> Self {
        Self { device: device.into(), module: module.into() }
    }

    /// `devices/{d}/modules/{m}`: the beginning of its topics and the end of its SAS resource.
    pub(super) fn path(&self) -> String {
        format!("devices/{}/modules/{}", self.device, self.module)
    }

    /// Whether both ids are of the hub's alphabet and at most 128 long.
    pub(super) fn is_valid(&self) -> bool {
        [&self.device, &self.module].into_iter().all(|id| {
            (1..=128).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.%_#*?!(),:=@$'".contains(&b))
        })
    }
}

/// `d/m`, which is also the MQTT client id.
impl fmt::Display for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.module)
    }
}

/// The modules of the hub, by client id.
pub(super) type Registry = HashMap<String, Record>;

/// What the hub keeps for one module.
pub(super) struct Record {
    pub id: ModuleId,
    /// Primary and secondary.
    pub keys: [Secret; 2],
    pub enabled: bool,
    pub twin: Twin,
    /// Filters with the QoS granted. They outlive a connection that asked for it.
    pub session: Option<BTreeMap<String, u8>>,
    pub live: Option<Live>,
    /// Direct methods that wait for their answer, by request id.
    pub calls: HashMap<String, oneshot::Sender<Answer>>,
}

/// The connection a module has now.
pub(super) struct Live {
    /// Tells this connection from the ones before and after.
    pub serial: u64,
    /// Its session ends with it.
    pub clean: bool,
    pub outbound: mpsc::Sender<Outbound>,
    pub closer: mpsc::Sender<Why>,
}

/// What others want to have sent on a connection.
pub(super) enum Outbound {
    Desired(Notice),
    Method { name: String, rid: String, body: Vec<u8> },
}

/// What a device answered to a direct method.
pub(super) struct Answer {
    pub status: i64,
    pub body: Vec<u8>,
}

impl Record {
    /// A module that may sign in, and has not yet.
    pub(super) fn new(id: ModuleId, keys: [Secret; 2], twin: Twin) -> Self {
        Self { id, keys, enabled: true, twin, session: None, live: None, calls: HashMap::new() }
    }

    /// Whether the module is connected and `wanted` holds for one of its filters.
    pub(super) fn listens(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.live.is_some() && self.session.iter().flatten().any(|(filter, _)| wanted(filter))
    }

    /// Ends the connection there is, if any.
    pub(super) fn close(&self, why: Why) {
        if let Some(live) = &self.live {
            // The first reason stands; a connection that is already ending needs no second one.
            let _ = live.closer.try_send(why);
        }
    }

    /// Hands something to the connection there is; one that takes nothing any more is closed.
    pub(super) fn send(&self, outbound: Outbound) {
        if let Some(live) = &self.live
            && live.outbound.try_send(outbound).is_err()
        {
            self.close(Why::NotReading);
        }
    }
}

//! The loopback IoT Hub (feature `lab`): MQTT 3.1.1 over TLS, module identities with SAS, twins, direct methods,
//! telemetry, and misbehaviour on request. `twinward try`, `twinward lab` and the tests use it.
//!
//! It is strict where the hub is documented to be strict, and shares no protocol code with the agent's client.
//!
//! | file | idea |
//! |---|---|
//! | `packet`, `reply`, `wire` | MQTT: what comes in, what goes out, on a stream |
//! | `percent`, `topic`, `sas`, `signin` | topics and property bags; tokens; the judgement of CONNECT |
//! | `twin_rules`, `twin`, `default_twin` | what a section may hold; versions and merges; the published default |
//! | `identity`, `session` | what is kept for a module; what is done with each packet of it |
//! | `port`, `connection`, `methods`, `shared` | listening, a connection's life, direct methods, what they share |
//! | `certificates`, `faults`, `observed` | the authority; misbehaviour; what watchers are told |

mod certificates;
mod connection;
mod default_twin;
mod faults;
mod identity;
mod methods;
mod observed;
mod options;
mod packet;
mod percent;
mod port;
mod reply;
mod sas;
mod session;
mod shared;
mod signin;
mod topic;
mod twin;
mod twin_rules;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;
use tokio::sync::mpsc;

pub use certificates::ServerCertificate;
pub use default_twin::default_desired;
pub use faults::{Faults, PubAckFault, Refusal, TwinFault};
pub use identity::ModuleId;
pub use methods::{MethodError, MethodReply};
pub use observed::{Happening, Observed, Telemetry, Why};
pub use options::LabOptions;
pub use twin_rules::TwinError;

use identity::Record;
use port::Port;
use shared::Shared;
use signin::Rules;
use twin::Twin;

use crate::model::secret::Secret;

/// Why a lab did not start, or an identity was not made.
#[derive(Debug, Error)]
pub enum LabError {
    /// The port could not be taken.
    #[error("cannot listen on {address}: {source}; choose another port, or 0 for any")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make the lab's certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("cannot set TLS up: {0}")]
    Tls(#[from] rustls::Error),
    /// An id is empty, too long, or has characters that the hub does not allow.
    #[error("`{0}` is no module identity: ids have 1 to 128 ASCII letters, digits and - . % _ # * ? ! ( ) , : = @ $ '")]
    Identity(ModuleId),
    /// There is one already.
    #[error("the module {0} exists already")]
    Exists(ModuleId),
    /// The desired properties break a rule of twins.
    #[error("the desired properties are refused: {0}")]
    Twin(#[from] TwinError),
}

/// A running hub. Dropping it ends it; [`Lab::shutdown`] also waits for the end.
pub struct Lab {
    shared: Arc<Shared>,
    address: SocketAddr,
    default: ModuleId,
}

impl Lab {
    /// Starts a hub with one module. Must be called within a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The port is taken, or the options make no sense.
    #[expect(clippy::unused_async, reason = "it only works inside a runtime, and so the signature says")]
    pub async fn start(options: LabOptions) -> Result<Self, LabError> {
        let wanted = SocketAddr::new(options.bind, options.port);
        let failed = |source| LabError::Listen { address: wanted, source };
        let default = ModuleId::new(options.device, options.module);
        let certificates = certificates::Certificates::make(&options.host_name)?;
        let allowance = i64::try_from(options.clock_allowance.as_secs()).unwrap_or(i64::MAX);
        let rules = Rules { host: options.host_name, allowance };
        let clock = options.clock;
        let shared = Arc::new(Shared::new(rules, certificates, clock, options.cut_after_expiry, options.sign_in_limit));
        let port = Port::take(wanted).map_err(failed)?;
        let listener = port.listen().map_err(failed)?;
        let lab = Self { shared: Arc::clone(&shared), address: port.address, default: default.clone() };
        let primary = options.primary_key.unwrap_or_else(sas::random_key);
        lab.insert(default, [primary, sas::random_key()], &options.desired)?;
        // The first poll happens when the caller next waits; until then the kernel queues connections.
        shared.tasks.spawn(port.accept(Arc::clone(&shared), listener));
        Ok(lab)
    }

    /// The port on the address it was bound to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Address and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The hub's name: in the certificate, in user names and tokens.
    #[must_use]
    pub fn host_name(&self) -> &str {
        &self.shared.rules.host
    }

    /// The authority's certificate, which a client must trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.shared.certificates.ca_pem
    }

    /// The module that the lab was started with.
    #[must_use]
    pub fn module(&self) -> &ModuleId {
        &self.default
    }

    /// Connection string of the first module, with its primary key.
    #[must_use]
    pub fn connection_string(&self) -> String {
        self.connection_string_of(&self.default, false).unwrap_or_default()
    }

    /// Connection string of a module, with its primary or secondary key; `None` if there is no such module.
    #[must_use]
    pub fn connection_string_of(&self, id: &ModuleId, secondary: bool) -> Option<String> {
        self.shared.read(&id.to_string(), |record| {
            let [first, second] = &record.keys;
            sas::connection_string(self.host_name(), &id.device, &id.module, if secondary { second } else { first })
        })
    }

    /// All that happens from now on. The hub waits for a watcher that is behind by 1024: read it, or drop it.
    #[must_use]
    pub fn observe(&self) -> mpsc::Receiver<Observed> {
        self.shared.watchers.watch()
    }

    /// Merges a patch into desired of the first module and notifies it; gives the new version.
    ///
    /// # Errors
    /// A rule of twins is broken; nothing has changed then.
    pub fn patch_desired(&self, patch: Value) -> Result<u64, TwinError> {
        self.patch_desired_of(&self.default, patch)
    }

    /// The same for any module.
    ///
    /// # Errors
    /// A rule of twins is broken, or there is no such module.
    pub fn patch_desired_of(&self, id: &ModuleId, patch: Value) -> Result<u64, TwinError> {
        self.shared.change_desired(&id.to_string(), |twin| twin.patch_desired(patch))
    }

    /// Replaces desired of the first module; the notice holds the whole new section and does not tell what went.
    ///
    /// # Errors
    /// A rule of twins is broken; nothing has changed then.
    pub fn replace_desired(&self, desired: Value) -> Result<u64, TwinError> {
        self.replace_desired_of(&self.default, desired)
    }

    /// The same for any module.
    ///
    /// # Errors
    /// A rule of twins is broken, or there is no such module.
    pub fn replace_desired_of(&self, id: &ModuleId, desired: Value) -> Result<u64, TwinError> {
        self.shared.change_desired(&id.to_string(), |twin| twin.replace_desired(desired))
    }

    /// Desired of the first module, with `$version`.
    #[must_use]
    pub fn desired(&self) -> Value {
        self.twin_of(&self.default).map_or(Value::Null, |(desired, _)| desired)
    }

    /// Reported of the first module, with `$version`.
    #[must_use]
    pub fn reported(&self) -> Value {
        self.twin_of(&self.default).map_or(Value::Null, |(_, reported)| reported)
    }

    /// Desired and reported of any module, each with `$version`.
    #[must_use]
    pub fn twin_of(&self, id: &ModuleId) -> Option<(Value, Value)> {
        self.shared.read(&id.to_string(), |record| (record.twin.desired_section(), record.twin.reported_section()))
    }

    /// Whether a module is connected.
    #[must_use]
    pub fn is_connected(&self, id: &ModuleId) -> bool {
        self.shared.read(&id.to_string(), |record| record.live.is_some()).unwrap_or(false)
    }

    /// Calls a direct method of the first module and waits for its answer.
    ///
    /// # Errors
    /// The module is offline, does not listen, or does not answer in time.
    pub async fn invoke_method(&self, name: &str, payload: &Value, wait: Duration) -> Result<MethodReply, MethodError> {
        self.invoke_method_of(&self.default, name, payload, wait).await
    }

    /// The same for any module.
    ///
    /// # Errors
    /// The module is offline, does not listen, or does not answer in time.
    pub async fn invoke_method_of(
        &self,
        id: &ModuleId,
        name: &str,
        payload: &Value,
        wait: Duration,
    ) -> Result<MethodReply, MethodError> {
        methods::invoke(&self.shared, &id.to_string(), name, payload, wait).await
    }

    /// Changes how the hub misbehaves, at once and for all connections.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.faults.send_modify(change);
    }

    /// How it misbehaves now.
    #[must_use]
    pub fn current_faults(&self) -> Faults {
        self.shared.faults.borrow().clone()
    }

    /// Closes every connection there is.
    pub fn kick(&self) {
        self.shared.with(|registry| registry.values().for_each(|record| record.close(Why::Kicked)));
    }

    /// Makes a module with keys of its own and gives its connection string.
    ///
    /// # Errors
    /// The id is no id, or is taken.
    pub fn add_identity(&self, id: ModuleId, desired: &serde_json::Map<String, Value>) -> Result<String, LabError> {
        let key = sas::random_key();
        let text = sas::connection_string(self.host_name(), &id.device, &id.module, &key);
        self.insert(id, [key, sas::random_key()], desired)?;
        Ok(text)
    }

    /// Disables or enables a module; a disabled one is closed and then refused. `false` if there is no such module.
    #[must_use = "`false` means that nothing was done"]
    pub fn set_enabled(&self, id: &ModuleId, enabled: bool) -> bool {
        self.shared
            .with(|registry| {
                registry.get_mut(&id.to_string()).map(|record| {
                    record.enabled = enabled;
                    if !enabled {
                        record.close(Why::Disabled);
                    }
                })
            })
            .is_some()
    }

    /// Deletes a module with its twin; its connection is closed. `false` if there is none.
    #[must_use = "`false` means that nothing was done"]
    pub fn remove_identity(&self, id: &ModuleId) -> bool {
        let removed = self.shared.with(|registry| registry.remove(&id.to_string()));
        removed.inspect(|record| record.close(Why::Disabled)).is_some()
    }

    /// Deletes a module and makes it again under its old keys, as a back end does that brings keys of its own: its
    /// connection is closed, and the versions of its twin begin anew. `false` if there is no such module.
    ///
    /// # Errors
    /// The desired properties break a rule of twins; the module is left as it was.
    pub fn make_anew(&self, id: &ModuleId, desired: &serde_json::Map<String, Value>) -> Result<bool, LabError> {
        let twin = Twin::new(desired)?;
        let old = self.shared.with(|registry| {
            let record = registry.get_mut(&id.to_string())?;
            let keys = record.keys.clone();
            Some(std::mem::replace(record, Record::new(id.clone(), keys, twin)))
        });
        Ok(old.inspect(|record| record.close(Why::Disabled)).is_some())
    }

    /// Ends everything and waits until it has ended. The port is free then.
    pub async fn shutdown(self) {
        self.shared.ending.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn insert(
        &self,
        id: ModuleId,
        keys: [Secret; 2],
        desired: &serde_json::Map<String, Value>,
    ) -> Result<(), LabError> {
        if !id.is_valid() {
            return Err(LabError::Identity(id));
        }
        let twin = Twin::new(desired)?;
        self.shared.with(|registry| {
            let client = id.to_string();
            if registry.contains_key(&client) {
                return Err(LabError::Exists(id));
            }
            registry.insert(client, Record::new(id, keys, twin));
            Ok(())
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.shared.ending.cancel();
    }
}

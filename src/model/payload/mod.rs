//! Payload items of the events: the field names and JSON types of Microsoft's published schemas
//! (`messageEvent…_v1_0.json`). Ports and user ids are strings there; `ExtraDetails` maps strings to strings.

mod address;
mod operational;
mod port;
mod snapshots;
mod triggered;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::EventName;

pub use address::Address;
pub use operational::{ConfigurationError, Diagnostic, DiagnosticSeverity, DroppedEvents, MessageStatistics};
pub use port::Port;
pub use snapshots::{
    BaselineOutcome, BaselineResult, BaselineSeverity, ConnectedHardware, FirewallAction, FirewallRule, ListeningPort,
    LocalUser, SystemInformation,
};
pub use triggered::{ConnectionCreate, Direction, Login, LoginResult, ProcessCreate, ProcessTerminate};

/// `ExtraDetails`: what the published fields have no room for.
pub type ExtraDetails = BTreeMap<String, String>;

/// One payload item of any event. Those that are aggregated can also be read back: the others never are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// A program was started.
    ProcessCreate(ProcessCreate),
    /// A process ended.
    ProcessTerminate(ProcessTerminate),
    /// A connection was made.
    ConnectionCreate(ConnectionCreate),
    /// Somebody signed in, or tried to.
    #[serde(skip_deserializing)]
    Login(Login),
    /// A local account.
    #[serde(skip_deserializing)]
    LocalUser(LocalUser),
    /// A socket waits for connections or datagrams.
    #[serde(skip_deserializing)]
    ListeningPort(ListeningPort),
    /// A rule of the firewall.
    #[serde(skip_deserializing)]
    FirewallRule(FirewallRule),
    /// What kind of machine this is.
    #[serde(skip_deserializing)]
    SystemInformation(SystemInformation),
    /// A connected device.
    #[serde(skip_deserializing)]
    ConnectedHardware(ConnectedHardware),
    /// A check of the baseline.
    #[serde(skip_deserializing)]
    BaselineResult(BaselineResult),
    /// A line of the agent's own log.
    #[serde(skip_deserializing)]
    Diagnostic(Diagnostic),
    /// One key of the twin was refused or doubtful.
    #[serde(skip_deserializing)]
    ConfigurationError(ConfigurationError),
    /// What one queue collected and lost since the last report.
    #[serde(skip_deserializing)]
    DroppedEvents(DroppedEvents),
    /// What was sent since the last report.
    #[serde(skip_deserializing)]
    MessageStatistics(MessageStatistics),
}

impl Payload {
    /// The event that carries this payload.
    #[must_use]
    pub const fn event(&self) -> EventName {
        match self {
            Self::ProcessCreate(_) => EventName::ProcessCreate,
            Self::ProcessTerminate(_) => EventName::ProcessTerminate,
            Self::ConnectionCreate(_) => EventName::ConnectionCreate,
            Self::Login(_) => EventName::Login,
            Self::LocalUser(_) => EventName::LocalUsers,
            Self::ListeningPort(_) => EventName::ListeningPorts,
            Self::FirewallRule(_) => EventName::FirewallConfiguration,
            Self::SystemInformation(_) => EventName::SystemInformation,
            Self::ConnectedHardware(_) => EventName::ConnectedHardware,
            Self::BaselineResult(_) => EventName::OSBaseline,
            Self::Diagnostic(_) => EventName::Diagnostic,
            Self::ConfigurationError(_) => EventName::ConfigurationError,
            Self::DroppedEvents(_) => EventName::DroppedEventsStatistics,
            Self::MessageStatistics(_) => EventName::MessageStatistics,
        }
    }

    /// What the published fields have no room for; every item has it.
    pub const fn extra_details_mut(&mut self) -> &mut ExtraDetails {
        match self {
            Self::ProcessCreate(p) => &mut p.extra_details,
            Self::ProcessTerminate(p) => &mut p.extra_details,
            Self::ConnectionCreate(p) => &mut p.extra_details,
            Self::Login(p) => &mut p.extra_details,
            Self::LocalUser(p) => &mut p.extra_details,
            Self::ListeningPort(p) => &mut p.extra_details,
            Self::FirewallRule(p) => &mut p.extra_details,
            Self::SystemInformation(p) => &mut p.extra_details,
            Self::ConnectedHardware(p) => &mut p.extra_details,
            Self::BaselineResult(p) => &mut p.extra_details,
            Self::Diagnostic(p) => &mut p.extra_details,
            Self::ConfigurationError(p) => &mut p.extra_details,
            Self::DroppedEvents(p) => &mut p.extra_details,
            Self::MessageStatistics(p) => &mut p.extra_details,
        }
    }

    /// The published JSON object, without the name of the variant.
    ///
    /// # Errors
    /// None in practice: every field is a string, a number, a boolean or a map of strings.
    pub fn to_value(&self) -> Result<serde_json::Value, serde_json::Error> {
        match self {
            Self::ProcessCreate(p) => serde_json::to_value(p),
            Self::ProcessTerminate(p) => serde_json::to_value(p),
            Self::ConnectionCreate(p) => serde_json::to_value(p),
            Self::Login(p) => serde_json::to_value(p),
            Self::LocalUser(p) => serde_json::to_value(p),
            Self::ListeningPort(p) => serde_json::to_value(p),
            Self::FirewallRule(p) => serde_json::to_value(p),
            Self::SystemInformation(p) => serde_json::to_value(p),
            Self::ConnectedHardware(p) => serde_json::to_value(p),
            Self::BaselineResult(p) => serde_json::to_value(p),
            Self::Diagnostic(p) => serde_json::to_value(p),
            Self::ConfigurationError(p) => serde_json::to_value(p),
            Self::DroppedEvents(p) => serde_json::to_value(p),
            Self::MessageStatistics(p) => serde_json::to_value(p),
        }
    }
}

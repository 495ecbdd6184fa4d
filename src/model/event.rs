//! Events: the published names, the envelope, and its JSON (schema `message_v1_0.json`: closed objects, all members
//! required).

use std::fmt;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use super::ids::EventId;
use super::payload::Payload;
use super::time::Timestamp;

/// The fourteen published event names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum EventName {
    /// A program was started.
    ProcessCreate,
    /// A process ended.
    ProcessTerminate,
    /// A connection was made.
    ConnectionCreate,
    /// Somebody signed in, or tried to.
    Login,
    /// The local accounts.
    LocalUsers,
    /// The listening sockets.
    ListeningPorts,
    /// The firewall's rules.
    FirewallConfiguration,
    /// What kind of machine this is.
    SystemInformation,
    /// The connected devices.
    ConnectedHardware,
    /// The failed checks of the baseline.
    OSBaseline,
    /// The agent's own log.
    Diagnostic,
    /// Refused or doubtful keys of the twin.
    ConfigurationError,
    /// What was collected and lost.
    DroppedEventsStatistics,
    /// What was sent.
    MessageStatistics,
}

/// The published categories. Aggregated events are `Triggered` with a `HitCount`: `Aggregated` is not in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Category {
    /// A snapshot, taken each `snapshotFrequency`; may be empty.
    Periodic,
    /// Something happened; never empty.
    Triggered,
}

/// The published event types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EventType {
    /// About the device.
    Security,
    /// About the agent's work.
    Operational,
    /// The agent's own log.
    Diagnostic,
}

impl EventName {
    /// All names, in the order of the protocol reference.
    pub const ALL: [Self; 14] = [
        Self::ProcessCreate,
        Self::ProcessTerminate,
        Self::ConnectionCreate,
        Self::Login,
        Self::LocalUsers,
        Self::ListeningPorts,
        Self::FirewallConfiguration,
        Self::SystemInformation,
        Self::ConnectedHardware,
        Self::OSBaseline,
        Self::Diagnostic,
        Self::ConfigurationError,
        Self::DroppedEventsStatistics,
        Self::MessageStatistics,
    ];

    /// The published name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProcessCreate => "ProcessCreate",
            Self::ProcessTerminate => "ProcessTerminate",
            Self::ConnectionCreate => "ConnectionCreate",
            Self::Login => "Login",
            Self::LocalUsers => "LocalUsers",
            Self::ListeningPorts => "ListeningPorts",
            Self::FirewallConfiguration => "FirewallConfiguration",
            Self::SystemInformation => "SystemInformation",
            Self::ConnectedHardware => "ConnectedHardware",
            Self::OSBaseline => "OSBaseline",
            Self::Diagnostic => "Diagnostic",
            Self::ConfigurationError => "ConfigurationError",
            Self::DroppedEventsStatistics => "DroppedEventsStatistics",
            Self::MessageStatistics => "MessageStatistics",
        }
    }

    /// Reads a published name, exactly.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == text)
    }

    /// The category that goes with the name.
    #[must_use]
    pub const fn category(self) -> Category {
        match self {
            Self::ProcessCreate
            | Self::ProcessTerminate
            | Self::ConnectionCreate
            | Self::Login
            | Self::Diagnostic
            | Self::ConfigurationError => Category::Triggered,
            _ => Category::Periodic,
        }
    }

    /// The event type that goes with the name.
    #[must_use]
    pub const fn event_type(self) -> EventType {
        match self {
            Self::Diagnostic => EventType::Diagnostic,
            Self::ConfigurationError | Self::DroppedEventsStatistics | Self::MessageStatistics => {
                EventType::Operational
            }
            _ => EventType::Security,
        }
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for EventName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Something a source saw, before it becomes an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When it happened.
    pub at: Timestamp,
    /// Running number of its source, from 0 at each start of the source.
    pub serial: u64,
    /// What happened.
    pub what: Payload,
}

/// What a snapshot collector found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The event it becomes.
    pub name: EventName,
    /// When it was taken.
    pub at: Timestamp,
    /// One item for each thing found; may be empty.
    pub items: Vec<Payload>,
}

/// One event, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// Its name; category and type follow from it.
    pub name: EventName,
    /// When it happened, was taken, or was flushed.
    pub at: Timestamp,
    /// Its payload items.
    pub payload: Vec<Payload>,
    /// How many observations it stands for, see [`crate::model::loss`].
    pub hits: u64,
}

impl Event {
    /// The published JSON object. `zone` is the zone of `TimestampLocal`.
    ///
    /// # Errors
    /// As [`Payload::to_value`].
    pub fn to_value(&self, zone: &TimeZone) -> Result<Value, serde_json::Error> {
        let payload = self.payload.iter().map(Payload::to_value).collect::<Result<Vec<_>, _>>()?;
        Ok(json!({
            "Id": self.id,
            "TimestampUTC": self.at.utc_text(),
            "TimestampLocal": self.at.local_text(zone),
            "Category": self.name.category(),
            "Name": self.name,
            "EventType": self.name.event_type(),
            "IsEmpty": payload.is_empty(),
            "PayloadSchemaVersion": "1.0",
            "Payload": payload,
        }))
    }
}

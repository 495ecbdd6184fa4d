//! Payload items of the events: the field names and JSON types of Microsoft's published schemas
//! (`messageEvent…_v1_0.json`). Ports and user ids are strings there; `ExtraDetails` maps strings to strings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::EventName;

/// `ExtraDetails`: what the published fields have no room for.
pub type ExtraDetails = BTreeMap<String, String>;

/// One payload item of any event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// A program was started.
    ProcessCreate(ProcessCreate),
    /// A socket waits for connections or datagrams.
    ListeningPort(ListeningPort),
    /// What kind of machine this is.
    SystemInformation(SystemInformation),
    /// What one queue collected and lost since the last report.
    DroppedEvents(DroppedEvents),
    /// What was sent since the last report.
    MessageStatistics(MessageStatistics),
    /// One key of the twin was refused or doubtful.
    ConfigurationError(ConfigurationError),
}

impl Payload {
    /// The event that carries this payload.
    #[must_use]
    pub const fn event(&self) -> EventName {
        match self {
            Self::ProcessCreate(_) => EventName::ProcessCreate,
            Self::ListeningPort(_) => EventName::ListeningPorts,
            Self::SystemInformation(_) => EventName::SystemInformation,
            Self::DroppedEvents(_) => EventName::DroppedEventsStatistics,
            Self::MessageStatistics(_) => EventName::MessageStatistics,
            Self::ConfigurationError(_) => EventName::ConfigurationError,
        }
    }

    /// The published JSON object, without the name of the variant.
    ///
    /// # Errors
    /// None in practice: every field is a string, an integer or a map of strings.
    pub fn to_value(&self) -> Result<serde_json::Value, serde_json::Error> {
        match self {
            Self::ProcessCreate(p) => serde_json::to_value(p),
            Self::ListeningPort(p) => serde_json::to_value(p),
            Self::SystemInformation(p) => serde_json::to_value(p),
            Self::DroppedEvents(p) => serde_json::to_value(p),
            Self::MessageStatistics(p) => serde_json::to_value(p),
            Self::ConfigurationError(p) => serde_json::to_value(p),
        }
    }
}

/// Schema `messageEventSecurityProcessCreate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessCreate {
    /// Absolute path of the program; empty if the process ended before it could be read.
    pub executable: String,
    /// Process id; 0 in an aggregated event.
    pub process_id: u32,
    /// Process id of the parent; 0 in an aggregated event or if unknown.
    pub parent_process_id: u32,
    /// Real user id, decimal; empty if unknown.
    pub user_id: String,
    /// Name of that user, if the local user database has it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_name: Option<String>,
    /// The arguments joined with blanks; empty if the process ended before it could be read.
    pub command_line: String,
    /// See [`ExtraDetails`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// Schema `messageEventSecurityListeningPorts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListeningPort {
    /// `tcp`, `tcp6`, `udp`, `udp6`, as the old agents named them.
    pub protocol: String,
    /// Address without scope; `0.0.0.0` or `::` for all.
    pub local_address: String,
    /// Decimal port.
    pub local_port: String,
    /// Peer of a connected UDP socket, else the unspecified address.
    pub remote_address: String,
    /// Port of that peer, `*` if there is none.
    pub remote_port: String,
    /// See [`ExtraDetails`]: `Pid`, `Executable`, `UserId`, `Interface`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// Schema `messageEventSecuritySystemInformation`; absent fields are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemInformation {
    /// Name of the operating system.
    #[serde(rename = "OSName", skip_serializing_if = "Option::is_none", default)]
    pub os_name: Option<String>,
    /// Its version.
    #[serde(rename = "OSVersion", skip_serializing_if = "Option::is_none", default)]
    pub os_version: Option<String>,
    /// Who makes it.
    #[serde(rename = "OSVendor", skip_serializing_if = "Option::is_none", default)]
    pub os_vendor: Option<String>,
    /// Machine name of the kernel, for example `aarch64`.
    #[serde(rename = "OsArchitecture", skip_serializing_if = "Option::is_none", default)]
    pub os_architecture: Option<String>,
    /// Host name.
    #[serde(rename = "HostName", skip_serializing_if = "Option::is_none", default)]
    pub host_name: Option<String>,
    /// Firmware version.
    #[serde(rename = "BIOSVersion", skip_serializing_if = "Option::is_none", default)]
    pub bios_version: Option<String>,
    /// Device of the root file system.
    #[serde(rename = "BootDevice", skip_serializing_if = "Option::is_none", default)]
    pub boot_device: Option<String>,
    /// Physical memory in KiB.
    #[serde(rename = "TotalPhysicalMemoryInKB", skip_serializing_if = "Option::is_none", default)]
    pub total_physical_memory_kib: Option<u64>,
    /// Physical memory that programs can still get, in KiB.
    #[serde(rename = "FreePhysicalMemoryInKB", skip_serializing_if = "Option::is_none", default)]
    pub free_physical_memory_kib: Option<u64>,
    /// Physical memory and swap, in KiB.
    #[serde(rename = "TotalVirtualMemoryInKB", skip_serializing_if = "Option::is_none", default)]
    pub total_virtual_memory_kib: Option<u64>,
    /// Free physical memory and free swap, in KiB.
    #[serde(rename = "FreeVirtualMemoryInKB", skip_serializing_if = "Option::is_none", default)]
    pub free_virtual_memory_kib: Option<u64>,
    /// See [`ExtraDetails`].
    #[serde(rename = "ExtraDetails", skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// Schema `messageOperationalEventDroppedEvents`: one item for each queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DroppedEvents {
    /// `High` or `Low`.
    pub queue: String,
    /// Hits that entered the queue since the last report.
    pub collected_events: u64,
    /// Hits that were lost since the last report.
    pub dropped_events: u64,
    /// See [`ExtraDetails`]: one key for each reason, and the gaps.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// Schema `messageOperationalEventMessageStatistics`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MessageStatistics {
    /// Messages that the hub acknowledged since the last report.
    pub messages_sent: u64,
    /// Those of them whose body was below 4096 bytes.
    #[serde(rename = "MessagesUnder4KB")]
    pub messages_under_4_kib: u64,
    /// Messages that had to be sent again or were given up since the last report.
    pub total_failed: u64,
}

/// Schema `messageOperationalEventConfigurationError`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigurationError {
    /// The key.
    pub configuration_name: String,
    /// `TypeMismatch`, `NotOptimal` or `Conflict`.
    pub error_type: String,
    /// The value that is in force.
    pub used_configuration: String,
    /// What was given and what was expected.
    pub message: String,
}

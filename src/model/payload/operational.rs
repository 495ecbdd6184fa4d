//! Items about the agent itself: schemas `messageOperationalEvent{DroppedEvents, MessageStatistics, ConfigurationError}`
//! and `messageEventDiagnostic`.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::ExtraDetails;

/// Schema `messageOperationalEventDroppedEvents`: one item for each queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MessageStatistics {
    /// Messages that the hub acknowledged since the last report.
    pub messages_sent: u64,
    /// Those of them whose body was below 4096 bytes.
    #[serde(rename = "MessagesUnder4KB")]
    pub messages_under_4_kib: u64,
    /// Messages that had to be sent again or were given up since the last report.
    pub total_failed: u64,
    /// See [`ExtraDetails`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// Schema `messageOperationalEventConfigurationError`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// See [`ExtraDetails`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

/// The published severities of the agent's log, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum DiagnosticSeverity {
    /// The agent ends.
    Fatal,
    /// Something is lost, or hands are needed.
    Error,
    /// Degraded, but recovering.
    Warning,
    /// A state changed.
    Information,
    /// Details for finding a fault.
    Debug,
}

/// Schema `messageEventDiagnostic`: one line of the agent's own log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Diagnostic {
    /// How grave it is.
    pub severity: DiagnosticSeverity,
    /// The line, without time and severity.
    pub message: String,
    /// Process id of the agent.
    pub process_id: u32,
    /// Kernel's id of the thread that wrote it.
    pub thread_id: u32,
    /// The same for all lines of one run of the agent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub correlation_id: Option<Uuid>,
    /// See [`ExtraDetails`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub extra_details: ExtraDetails,
}

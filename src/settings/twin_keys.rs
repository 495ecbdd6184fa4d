//! The properties of the twin object (protocol reference, table 1.2): how each is read, kept and written.

use std::time::Duration;

use serde_json::Value;

use crate::model::event::EventName;
use crate::model::units::{ByteSize, DurationError, IsoDuration, Priority};

use super::agent_config::{AgentConfig, Aggregation};
use super::defaults as d;

/// The object that holds the configuration in both sections of the twin (protocol reference 1.1).
pub const OBJECT: &str = "ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration";

/// Its name in twins from before July 2019, where values stand bare (protocol reference 1.7).
pub const OLDER_OBJECT: &str = "azureiot*com^securityAgentConfiguration^1*0*0";

/// One property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwinKey {
    /// `highPriorityMessageFrequency`.
    HighPriorityMessageFrequency,
    /// `lowPriorityMessageFrequency`.
    LowPriorityMessageFrequency,
    /// `snapshotFrequency`.
    SnapshotFrequency,
    /// `maxLocalCacheSizeInBytes`.
    MaxLocalCacheSize,
    /// `maxMessageSizeInBytes`.
    MaxMessageSize,
    /// `eventPriority…`.
    EventPriority(EventName),
    /// `eventPriorityOperational`.
    EventPriorityOperational,
    /// `aggregationEnabled…`.
    AggregationEnabled(EventName),
    /// `aggregationInterval…`.
    AggregationInterval(EventName),
    /// `baselineCustomChecksEnabled`.
    CustomChecksEnabled,
    /// `baselineCustomChecksFilePath`: data only, never run.
    CustomChecksFilePath,
    /// `baselineCustomChecksFileHash`.
    CustomChecksFileHash,
    /// `hubResourceId`.
    HubResourceId,
}

impl TwinKey {
    /// All properties, in the order of the protocol reference.
    pub fn all() -> impl Iterator<Item = Self> {
        let general = [
            Self::HighPriorityMessageFrequency,
            Self::LowPriorityMessageFrequency,
            Self::SnapshotFrequency,
            Self::MaxLocalCacheSize,
            Self::MaxMessageSize,
        ];
        let checks =
            [Self::CustomChecksEnabled, Self::CustomChecksFilePath, Self::CustomChecksFileHash, Self::HubResourceId];
        general
            .into_iter()
            .chain(EventName::ALL.into_iter().map(Self::EventPriority))
            .chain([Self::EventPriorityOperational])
            .chain(
                d::AGGREGATED_EVENTS
                    .into_iter()
                    .flat_map(|e| [Self::AggregationEnabled(e), Self::AggregationInterval(e)]),
            )
            .chain(checks)
    }

    /// The published name.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::HighPriorityMessageFrequency => "highPriorityMessageFrequency".to_owned(),
            Self::LowPriorityMessageFrequency => "lowPriorityMessageFrequency".to_owned(),
            Self::SnapshotFrequency => "snapshotFrequency".to_owned(),
            Self::MaxLocalCacheSize => "maxLocalCacheSizeInBytes".to_owned(),
            Self::MaxMessageSize => "maxMessageSizeInBytes".to_owned(),
            Self::EventPriority(event) => format!("eventPriority{event}"),
            Self::EventPriorityOperational => "eventPriorityOperational".to_owned(),
            Self::AggregationEnabled(event) => format!("aggregationEnabled{event}"),
            Self::AggregationInterval(event) => format!("aggregationInterval{event}"),
            Self::CustomChecksEnabled => "baselineCustomChecksEnabled".to_owned(),
            Self::CustomChecksFilePath => "baselineCustomChecksFilePath".to_owned(),
            Self::CustomChecksFileHash => "baselineCustomChecksFileHash".to_owned(),
            Self::HubResourceId => "hubResourceId".to_owned(),
        }
    }

    /// The value that was taken or is the default, as the twin would write it; `None` if there is none. Of a priority it
    /// is the key's own, also while [`AgentConfig::silenced`] keeps it without effect.
    #[must_use]
    pub fn value(self, config: &AgentConfig) -> Option<Value> {
        Some(match self {
            Self::HighPriorityMessageFrequency => config.high_priority_message_frequency.as_str().into(),
            Self::LowPriorityMessageFrequency => config.low_priority_message_frequency.as_str().into(),
            Self::SnapshotFrequency => config.snapshot_frequency.as_str().into(),
            Self::MaxLocalCacheSize => config.max_local_cache_size.as_u64().into(),
            Self::MaxMessageSize => config.max_message_size.as_u64().into(),
            Self::EventPriority(event) => config.own_priority(event).as_str().into(),
            Self::EventPriorityOperational => config.operational?.as_str().into(),
            Self::AggregationEnabled(event) => config.aggregation.get(&event)?.enabled.into(),
            Self::AggregationInterval(event) => config.aggregation.get(&event)?.interval.as_str().into(),
            Self::CustomChecksEnabled => config.baseline_custom_checks.enabled.into(),
            Self::CustomChecksFilePath => config.baseline_custom_checks.file_path.clone()?.into(),
            Self::CustomChecksFileHash => config.baseline_custom_checks.file_hash.clone()?.into(),
            Self::HubResourceId => config.hub_resource_id.clone().into(),
        })
    }

    /// [`TwinKey::value`] as text; empty if there is none.
    #[must_use]
    pub fn text(self, config: &AgentConfig) -> String {
        match self.value(config) {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    /// Takes this one property over from another configuration.
    pub(super) fn copy(self, from: &AgentConfig, to: &mut AgentConfig) {
        match self {
            Self::HighPriorityMessageFrequency => {
                to.high_priority_message_frequency.clone_from(&from.high_priority_message_frequency);
            }
            Self::LowPriorityMessageFrequency => {
                to.low_priority_message_frequency.clone_from(&from.low_priority_message_frequency);
            }
            Self::SnapshotFrequency => to.snapshot_frequency.clone_from(&from.snapshot_frequency),
            Self::MaxLocalCacheSize => to.max_local_cache_size = from.max_local_cache_size,
            Self::MaxMessageSize => to.max_message_size = from.max_message_size,
            Self::EventPriority(event) => {
                to.priorities.insert(event, from.own_priority(event));
            }
            Self::EventPriorityOperational => to.operational = from.operational,
            Self::AggregationEnabled(event) => {
                if let Some(theirs) = from.aggregation.get(&event) {
                    aggregation(to, event).enabled = theirs.enabled;
                }
            }
            Self::AggregationInterval(event) => {
                if let Some(theirs) = from.aggregation.get(&event) {
                    aggregation(to, event).interval.clone_from(&theirs.interval);
                }
            }
            Self::CustomChecksEnabled => to.baseline_custom_checks.enabled = from.baseline_custom_checks.enabled,
            Self::CustomChecksFilePath => {
                to.baseline_custom_checks.file_path.clone_from(&from.baseline_custom_checks.file_path);
            }
            Self::CustomChecksFileHash => {
                to.baseline_custom_checks.file_hash.clone_from(&from.baseline_custom_checks.file_hash);
            }
            Self::HubResourceId => to.hub_resource_id.clone_from(&from.hub_resource_id),
        }
    }

    /// Reads a value into the configuration.
    ///
    /// # Errors
    /// The expected form, in words; nothing was changed.
    pub(super) fn set(self, value: &Value, config: &mut AgentConfig) -> Result<(), String> {
        match self {
            Self::HighPriorityMessageFrequency => config.high_priority_message_frequency = self.duration(value)?,
            Self::LowPriorityMessageFrequency => config.low_priority_message_frequency = self.duration(value)?,
            Self::SnapshotFrequency => config.snapshot_frequency = self.duration(value)?,
            Self::MaxLocalCacheSize => config.max_local_cache_size = self.size(value)?,
            Self::MaxMessageSize => config.max_message_size = self.size(value)?,
            Self::EventPriority(event) => {
                config.priorities.insert(event, self.priority(value)?);
            }
            Self::EventPriorityOperational => config.operational = Some(self.priority(value)?),
            Self::AggregationEnabled(event) => aggregation(config, event).enabled = self.boolean(value)?,
            Self::AggregationInterval(event) => aggregation(config, event).interval = self.duration(value)?,
            Self::CustomChecksEnabled => config.baseline_custom_checks.enabled = self.boolean(value)?,
            Self::CustomChecksFilePath => config.baseline_custom_checks.file_path = Some(self.string(value)?),
            Self::CustomChecksFileHash => config.baseline_custom_checks.file_hash = Some(self.string(value)?),
            Self::HubResourceId => config.hub_resource_id = self.string(value)?,
        }
        Ok(())
    }

    /// The expected form, in words.
    #[must_use]
    pub fn expected(self) -> String {
        match self {
            Self::HighPriorityMessageFrequency
            | Self::LowPriorityMessageFrequency
            | Self::SnapshotFrequency
            | Self::AggregationInterval(_) => {
                let (least, most) = self.seconds();
                let (least, most) = (IsoDuration::from_secs(least), IsoDuration::from_secs(most));
                format!("an ISO-8601 duration such as PT7M, from {least} to {most}")
            }
            Self::MaxLocalCacheSize | Self::MaxMessageSize => {
                let (least, most) = self.bytes();
                format!("a whole number from {least} to {most}")
            }
            Self::EventPriority(_) | Self::EventPriorityOperational => "High, Low or Off".to_owned(),
            Self::AggregationEnabled(_) | Self::CustomChecksEnabled => "true or false".to_owned(),
            Self::HubResourceId => {
                format!("text of at most {} ASCII characters, none of them a control character", self.text_length())
            }
            Self::CustomChecksFilePath | Self::CustomChecksFileHash => {
                format!("text of at most {} bytes, without control characters", self.text_length())
            }
        }
    }

    const fn seconds(self) -> (u64, u64) {
        match self {
            Self::SnapshotFrequency => (d::SNAPSHOT_FREQUENCY_LEAST, d::SNAPSHOT_FREQUENCY_MOST),
            Self::AggregationInterval(_) => (d::AGGREGATION_INTERVAL_LEAST, d::AGGREGATION_INTERVAL_MOST),
            _ => (d::MESSAGE_FREQUENCY_LEAST, d::MESSAGE_FREQUENCY_MOST),
        }
    }

    const fn bytes(self) -> (u64, u64) {
        match self {
            Self::MaxLocalCacheSize => (d::CACHE_SIZE_LEAST, d::CACHE_SIZE_MOST),
            _ => (d::MESSAGE_SIZE_LEAST, d::MESSAGE_SIZE_MOST),
        }
    }

    pub(super) const fn text_length(self) -> usize {
        if matches!(self, Self::HubResourceId) { d::RESOURCE_ID_LENGTH } else { d::TEXT_LENGTH }
    }

    fn duration(self, value: &Value) -> Result<IsoDuration, String> {
        let text = value.as_str().ok_or_else(|| self.expected())?;
        let duration = IsoDuration::parse(text).map_err(|error| match error {
            DurationError::Calendar => error.to_string(),
            _ => self.expected(),
        })?;
        let (least, most) = self.seconds();
        let within = (Duration::from_secs(least)..=Duration::from_secs(most)).contains(&duration.length());
        if within { Ok(duration) } else { Err(self.expected()) }
    }

    fn size(self, value: &Value) -> Result<ByteSize, String> {
        let (least, most) = self.bytes();
        // JSON Schema draft 7 counts 8192.0 as an integer, and some tools write it so.
        let bytes = value.as_u64().or_else(|| integral(value.as_f64()?));
        let bytes = bytes.filter(|n| (least..=most).contains(n)).ok_or_else(|| self.expected())?;
        Ok(ByteSize::bytes(bytes))
    }

    fn priority(self, value: &Value) -> Result<Priority, String> {
        value.as_str().and_then(Priority::parse).ok_or_else(|| self.expected())
    }

    fn boolean(self, value: &Value) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| self.expected())
    }

    fn string(self, value: &Value) -> Result<String, String> {
        let text = value.as_str().ok_or_else(|| self.expected())?;
        let good = text.len() <= self.text_length() && !text.chars().any(char::is_control);
        // The hub closes the connection on a message whose properties hold anything else.
        let good = good && (text.is_ascii() || self != Self::HubResourceId);
        if good { Ok(text.to_owned()) } else { Err(self.expected()) }
    }
}

/// The whole number that this is, if it is one and no digit of it is lost.
fn integral(number: f64) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = number.fract() == 0.0 && (0.0..=EXACT).contains(&number);
    whole.then(|| format!("{number:.0}").parse().ok())?
}

fn aggregation(config: &mut AgentConfig, event: EventName) -> &mut Aggregation {
    config.aggregation.entry(event).or_insert_with(|| Aggregation {
        enabled: d::AGGREGATION_ENABLED,
        interval: IsoDuration::from_secs(d::AGGREGATION_INTERVAL),
    })
}

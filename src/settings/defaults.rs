//! Every default and bound of the local file and of the twin, in one place, each with its reason.

use std::time::Duration;

use crate::model::event::EventName;
use crate::model::units::{ByteSize, IsoDuration, Priority};

use super::agent_config::{AgentConfig, Aggregation, BaselineCustomChecks};

// ---- Local configuration: where it is, and how much of it is read ----

/// The configuration file if none is named.
pub const CONFIG_FILE: &str = "/etc/twinward/twinward.toml";
/// What the package ships; below the operator's file, so an update never overwrites a decision.
pub const VENDOR_CONFIG_FILE: &str = "/usr/lib/twinward/twinward.toml";
/// Drop-ins stand in this directory beside the configuration file.
pub const DROP_IN_DIRECTORY: &str = "conf.d";
/// The secret if neither the file nor systemd's credentials directory says otherwise.
pub const CONNECTION_STRING_FILE: &str = "/etc/twinward/connection-string";
/// Name of the secret in systemd's credentials directory.
pub const CREDENTIAL_NAME: &str = "connection-string";
/// A configuration file of all keys with their explanations is about 4 KiB; a larger one is a mistake.
pub const CONFIG_FILE_LIMIT: u64 = 1024 * 1024;
/// Nobody has more drop-ins; a directory of millions must not stall the start.
pub const DROP_IN_LIMIT: usize = 256;
/// More problems than a person reads at once are counted, not listed.
pub const LOCAL_PROBLEM_LIMIT: usize = 100;

// ---- Local configuration: the value of each key, as TOML text ----

/// `hub.messages`: the messages are for the customer, and Microsoft's pipeline for them is being retired.
pub const HUB_MESSAGES: &str = "\"open\"";
/// `hub.port`: MQTT over TLS (IoT Hub documentation).
pub const HUB_PORT: &str = "8883";
/// `hub.transport`: the only one in this version.
pub const HUB_TRANSPORT: &str = "\"mqtt\"";
/// `hub.direct_methods`: they read or hurry, and are bounded.
pub const HUB_DIRECT_METHODS: &str = "true";
/// `twin.object`: published (protocol reference 1.1).
pub const TWIN_OBJECT: &str = "\"ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration\"";
/// `storage.directory`: where the file system standard puts state.
pub const STORAGE_DIRECTORY: &str = "\"/var/lib/twinward\"";
/// `storage.commit_interval`: one flash write a minute at most; a power cut loses at most a minute of low events.
pub const STORAGE_COMMIT_INTERVAL: &str = "\"60s\"";
/// `storage.min_free_bytes`: enough for the device's own work to go on when the agent's store is full.
pub const STORAGE_MIN_FREE: &str = "\"64 MiB\"";
/// `collect.process_source`: the best source depends on the kernel and on the privileges.
pub const COLLECT_PROCESS_SOURCE: &str = "\"auto\"";
/// `collect.command_line_bytes`: nearly every command line is shorter, and a message has room for many of this length.
pub const COLLECT_COMMAND_LINE: &str = "\"4 KiB\"";
/// Shorter ones would cut the names of programs.
pub const COMMAND_LINE_LEAST: ByteSize = ByteSize::bytes(256);
/// What the kernel's programs have room for.
pub const COMMAND_LINE_MOST: ByteSize = ByteSize::bytes(32 << 10);
/// `collect.loopback_connections`: they leave no device, and are the most on many.
pub const COLLECT_LOOPBACK_CONNECTIONS: &str = "false";
/// `collect.redact_secrets`: whoever reads events must not learn a password from them.
pub const COLLECT_REDACT_SECRETS: &str = "true";
/// `collect.name_service`: a directory may be slow, dear to ask, or away.
pub const COLLECT_NAME_SERVICE: &str = "false";
/// `log.level`: state changes, nothing per event.
pub const LOG_LEVEL: &str = "\"info\"";
/// `log.diagnostic_level`: what the C agent shipped with.
pub const LOG_DIAGNOSTIC_LEVEL: &str = "\"warn\"";

/// Below one second each event would be a flash write.
pub const COMMIT_INTERVAL_LEAST: Duration = Duration::from_secs(1);
/// Above one hour a power cut would lose more than anybody expects of a durable queue.
pub const COMMIT_INTERVAL_MOST: Duration = Duration::from_secs(3600);
/// No device of this kind has more; larger numbers are slips of the pen.
pub const MIN_FREE_MOST: ByteSize = ByteSize::mebibytes(1024 * 1024);
/// Linux's `PATH_MAX`, without the closing NUL.
pub const PATH_LENGTH: usize = 4095;
/// The hub takes names of up to 1 KB; this is far above any in use, and leaves room for the members.
pub const MEMBER_NAME_LENGTH: usize = 128;
/// The agent's second reported object; the configuration object cannot have its name.
pub const OWN_OBJECT: &str = "twinward";
/// The longest DNS name (RFC 1035).
pub const HOST_LENGTH: usize = 253;

// ---- Twin: defaults (protocol reference, table 1.2) ----

/// `highPriorityMessageFrequency`, `PT7M`: published.
pub const HIGH_PRIORITY_MESSAGE_FREQUENCY: u64 = 7 * 60;
/// `lowPriorityMessageFrequency`, `PT5H`: published.
pub const LOW_PRIORITY_MESSAGE_FREQUENCY: u64 = 5 * 3600;
/// `snapshotFrequency`, `PT13H`: published.
pub const SNAPSHOT_FREQUENCY: u64 = 13 * 3600;
/// `maxLocalCacheSizeInBytes`: published by the schema; one old agent used 10 MiB against its own schema.
pub const MAX_LOCAL_CACHE_SIZE: u64 = 2_560_000;
/// `maxMessageSizeInBytes`: published; below the hub's 256 KiB with room for the properties.
pub const MAX_MESSAGE_SIZE: u64 = 204_800;
/// `aggregationEnabled*`: published.
pub const AGGREGATION_ENABLED: bool = true;
/// `aggregationInterval*`, `PT1H`: published.
pub const AGGREGATION_INTERVAL: u64 = 3600;
/// The event types whose `eventPriority*` is `High` by publication; all others are `Low`.
pub const HIGH_PRIORITY_EVENTS: [EventName; 3] = [EventName::Login, EventName::LocalUsers, EventName::ListeningPorts];
/// The event types that can be aggregated.
pub const AGGREGATED_EVENTS: [EventName; 3] =
    [EventName::ProcessCreate, EventName::ConnectionCreate, EventName::ProcessTerminate];
/// The event types that `eventPriorityOperational` = `Off` silences.
pub const OPERATIONAL_EVENTS: [EventName; 3] =
    [EventName::ConfigurationError, EventName::DroppedEventsStatistics, EventName::MessageStatistics];

// ---- Twin: bounds. The published text bounds only the two sizes; the others protect the device and its bill ----

/// Message frequencies: faster than one message a second only burns the hub's daily quota.
pub const MESSAGE_FREQUENCY_LEAST: u64 = 1;
/// Message frequencies: a year means "never" to anybody who writes it, and keeps sums of times far from overflow.
pub const MESSAGE_FREQUENCY_MOST: u64 = 365 * 86_400;
/// `snapshotFrequency`: a round over all snapshot collectors can take a second on a small board.
pub const SNAPSHOT_FREQUENCY_LEAST: u64 = 5;
/// `snapshotFrequency`: as for the message frequencies.
pub const SNAPSHOT_FREQUENCY_MOST: u64 = 365 * 86_400;
/// `aggregationInterval*`: shorter gathers nothing.
pub const AGGREGATION_INTERVAL_LEAST: u64 = 1;
/// `aggregationInterval*`: the gathered events are held back so long; after a week they tell nobody anything.
pub const AGGREGATION_INTERVAL_MOST: u64 = 7 * 86_400;
/// `maxLocalCacheSizeInBytes`: published minimum.
pub const CACHE_SIZE_LEAST: u64 = 8192;
/// `maxLocalCacheSizeInBytes`: a twin must not be able to fill the flash of any board.
pub const CACHE_SIZE_MOST: u64 = 1024 * 1024 * 1024;
/// `maxMessageSizeInBytes`: published minimum.
pub const MESSAGE_SIZE_LEAST: u64 = 8192;
/// `maxMessageSizeInBytes`: published maximum, the hub's limit for one message.
pub const MESSAGE_SIZE_MOST: u64 = 262_144;
/// Texts of the twin, in bytes: longer than any path in use, short enough to report back.
pub const TEXT_LENGTH: usize = 1024;
/// `hubResourceId`, in bytes: resource ids have up to 300. It travels with each message, where every byte may take three
/// (`%XX`) of the 2 KiB that are kept free for properties.
pub const RESOURCE_ID_LENGTH: usize = 512;
/// Unknown keys of the twin that are listed one by one; the reported section has a bound of its own.
pub const UNKNOWN_KEY_LIMIT: usize = 256;
/// Text of a section of the twin, in bytes. The hub bounds it to 32 KiB by its own count, which leaves out quotes and
/// commas and counts a control character as nothing (IoT Hub documentation, module twins).
pub const TWIN_SECTION_LIMIT: usize = 64 * 1024;
/// Text of the hub's answer to a request for the twin, in bytes. Each of its sections is judged by itself; this is
/// enough for both, full, if each character takes six bytes (`\u0001`).
pub const TWIN_ANSWER_LIMIT: usize = 512 * 1024;
/// Text of a twin that a person saved, in bytes: the service adds the time of each change, which takes the most.
pub const TWIN_FILE_LIMIT: usize = 1024 * 1024;
/// Nesting of a twin document: the hub allows 10 levels below a section; up to six more stand around a section and
/// around the times of its changes.
pub const TWIN_DEPTH: usize = 16;

impl Default for AgentConfig {
    fn default() -> Self {
        let aggregation =
            Aggregation { enabled: AGGREGATION_ENABLED, interval: IsoDuration::from_secs(AGGREGATION_INTERVAL) };
        let priority = |e| if HIGH_PRIORITY_EVENTS.contains(&e) { Priority::High } else { Priority::Low };
        Self {
            high_priority_message_frequency: IsoDuration::from_secs(HIGH_PRIORITY_MESSAGE_FREQUENCY),
            low_priority_message_frequency: IsoDuration::from_secs(LOW_PRIORITY_MESSAGE_FREQUENCY),
            snapshot_frequency: IsoDuration::from_secs(SNAPSHOT_FREQUENCY),
            max_local_cache_size: ByteSize::bytes(MAX_LOCAL_CACHE_SIZE),
            max_message_size: ByteSize::bytes(MAX_MESSAGE_SIZE),
            priorities: EventName::ALL.into_iter().map(|e| (e, priority(e))).collect(),
            operational: None,
            aggregation: AGGREGATED_EVENTS.into_iter().map(|e| (e, aggregation.clone())).collect(),
            baseline_custom_checks: BaselineCustomChecks::default(),
            hub_resource_id: String::new(),
        }
    }
}

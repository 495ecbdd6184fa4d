//! README.md and docs/twin.md tell the truth about twin keys, their defaults, and exit codes.

use std::collections::BTreeMap;

use twinward::cli::exit;
use twinward::model::event::EventName;
use twinward::settings::agent_config::AgentConfig;

const README: &str = include_str!("../README.md");
const TWIN: &str = include_str!("../docs/twin.md");

/// The rows of the table that follows a header line, each as its cells without blanks around them.
fn table(document: &str, header: &str) -> Vec<Vec<String>> {
    document
        .lines()
        .skip_while(|line| !line.starts_with(header))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// The texts between backticks.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Key and default as the table of docs/twin.md has them; `not set` and `empty` become the empty text.
fn documented() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for row in table(TWIN, "| key | default | allowed |") {
        let [keys, default, _] = row.as_slice() else { continue };
        let default = match default.as_str() {
            "not set" | "empty" => "",
            other => other.trim_matches('`'),
        };
        found.extend(code(keys).map(|key| (key.to_owned(), default.to_owned())));
    }
    found
}

/// Key and default as the program has them.
fn real() -> BTreeMap<String, String> {
    let config = AgentConfig::default();
    let custom = &config.baseline_custom_checks;
    let mut found = BTreeMap::from([
        ("highPriorityMessageFrequency".to_owned(), config.high_priority_message_frequency.to_string()),
        ("lowPriorityMessageFrequency".to_owned(), config.low_priority_message_frequency.to_string()),
        ("snapshotFrequency".to_owned(), config.snapshot_frequency.to_string()),
        ("maxLocalCacheSizeInBytes".to_owned(), config.max_local_cache_size.as_u64().to_string()),
        ("maxMessageSizeInBytes".to_owned(), config.max_message_size.as_u64().to_string()),
        ("eventPriorityOperational".to_owned(), config.operational.map(|p| p.to_string()).unwrap_or_default()),
        ("baselineCustomChecksEnabled".to_owned(), custom.enabled.to_string()),
        ("baselineCustomChecksFilePath".to_owned(), custom.file_path.clone().unwrap_or_default()),
        ("baselineCustomChecksFileHash".to_owned(), custom.file_hash.clone().unwrap_or_default()),
        ("hubResourceId".to_owned(), config.hub_resource_id.clone()),
    ]);
    found.extend(EventName::ALL.map(|event| (format!("eventPriority{event}"), config.priority(event).to_string())));
    for (event, aggregation) in &config.aggregation {
        found.insert(format!("aggregationEnabled{event}"), aggregation.enabled.to_string());
        found.insert(format!("aggregationInterval{event}"), aggregation.interval.to_string());
    }
    found
}

#[test]
fn every_twin_key_is_documented_with_its_default() {
    assert_eq!(documented(), real());
}

#[test]
fn every_exit_code_is_documented() {
    let documented: Vec<u8> =
        table(README, "| exit code | meaning |").iter().filter_map(|row| row.first()?.parse().ok()).collect();
    assert_eq!(documented, [exit::OK, exit::FAILED, exit::USAGE, exit::NOT_PERMITTED, exit::CONFIGURATION]);
}

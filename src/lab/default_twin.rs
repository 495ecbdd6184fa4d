//! The desired section a new `azureiotsecurity` module gets: the published defaults.

use serde_json::{Map, Value, json};

/// The name of the component that holds the agent's configuration.
const COMPONENT: &str = "ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration";

/// The default desired properties, each as `{"value": …}` below the agent's component.
#[must_use]
pub fn default_desired() -> Map<String, Value> {
    let texts = [
        ("highPriorityMessageFrequency", "PT7M"),
        ("lowPriorityMessageFrequency", "PT5H"),
        ("snapshotFrequency", "PT13H"),
        ("eventPriorityConnectedHardware", "Low"),
        ("eventPriorityListeningPorts", "High"),
        ("eventPriorityProcessCreate", "Low"),
        ("eventPriorityProcessTerminate", "Low"),
        ("eventPrioritySystemInformation", "Low"),
        ("eventPriorityLocalUsers", "High"),
        ("eventPriorityLogin", "High"),
        ("eventPriorityConnectionCreate", "Low"),
        ("eventPriorityFirewallConfiguration", "Low"),
        ("eventPriorityOSBaseline", "Low"),
        ("eventPriorityDiagnostic", "Low"),
        ("eventPriorityConfigurationError", "Low"),
        ("eventPriorityDroppedEventsStatistics", "Low"),
        ("eventPriorityMessageStatistics", "Low"),
        ("aggregationIntervalProcessCreate", "PT1H"),
        ("aggregationIntervalConnectionCreate", "PT1H"),
        ("aggregationIntervalProcessTerminate", "PT1H"),
    ];
    let numbers = [("maxLocalCacheSizeInBytes", 2_560_000), ("maxMessageSizeInBytes", 204_800)];
    let switches =
        ["aggregationEnabledProcessCreate", "aggregationEnabledConnectionCreate", "aggregationEnabledProcessTerminate"];
    let properties: Map<String, Value> = texts
        .iter()
        .map(|(name, text)| (*name, json!(text)))
        .chain(numbers.iter().map(|(name, number)| (*name, json!(number))))
        .chain(switches.iter().map(|name| (*name, json!(true))))
        .map(|(name, value)| (name.to_owned(), json!({ "value": value })))
        .collect();
    Map::from_iter([(COMPONENT.to_owned(), Value::Object(properties))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_published_default() {
        let published: Value = serde_json::from_str(include_str!(
            "../../tests/fixtures/azure-iot-security/security_module_twin/azureiotsecurity_default.json"
        ))
        .unwrap();
        assert_eq!(Value::Object(default_desired()), published["properties"]["desired"]);
    }
}

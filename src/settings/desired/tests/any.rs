//! Whatever a section says.

use proptest::prelude::*;

use super::*;

fn duration(least: u64, most: u64) -> BoxedStrategy<Value> {
    prop_oneof![
        (least..=most).prop_map(|s| json!(format!("PT{s}S"))),
        (least.div_ceil(60)..=most / 60).prop_map(|m| json!(format!("PT{m}M"))),
        Just(json!("PT1.5H")),
        Just(json!("P1DT1H")),
    ]
    .boxed()
}

/// Some tools write a whole number with a fraction of zero.
fn size(most: u32) -> BoxedStrategy<Value> {
    (8192..=most, any::<bool>()).prop_map(|(n, whole)| if whole { json!(n) } else { json!(f64::from(n)) }).boxed()
}

/// The value as it is reported once it is in force: `High` for `high`, 8192 for 8192.0, and else as it was given.
fn canonical(key: TwinKey, given: &Value) -> Value {
    match (key, given) {
        (TwinKey::EventPriority(_) | TwinKey::EventPriorityOperational, Value::String(text)) => {
            let (first, rest) = text.split_at(1);
            json!(first.to_uppercase() + &rest.to_lowercase())
        }
        (TwinKey::MaxLocalCacheSize | TwinKey::MaxMessageSize, number) => {
            json!(number.to_string().trim_end_matches(".0").parse::<u32>().unwrap())
        }
        _ => given.clone(),
    }
}

fn good(key: TwinKey) -> BoxedStrategy<Value> {
    match key {
        TwinKey::HighPriorityMessageFrequency | TwinKey::LowPriorityMessageFrequency => duration(1, 365 * 86_400),
        TwinKey::SnapshotFrequency => duration(5, 365 * 86_400),
        TwinKey::AggregationInterval(_) => duration(1, 7 * 86_400),
        TwinKey::MaxLocalCacheSize => size(1 << 30),
        TwinKey::MaxMessageSize => size(262_144),
        TwinKey::EventPriority(_) | TwinKey::EventPriorityOperational => {
            prop::sample::select(vec!["High", "low", "OFF"]).prop_map(|p| json!(p)).boxed()
        }
        TwinKey::AggregationEnabled(_) | TwinKey::CustomChecksEnabled => any::<bool>().prop_map(|b| json!(b)).boxed(),
        TwinKey::HubResourceId => "[ -~]{0,40}".prop_map(|s| json!(s)).boxed(),
        TwinKey::CustomChecksFilePath | TwinKey::CustomChecksFileHash => {
            "[^\\p{Cc}]{0,40}".prop_map(|s| json!(s)).boxed()
        }
    }
}

/// A section in which any keys are given, each with a value that can be used.
fn members() -> impl Strategy<Value = Map<String, Value>> {
    let each: Vec<_> =
        TwinKey::all().map(|key| prop::option::of(good(key)).prop_map(move |v| (key.name(), v))).collect();
    each.prop_map(|pairs| pairs.into_iter().filter_map(|(k, v)| Some((k, json!({ "value": v? })))).collect())
}

/// Any JSON, four levels deep, with texts that tempt the readers.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "-?P[0-9.,]{0,4}[YMWD]?T?[0-9.,]{0,22}[HMS]?".prop_map(Value::from),
        "(?i)(high|low|off|operational)".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("(value|\\PC{0,6})", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn any_key() -> impl Strategy<Value = TwinKey> {
    prop::sample::select(TwinKey::all().collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn what_is_reported_is_what_is_in_force(given in members()) {
        let first = applied(&Value::Object(given.clone()));
        prop_assert!(!first.problems.iter().any(Problem::is_refusal), "{:?}", first.problems);
        for key in TwinKey::all() {
            let shown = reported(&first.config).get(&key.name()).map(|member| member["value"].clone());
            let taken = given.get(&key.name()).map(|member| canonical(key, &member["value"]));
            prop_assert_eq!(shown, taken.or_else(|| key.value(&AgentConfig::default())), "{}", key.name());
        }
        let again = apply(&section(&Value::Object(reported(&first.config))), &unusual());
        prop_assert_eq!(&again.config, &first.config);
        prop_assert!(!again.problems.iter().any(Problem::is_refusal));
        prop_assert_eq!(again.problems, first.problems);
    }

    #[test]
    fn a_bad_key_changes_no_neighbour(given in members(), before in members(), key in any_key()) {
        let in_force = applied(&Value::Object(before)).config;
        let (mut without, mut with) = (given.clone(), given);
        without.remove(&key.name());
        with.insert(key.name(), json!({ "value": [] }));
        let without = apply(&section(&Value::Object(without)), &in_force).config;
        let with = apply(&section(&Value::Object(with)), &in_force);
        prop_assert_eq!(with.problems.iter().filter(|p| p.is_refusal()).count(), 1);
        for other in TwinKey::all().filter(|other| *other != key) {
            prop_assert_eq!(other.value(&with.config), other.value(&without), "{}", other.name());
        }
    }

    #[test]
    fn any_json_leaves_a_configuration_within_bounds(
        pairs in prop::collection::vec((any_key(), anything()), 0..12),
        wrapped in any::<bool>(),
        whole in anything(),
    ) {
        let member = |v: Value| if wrapped { json!({ "value": v }) } else { v };
        let object: Map<String, Value> = pairs.into_iter().map(|(k, v)| (k.name(), member(v))).collect();
        for object in [Value::Object(object), whole] {
            let applied = apply(&section(&object), &unusual());
            for problem in &applied.problems {
                prop_assert!(problem.given.chars().count() <= 200 && problem.key.chars().count() <= 200);
                prop_assert!(problem.in_force.chars().count() <= 200);
            }
            let again = apply(&section(&Value::Object(reported(&applied.config))), &AgentConfig::default());
            prop_assert!(!again.problems.iter().any(Problem::is_refusal), "{:?}", again.problems);
            prop_assert_eq!(again.config, applied.config);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[\\[\\]{}\":,a0-9\\\\ ]{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for text in [text.as_bytes(), &bytes] {
            if let Ok(map) = crate::settings::twin_text::read(text, 65_536) {
                let _ = apply(&map, &AgentConfig::default());
            }
        }
    }
}

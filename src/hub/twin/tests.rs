//! Tests of the twin document.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn map(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("not an object: {value}") };
    map
}

fn full(version: u64, desired: Value) -> Vec<u8> {
    let mut desired = map(desired);
    desired.insert("$version".into(), version.into());
    json!({"desired": desired, "reported": {"x": 1, "$version": 3}}).to_string().into_bytes()
}

fn notice(twin: &mut TwinDocument, version: u64, patch: Value) -> Result<Step, TwinProblem> {
    let mut patch = map(patch);
    patch.insert("$version".into(), version.into());
    twin.notice(Value::Object(patch).to_string().as_bytes(), None)
}

fn known(version: u64, desired: Value) -> TwinDocument {
    let mut twin = TwinDocument::default();
    assert_eq!(twin.answer(&full(version, desired)), Ok(Step::Changed));
    twin
}

#[test]
fn a_whole_document_is_taken_without_the_hubs_additions() {
    let mut twin = TwinDocument::default();
    let text = br#"{"desired":{"a":{"b":1},"$metadata":{"x":1},"$version":4},"reported":{"r":true,"$version":9}}"#;
    assert_eq!(twin.answer(text), Ok(Step::Changed));
    assert_eq!(twin.version(), Some(4));
    assert_eq!(Value::Object(twin.desired().clone()), json!({"a": {"b": 1}}));
    assert_eq!(Value::Object(twin.reported().clone()), json!({"r": true}));
    assert_eq!(twin.answer(text), Ok(Step::Same));
}

#[test]
fn patches_follow_the_versions() {
    let mut twin = known(4, json!({"a": {"b": 1, "c": [1, 2]}, "d": "e"}));
    assert_eq!(notice(&mut twin, 4, json!({"d": "e"})), Ok(Step::Same), "a repetition");
    assert_eq!(notice(&mut twin, 3, json!({"a": {"b": 1}, "f": null})), Ok(Step::Same), "an older repetition");
    assert_eq!(notice(&mut twin, 6, json!({"d": "early"})), Ok(Step::Ask));
    assert_eq!(Value::Object(twin.desired().clone()), json!({"a": {"b": 1, "c": [1, 2]}, "d": "e"}));
    assert_eq!(notice(&mut twin, 5, json!({"a": {"b": null, "c": [3]}, "d": {"f": {"g": null}}})), Ok(Step::Patched));
    assert_eq!(Value::Object(twin.desired().clone()), json!({"a": {"c": [3]}, "d": {"f": {}}}));
    assert_eq!(twin.version(), Some(5));
}

#[test]
fn the_version_may_be_in_the_topic_only() {
    let mut twin = known(1, json!({}));
    assert_eq!(twin.notice(br#"{"a":1}"#, Some(2)), Ok(Step::Patched));
    assert_eq!(twin.notice(br#"{"a":1}"#, None), Err(TwinProblem::Shape("$version in a notice")));
}

#[test]
fn a_recreated_identity_is_taken_as_it_is() {
    let mut twin = known(40, json!({"a": 1}));
    assert_eq!(notice(&mut twin, 2, json!({"a": 2})), Ok(Step::Ask), "its first notice");
    assert_eq!(twin.desired().get("a"), Some(&json!(1)), "is not mixed with what is known of the other");
    assert_eq!(twin.answer(&full(1, json!({}))), Ok(Step::Changed));
    assert_eq!((twin.version(), twin.desired().len()), (Some(1), 0));
}

#[test]
fn a_replaced_document_loses_its_old_keys_with_the_next_get() {
    let mut twin = known(1, json!({"old": 1, "kept": 1}));
    assert_eq!(notice(&mut twin, 2, json!({"kept": 2})), Ok(Step::Patched));
    assert!(twin.desired().contains_key("old"));
    assert_eq!(twin.answer(&full(2, json!({"kept": 2}))), Ok(Step::Changed));
    assert!(!twin.desired().contains_key("old"));
}

#[test]
fn notices_wait_for_the_answer_and_come_in_order() {
    let mut twin = TwinDocument::default();
    twin.asking();
    assert_eq!(notice(&mut twin, 6, json!({"a": 6})), Ok(Step::Same));
    assert_eq!(notice(&mut twin, 5, json!({"a": 5, "b": 5})), Ok(Step::Same));
    assert_eq!(notice(&mut twin, 3, json!({"a": 3, "c": 3})), Ok(Step::Same));
    assert_eq!(twin.answer(&full(4, json!({"a": 4}))), Ok(Step::Patched));
    assert_eq!(Value::Object(twin.desired().clone()), json!({"a": 6, "b": 5}));
    assert_eq!(twin.version(), Some(6));
    twin.asking();
    assert_eq!(notice(&mut twin, 9, json!({})), Ok(Step::Same));
    assert_eq!(twin.answer(&full(7, json!({}))), Ok(Step::Ask), "8 is missing");
}

#[test]
fn notices_that_waited_in_vain_are_applied_as_far_as_they_follow() {
    let mut twin = known(1, json!({}));
    twin.asking();
    for version in [2, 3, 5] {
        assert_eq!(notice(&mut twin, version, json!({"v": version})), Ok(Step::Same));
    }
    assert!(twin.answer(b"?").is_err());
    assert_eq!(twin.give_up(), Step::Patched);
    assert_eq!(twin.version(), Some(3));
    let mut twin = TwinDocument::default();
    twin.asking();
    assert_eq!(notice(&mut twin, 2, json!({})), Ok(Step::Same));
    twin.forget_waiting();
    assert_eq!((twin.give_up(), twin.version()), (Step::Same, None));
}

#[test]
fn too_many_waiting_notices_mean_another_get() {
    let mut twin = TwinDocument::default();
    twin.asking();
    for version in 2..100 {
        assert_eq!(notice(&mut twin, version, json!({"v": version})), Ok(Step::Same));
    }
    assert_eq!(twin.waiting.len(), MAX_WAITING);
    assert_eq!(twin.answer(&full(1, json!({}))), Ok(Step::Ask));
    twin.asking();
    assert_eq!(twin.answer(&full(99, json!({}))), Ok(Step::Changed));
}

#[test]
fn what_is_not_a_twin_is_refused_and_the_document_stays() {
    let deep = |n: usize| format!("{{\"desired\":{}1{}}}", "{\"a\":".repeat(n), "}".repeat(n));
    let huge = format!("{{\"desired\":{{\"a\":\"{}\",\"$version\":1}}}}", "x".repeat(TWIN_SECTION_LIMIT));
    let mut twin = known(3, json!({"a": 1}));
    for (text, problem) in [
        ("", "not JSON"),
        ("nonsense", "not JSON"),
        ("[]", "it must be a JSON object"),
        ("{}", "lacks the object \"desired\""),
        ("{\"desired\":[]}", "lacks the object \"desired\""),
        ("{\"desired\":{}}", "lacks \"$version\" in \"desired\""),
        ("{\"desired\":{\"$version\":-1}}", "lacks \"$version\""),
        ("{\"desired\":{\"$version\":1},\"reported\":0}", "lacks the object \"reported\""),
        (&deep(16), "nested deeper"),
        (&"[".repeat(100_000), "nested deeper"),
        (&huge, "more than 65536 bytes"),
        (&" ".repeat(TWIN_ANSWER_LIMIT + 1), "more than 524288 bytes"),
    ] {
        twin.asking();
        let error = twin.answer(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
        assert_eq!(twin.give_up(), Step::Same);
        assert!(twin.notice(text.as_bytes(), None).is_err());
    }
    assert_eq!((twin.version(), twin.desired().get("a")), (Some(3), Some(&json!(1))));
}

#[test]
fn a_document_does_not_grow_by_patches_without_end() {
    let mut twin = known(1, json!({}));
    let long = "x".repeat(20_000);
    for version in 2..5 {
        let key = format!("k{version}");
        assert_eq!(notice(&mut twin, version, json!({ key: long.clone() })), Ok(Step::Patched));
    }
    assert!(matches!(
        notice(&mut twin, 5, json!({"k5": long})),
        Err(TwinProblem::Text(TwinTextError::TooLarge { .. }))
    ));
    assert_eq!(twin.version(), Some(4));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[a-d]", value(), 0..5).prop_map(|m| m.into_iter().collect())
}

/// A hub that changes desired properties; delivery is shuffled, doubled and lossy.
#[derive(Clone, Debug)]
enum Fate {
    Deliver,
    Lose,
    Double,
    GetFirst,
}

proptest! {
    #[test]
    fn whatever_is_lost_the_document_ends_as_the_hubs(
        start in object(),
        changes in prop::collection::vec((object(), prop_oneof![
            Just(Fate::Deliver), Just(Fate::Lose), Just(Fate::Double), Just(Fate::GetFirst)
        ]), 0..12),
    ) {
        let mut hub = Map::new();
        merge(&mut hub, start);
        let mut version = 1;
        let mut twin = known(version, Value::Object(hub.clone()));
        for (patch, fate) in changes {
            if matches!(fate, Fate::GetFirst) {
                twin.asking();
            }
            let answer = full(version, Value::Object(hub.clone()));
            version += 1;
            merge(&mut hub, patch.clone());
            let patch = Value::Object(patch);
            let step = match fate {
                Fate::Deliver => notice(&mut twin, version, patch),
                Fate::Lose => Ok(Step::Same),
                Fate::Double => {
                    let first = notice(&mut twin, version, patch.clone());
                    if first == Ok(Step::Patched) {
                        prop_assert_eq!(notice(&mut twin, version, patch), Ok(Step::Same));
                    }
                    first
                }
                Fate::GetFirst => {
                    prop_assert_eq!(notice(&mut twin, version, patch), Ok(Step::Same));
                    twin.answer(&answer)
                }
            };
            if step == Ok(Step::Ask) {
                twin.asking();
                twin.answer(&full(version, Value::Object(hub.clone()))).unwrap();
            }
        }
        if twin.version() == Some(version) {
            prop_assert_eq!(twin.desired(), &hub);
        } else {
            // The last notices were lost: the next one shows it.
            prop_assert_eq!(notice(&mut twin, version + 1, json!({})), Ok(Step::Ask));
        }
    }

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut twin = known(1, json!({"a": 1}));
        let _ = twin.notice(&bytes, None);
        let _ = twin.answer(&bytes);
        prop_assert!(twin.version().is_some());
    }
}

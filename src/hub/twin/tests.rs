//! Tests of the twin document.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::settings::defaults::TWIN_ANSWER_LIMIT;

/// What an answer says that is the document as it is known, and a notice that says nothing new.
const SAME: Step = Step { changed: false, ask: false };
/// An answer that is the whole document, and another one.
const WHOLE: Step = Step { changed: true, ask: false };
/// A notice that is applied.
const PATCHED: Step = Step { changed: true, ask: true };
/// A notice, or an answer, that shows that something is missing.
const ASK: Step = Step { changed: false, ask: true };

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

fn answer(twin: &mut TwinDocument, version: u64, desired: Value) -> Step {
    let Answered { desired, reported } = twin.answer(&full(version, desired));
    reported.unwrap();
    desired.unwrap()
}

fn known(version: u64, desired: Value) -> TwinDocument {
    let mut twin = TwinDocument::default();
    assert_eq!(answer(&mut twin, version, desired), WHOLE);
    twin
}

fn desired(twin: &TwinDocument) -> Value {
    Value::Object(twin.desired().clone())
}

#[test]
fn a_whole_document_is_taken_without_the_hubs_additions() {
    let mut twin = TwinDocument::default();
    let text = br#"{"desired":{"a":{"b":1},"$metadata":{"x":1},"$version":4},"reported":{"r":true,"$version":9}}"#;
    assert_eq!(twin.answer(text), Answered { desired: Ok(WHOLE), reported: Ok(map(json!({"r": true}))) });
    assert_eq!(twin.version(), Some(4));
    assert_eq!(desired(&twin), json!({"a": {"b": 1}}));
    assert_eq!(twin.answer(text).desired, Ok(SAME));
}

#[test]
fn a_desired_section_that_is_refused_does_not_hide_the_reported_one() {
    let mut twin = TwinDocument::default();
    let large = "x".repeat(TWIN_SECTION_LIMIT);
    let text = format!("{{\"desired\":{{\"a\":\"{large}\",\"$version\":4}},\"reported\":{{\"r\":1}}}}");
    let Answered { desired, reported } = twin.answer(text.as_bytes());
    assert_eq!((desired.unwrap_err().to_string().contains("65536 bytes"), reported), (true, Ok(map(json!({"r": 1})))));
    assert_eq!(twin.version(), None);
    let Answered { desired, reported } = twin.answer(br#"{"desired":{"$version":1},"reported":7}"#);
    assert_eq!((desired, reported), (Ok(WHOLE), Err(TwinProblem::Shape("the object \"reported\""))));
}

#[test]
fn patches_follow_the_versions() {
    let mut twin = known(4, json!({"a": {"b": 1, "c": [1, 2]}, "d": "e"}));
    assert_eq!(notice(&mut twin, 4, json!({"d": "e"})), Ok(SAME), "a repetition");
    assert_eq!(notice(&mut twin, 3, json!({"a": {"b": 1}, "f": null})), Ok(SAME), "an older repetition");
    assert_eq!(notice(&mut twin, 6, json!({"d": "early"})), Ok(ASK));
    assert_eq!(Value::Object(twin.desired().clone()), json!({"a": {"b": 1, "c": [1, 2]}, "d": "e"}));
    assert_eq!(notice(&mut twin, 5, json!({"a": {"b": null, "c": [3]}, "d": {"f": {"g": null}}})), Ok(PATCHED));
    assert_eq!(Value::Object(twin.desired().clone()), json!({"a": {"c": [3]}, "d": {"f": {}}}));
    assert_eq!(twin.version(), Some(5));
}

#[test]
fn the_version_may_be_in_the_topic_only() {
    let mut twin = known(1, json!({}));
    assert_eq!(twin.notice(br#"{"a":1}"#, Some(2)), Ok(PATCHED));
    assert_eq!(twin.notice(br#"{"a":1}"#, None), Err(TwinProblem::Shape("$version in a notice")));
}

#[test]
fn a_recreated_identity_is_taken_as_it_is() {
    let mut twin = known(40, json!({"a": 1}));
    assert_eq!(notice(&mut twin, 2, json!({"a": 2})), Ok(ASK), "its first notice");
    assert_eq!(twin.desired().get("a"), Some(&json!(1)), "is not mixed with what is known of the other");
    assert_eq!(answer(&mut twin, 1, json!({})), WHOLE);
    assert_eq!((twin.version(), twin.desired().len()), (Some(1), 0));
}

#[test]
fn a_replaced_document_loses_its_old_keys_with_the_next_get() {
    let mut twin = known(1, json!({"old": 1, "kept": 1}));
    assert_eq!(notice(&mut twin, 2, json!({"kept": 2})), Ok(PATCHED));
    assert!(twin.desired().contains_key("old"));
    assert_eq!(answer(&mut twin, 2, json!({"kept": 2})), WHOLE);
    assert!(!twin.desired().contains_key("old"));
}

#[test]
fn notices_do_not_wait_for_an_answer() {
    let mut twin = known(4, json!({"a": 4, "old": 1}));
    twin.asking();
    assert_eq!(notice(&mut twin, 5, json!({"a": 5})), Ok(PATCHED));
    assert_eq!(desired(&twin), json!({"a": 5, "old": 1}));
    assert_eq!(notice(&mut twin, 7, json!({"a": 7})), Ok(SAME), "the answer may hold what is missing");
    assert_eq!(notice(&mut twin, 6, json!({"b": 6})), Ok(PATCHED), "with it the early one follows");
    assert_eq!((twin.version(), desired(&twin)), (Some(7), json!({"a": 7, "b": 6, "old": 1})));
    // The answer is older than the last of them: they are applied to it again, and it is asked about.
    assert_eq!(answer(&mut twin, 5, json!({"a": 5})), PATCHED);
    assert_eq!((twin.version(), desired(&twin)), (Some(7), json!({"a": 7, "b": 6})));
    twin.asking();
    assert_eq!(answer(&mut twin, 7, json!({"a": 7, "b": 6})), SAME);
}

#[test]
fn notices_before_the_first_document_are_applied_to_it_in_order() {
    let mut twin = TwinDocument::default();
    twin.asking();
    for (version, patch) in [(6, json!({"a": 6})), (5, json!({"a": 5, "b": 5})), (3, json!({"a": 3, "c": 3}))] {
        assert_eq!(notice(&mut twin, version, patch), Ok(SAME));
    }
    assert_eq!(answer(&mut twin, 4, json!({"a": 4})), PATCHED);
    assert_eq!((twin.version(), desired(&twin)), (Some(6), json!({"a": 6, "b": 5})));
    twin.asking();
    assert_eq!(notice(&mut twin, 9, json!({})), Ok(SAME));
    assert_eq!(answer(&mut twin, 7, json!({})), PATCHED, "8 is missing");
    assert_eq!(twin.version(), Some(7));
}

#[test]
fn what_came_during_a_get_that_fails_stays() {
    let mut twin = known(1, json!({}));
    twin.asking();
    for (version, step) in [(2, PATCHED), (3, PATCHED), (5, SAME)] {
        assert_eq!(notice(&mut twin, version, json!({"v": version})), Ok(step));
    }
    assert!(twin.answer(b"?").desired.is_err());
    assert_eq!(twin.version(), Some(3));
    assert_eq!(notice(&mut twin, 5, json!({"v": 5})), Ok(ASK));
    let mut twin = TwinDocument::default();
    twin.asking();
    assert_eq!(notice(&mut twin, 2, json!({})), Ok(SAME));
    twin.gave_up();
    assert_eq!(twin.version(), None);
}

#[test]
fn what_a_new_connection_tells_is_not_mixed_with_what_an_old_one_told() {
    let mut twin = known(1, json!({"old": 1}));
    twin.disconnected();
    twin.asking();
    // The identity was made anew, and its versions begin anew as well.
    assert_eq!(notice(&mut twin, 2, json!({"new": 2})), Ok(SAME));
    twin.gave_up();
    assert_eq!(notice(&mut twin, 2, json!({"new": 2})), Ok(ASK));
    assert_eq!((twin.version(), desired(&twin)), (Some(1), json!({"old": 1})));
    twin.asking();
    assert_eq!(answer(&mut twin, 2, json!({"new": 2})), WHOLE);
    assert_eq!(notice(&mut twin, 3, json!({"a": 3})), Ok(PATCHED));
}

#[test]
fn an_older_answer_than_what_is_kept_leaves_the_document() {
    let mut twin = known(1, json!({"old": 1}));
    twin.asking();
    for version in 2..100 {
        assert_eq!(notice(&mut twin, version, json!({"v": version})), Ok(PATCHED));
    }
    assert_eq!(twin.asked.as_ref().unwrap().notices.len(), MAX_KEPT);
    assert_eq!(answer(&mut twin, 1, json!({"old": 1})), ASK);
    assert_eq!((twin.version(), desired(&twin)), (Some(99), json!({"old": 1, "v": 99})));
    twin.asking();
    assert_eq!(answer(&mut twin, 99, json!({"v": 99})), WHOLE);
    // With the first document nothing was merged, and what is not kept is missed.
    let mut twin = TwinDocument::default();
    twin.asking();
    for version in 2..100 {
        assert_eq!(notice(&mut twin, version, json!({"v": version})), Ok(SAME));
    }
    assert_eq!(answer(&mut twin, 50, json!({"v": 50})), PATCHED);
    assert_eq!(twin.version(), Some(50));
}

#[test]
fn a_notice_that_cannot_be_read_during_a_get_is_asked_about_again() {
    let mut twin = known(1, json!({}));
    twin.asking();
    assert!(twin.notice(b"?", None).is_err());
    assert_eq!(answer(&mut twin, 1, json!({})), ASK, "it may have been sent before that notice");
    twin.asking();
    assert_eq!(answer(&mut twin, 2, json!({"a": 1})), WHOLE);
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
        ("{\"desired\":{\"a\":1 2},\"reported\":0}", "not JSON"),
        (&deep(17), "nested deeper"),
        (&"[".repeat(100_000), "nested deeper"),
        (&huge, "more than 65536 bytes"),
        (&" ".repeat(TWIN_ANSWER_LIMIT + 1), "more than 524288 bytes"),
    ] {
        twin.asking();
        let error = twin.answer(text.as_bytes()).desired.unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
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
        assert_eq!(notice(&mut twin, version, json!({ key: long.clone() })), Ok(PATCHED));
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

/// What becomes of a notice.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Deliver,
    Lose,
    Double,
    /// It overtakes the one before it, if that is still under way.
    Overtake,
    /// It waits for the next one.
    Delay,
}

proptest! {
    /// Requests are sent as soon as they are wanted and are answered some notices later, with the twin of some moment
    /// between. When all has come, the document is the hub's.
    #[test]
    fn whatever_is_lost_the_document_ends_as_the_hubs(
        start in object(),
        changes in prop::collection::vec((object(), any::<bool>(), prop_oneof![
            3 => Just(Fate::Deliver), 1 => Just(Fate::Lose), 1 => Just(Fate::Double), 1 => Just(Fate::Overtake),
            1 => Just(Fate::Delay)
        ], any::<bool>(), any::<bool>()), 0..40),
    ) {
        let mut hub = Map::new();
        merge(&mut hub, start);
        let mut version = 1;
        let mut twin = known(version, Value::Object(hub.clone()));
        let (mut held, mut wants, mut under_way): (Option<(u64, Value)>, _, Option<Vec<u8>>) = (None, false, None);
        for (patch, replace, fate, answer_now, look_late) in changes {
            version += 1;
            if replace {
                hub.clear();
            }
            merge(&mut hub, patch.clone());
            // A replacement tells what is there, without its nulls.
            let told = if replace { Value::Object(hub.clone()) } else { Value::Object(patch) };
            let mut arrive = Vec::new();
            match fate {
                Fate::Lose => {}
                Fate::Delay => arrive.extend(held.replace((version, told))),
                Fate::Deliver => arrive.extend(held.take().into_iter().chain([(version, told)])),
                Fate::Double => arrive.extend(held.take().into_iter().chain([(version, told.clone()), (version, told)])),
                Fate::Overtake => arrive.extend([(version, told)].into_iter().chain(held.take())),
            }
            for (version, told) in arrive {
                wants |= notice(&mut twin, version, told).unwrap().ask;
            }
            if wants && under_way.is_none() {
                twin.asking();
                wants = false;
                under_way = Some(full(version, Value::Object(hub.clone())));
            }
            if look_late && under_way.is_some() {
                under_way = Some(full(version, Value::Object(hub.clone())));
            }
            if answer_now && let Some(answer) = under_way.take() {
                wants |= twin.answer(&answer).desired.unwrap().ask;
            }
        }
        if let Some(answer) = under_way.take() {
            wants |= twin.answer(&answer).desired.unwrap().ask;
        }
        if let Some((version, told)) = held.take() {
            wants |= notice(&mut twin, version, told).unwrap().ask;
        }
        if wants {
            twin.asking();
            prop_assert!(!twin.answer(&full(version, Value::Object(hub.clone()))).desired.unwrap().ask);
        }
        if twin.version() == Some(version) {
            prop_assert_eq!(twin.desired(), &hub);
        } else {
            // The last notices were lost: the next one shows it.
            prop_assert_eq!(notice(&mut twin, version + 1, json!({})), Ok(ASK));
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

//! The reported properties: what differs between ours and the hub's, as a JSON merge patch, within the hub's size.
//!
//! Only the objects that are ours are ever touched; a key at the root that somebody else reported stays. One that shall
//! be gone is named with null.

use serde_json::{Map, Value};

use crate::settings::defaults::OWN_OBJECT;

/// The hub's limit for the whole section, by its own count.
const MAX_SECTION: usize = 32 * 1024;
/// Set in the agent's own object when something was left out for size.
const TRUNCATED: &str = "truncated";

/// The merge patch that turns the hub's `theirs` into `ours`; empty if nothing differs. Members that `theirs` has and
/// `ours` has not become null, but only inside the objects that `ours` names at its root. A null in `ours` counts as
/// absent.
#[must_use]
pub fn patch(ours: &Map<String, Value>, theirs: &Map<String, Value>) -> Map<String, Value> {
    difference(ours, theirs, false)
}

fn difference(ours: &Map<String, Value>, theirs: &Map<String, Value>, remove: bool) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, value) in ours {
        match (value, theirs.get(key)) {
            (Value::Null, None) => {}
            (Value::Null, Some(_)) => {
                patch.insert(key.clone(), Value::Null);
            }
            (Value::Object(ours), Some(Value::Object(theirs))) => {
                let inner = difference(ours, theirs, true);
                if !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            (Value::Object(ours), _) => {
                patch.insert(key.clone(), Value::Object(difference(ours, &Map::new(), false)));
            }
            (value, theirs) => {
                if theirs != Some(value) {
                    patch.insert(key.clone(), value.clone());
                }
            }
        }
    }
    if remove {
        for key in theirs.keys().filter(|key| !ours.contains_key(*key)) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

/// Makes `ours` fit into the section beside what others reported there: leaves out the largest members of the agent's own
/// object until it does, and says so there in `truncated`. The other object is the documented contract and never cut;
/// should it alone be too large, the hub says so.
#[must_use]
pub fn fit(mut ours: Map<String, Value>, theirs: &Map<String, Value>) -> Map<String, Value> {
    let foreign: usize =
        theirs.iter().filter(|(key, _)| !ours.contains_key(*key)).map(|(key, value)| key.len() + size(value)).sum();
    let budget = MAX_SECTION.saturating_sub(foreign);
    while map_size(&ours) > budget {
        let Some(Value::Object(detail)) = ours.get_mut(OWN_OBJECT) else { break };
        let largest = detail
            .iter()
            .filter(|(key, _)| *key != TRUNCATED)
            .max_by_key(|(key, value)| key.len() + size(value))
            .map(|(key, _)| key.clone());
        let Some(key) = largest else { break };
        detail.remove(&key);
        detail.insert(TRUNCATED.to_owned(), Value::Bool(true));
    }
    ours
}

/// The hub's count: names and values, numbers as 8 bytes, booleans as 4.
fn size(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(object) => map_size(object),
    }
}

fn map_size(object: &Map<String, Value>) -> usize {
    object.iter().map(|(key, value)| key.len() + size(value)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::hub::twin::merge;

    fn map(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("not an object: {value}") };
        map
    }

    fn diff(ours: Value, theirs: Value) -> Value {
        Value::Object(patch(&map(ours), &map(theirs)))
    }

    #[test]
    fn only_differences_are_sent() {
        let theirs = json!({"conf": {"a": 1, "b": {"c": 2, "d": 3}}, "foreign": {"x": 1}});
        assert_eq!(diff(json!({"conf": {"a": 1, "b": {"c": 2, "d": 3}}}), theirs.clone()), json!({}));
        assert_eq!(
            diff(json!({"conf": {"a": 2, "b": {"d": 3}}, "twinward": {"v": "1"}}), theirs.clone()),
            json!({"conf": {"a": 2, "b": {"c": null}}, "twinward": {"v": "1"}})
        );
        assert_eq!(
            diff(json!({"conf": {"a": {"n": 1}, "b": [1]}}), theirs),
            json!({"conf": {"a": {"n": 1}, "b": [1]}})
        );
    }

    #[test]
    fn foreign_objects_are_never_touched() {
        assert_eq!(diff(json!({}), json!({"foreign": 1, "conf": {"a": 1}})), json!({}));
        assert_eq!(diff(json!({"conf": {}}), json!({"foreign": 1, "conf": {"a": 1}})), json!({"conf": {"a": null}}));
    }

    #[test]
    fn an_object_that_shall_be_gone_is_removed_once() {
        let ours = json!({"conf": {"a": 1}, "old": null});
        assert_eq!(diff(ours.clone(), json!({"old": {"b": 1}})), json!({"conf": {"a": 1}, "old": null}));
        assert_eq!(diff(ours, json!({"conf": {"a": 1}})), json!({}));
    }

    #[test]
    fn the_configuration_is_kept_and_detail_goes_first() {
        let ours = map(json!({
            "conf": {"a": "x".repeat(10_000)},
            "twinward": {"version": "1", "problems": ["y".repeat(20_000)], "collectors": {"c": "z".repeat(15_000)}}
        }));
        let fitted = fit(ours.clone(), &Map::new());
        assert_eq!(fitted.get("conf"), ours.get("conf"));
        let detail = map(fitted["twinward"].clone());
        assert_eq!(detail.keys().collect::<Vec<_>>(), ["collectors", "truncated", "version"]);
        assert!(map_size(&fitted) <= MAX_SECTION);
        let foreign = map(json!({"other": "f".repeat(15_000)}));
        let fitted = fit(ours.clone(), &foreign);
        assert_eq!(map(fitted["twinward"].clone()).keys().collect::<Vec<_>>(), ["truncated", "version"]);
        let small = map(json!({"conf": {"a": 1}, "twinward": {"version": "1"}}));
        assert_eq!(fit(small.clone(), &foreign), small);
        let hopeless = fit(map(json!({"conf": {"a": "x".repeat(40_000)}, "twinward": {"v": 1}})), &Map::new());
        assert_eq!(hopeless["twinward"], json!({"truncated": true}));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), any::<i8>().prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    fn objects(names: &'static str) -> impl Strategy<Value = Map<String, Value>> {
        let object = prop::collection::btree_map("[a-d]", value(), 0..4)
            .prop_map(|m| Value::Object(m.into_iter().collect::<Map<_, _>>()));
        prop::collection::btree_map(names, object, 0..3).prop_map(|m| m.into_iter().collect())
    }

    proptest! {
        #[test]
        fn the_patch_makes_the_hubs_side_equal_ours(ours in objects("[p-q]"), theirs in objects("[p-s]")) {
            let patch = patch(&ours, &theirs);
            let mut after = theirs.clone();
            merge(&mut after, patch);
            for (key, value) in &theirs {
                if !ours.contains_key(key) {
                    prop_assert_eq!(after.get(key), Some(value));
                }
            }
            for (key, value) in &ours {
                prop_assert_eq!(after.get(key), Some(value));
            }
            prop_assert!(super::patch(&ours, &after).is_empty());
        }
    }
}

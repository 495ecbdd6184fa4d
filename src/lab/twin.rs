//! A module's twin as the hub keeps it: two sections, each with a version of its own.

use serde_json::{Value, json};

use super::twin_rules::{Section, TwinError, check, merged};

/// Desired and reported properties; versions begin at 1 and go up by one with each write.
#[derive(Clone, Debug)]
pub(super) struct Twin {
    desired: Section,
    desired_version: u64,
    reported: Section,
    reported_version: u64,
}

/// What a client that listens is told of a desired change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notice {
    pub version: u64,
    /// The patch, or the whole new section if it was replaced; without `$version`.
    pub change: Section,
}

impl Notice {
    /// The payload: the change with `$version`.
    pub(super) fn body(&self) -> Vec<u8> {
        versioned(&self.change, self.version).to_string().into_bytes()
    }
}

impl Twin {
    /// A twin that nothing was reported to.
    ///
    /// # Errors
    /// `desired` breaks a rule.
    pub(super) fn new(desired: &Section) -> Result<Self, TwinError> {
        check(desired)?;
        let desired = merged(&Section::new(), desired)?;
        Ok(Self { desired, desired_version: 1, reported: Section::new(), reported_version: 1 })
    }

    /// What a client gets when it asks.
    pub(super) fn document(&self) -> Value {
        json!({"desired": self.desired_section(), "reported": self.reported_section()})
    }

    /// Desired with its `$version`.
    pub(super) fn desired_section(&self) -> Value {
        versioned(&self.desired, self.desired_version)
    }

    /// Reported with its `$version`.
    pub(super) fn reported_section(&self) -> Value {
        versioned(&self.reported, self.reported_version)
    }

    pub(super) fn desired_version(&self) -> u64 {
        self.desired_version
    }

    /// Merges what a client reports; gives the patch and the new version.
    ///
    /// # Errors
    /// A rule is broken, or `if_version` is not the version in force; nothing has changed then.
    pub(super) fn report(&mut self, body: &[u8], if_version: Option<&str>) -> Result<(Section, u64), TwinError> {
        let patch = object(serde_json::from_slice(body).map_err(|_| TwinError::NotAnObject)?)?;
        check(&patch)?;
        if let Some(given) = if_version {
            let (given, in_force) = (given.parse().map_err(|_| TwinError::Condition)?, self.reported_version);
            if given != in_force {
                return Err(TwinError::Version { given, in_force });
            }
        }
        self.reported = merged(&self.reported, &patch)?;
        self.reported_version += 1;
        Ok((patch, self.reported_version))
    }

    /// Merges a change of desired, as the service side makes it.
    ///
    /// # Errors
    /// A rule is broken; nothing has changed then.
    pub(super) fn patch_desired(&mut self, patch: Value) -> Result<Notice, TwinError> {
        let patch = object(patch)?;
        check(&patch)?;
        self.desired = merged(&self.desired, &patch)?;
        Ok(self.next(patch))
    }

    /// Replaces desired. The notice is the new section and does not tell what went.
    ///
    /// # Errors
    /// A rule is broken; nothing has changed then.
    pub(super) fn replace_desired(&mut self, desired: Value) -> Result<Notice, TwinError> {
        let desired = object(desired)?;
        check(&desired)?;
        self.desired = merged(&Section::new(), &desired)?;
        Ok(self.next(self.desired.clone()))
    }

    fn next(&mut self, change: Section) -> Notice {
        self.desired_version += 1;
        Notice { version: self.desired_version, change }
    }
}

fn versioned(section: &Section, version: u64) -> Value {
    let mut section = section.clone();
    section.insert("$version".to_owned(), version.into());
    Value::Object(section)
}

fn object(value: Value) -> Result<Section, TwinError> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(TwinError::NotAnObject),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn twin() -> Twin {
        Twin::new(json!({"a": {"value": 1}}).as_object().unwrap()).unwrap()
    }

    #[test]
    fn versions_of_the_sections_are_independent() {
        let mut twin = twin();
        assert_eq!(twin.report(br#"{"x":1}"#, None).unwrap().1, 2);
        assert_eq!(twin.report(br#"{"x":null}"#, Some("2")).unwrap().1, 3);
        let notice = twin.patch_desired(json!({"a": {"value": 2}, "b": null})).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&notice.body()).unwrap(),
            json!({"a": {"value": 2}, "b": null, "$version": 2})
        );
        let expected = json!({"desired": {"a": {"value": 2}, "$version": 2}, "reported": {"$version": 3}});
        assert_eq!(twin.document(), expected);
    }

    #[test]
    fn a_replacement_tells_the_whole_section() {
        let mut twin = twin();
        let notice = twin.replace_desired(json!({"b": 1, "gone": null})).unwrap();
        assert_eq!(Value::Object(notice.change), json!({"b": 1}));
        assert_eq!(twin.desired_section(), json!({"b": 1, "$version": 2}));
    }

    #[test]
    fn a_refused_report_changes_nothing() {
        let mut twin = twin();
        let before = twin.document();
        let large = json!({"a": "t".repeat(4000), "b": vec!["t".repeat(4000); 8]}).to_string();
        for (body, condition, status) in [
            ("[1]", None, 400),
            ("{", None, 400),
            ("", None, 400),
            (r#"{"$version":1}"#, None, 400),
            (r#"{"a":1}"#, Some("x"), 400),
            (r#"{"a":1}"#, Some("7"), 412),
            (large.as_str(), None, 413),
        ] {
            assert_eq!(twin.report(body.as_bytes(), condition).unwrap_err().status(), status, "{body:.40}");
        }
        assert_eq!(twin.document(), before);
    }

    proptest! {
        #[test]
        fn any_report_is_taken_whole_or_not_at_all(bodies in proptest::collection::vec(
            prop_oneof![Just(r#"{"a":{"b":1}}"#), Just(r#"{"a":null}"#), Just(r#"{"a":[null]}"#), Just("7"), Just(r#"{"a":{"c":"x"}}"#)],
            0..20,
        )) {
            let mut twin = twin();
            for body in bodies {
                let before = (twin.reported.clone(), twin.reported_version);
                if let Ok((_, version)) = twin.report(body.as_bytes(), None) {
                    prop_assert_eq!(version, before.1 + 1);
                } else {
                    prop_assert_eq!((twin.reported.clone(), twin.reported_version), before);
                }
                prop_assert!(check(&twin.reported).is_ok());
            }
        }

        #[test]
        fn a_client_that_merges_every_notice_has_the_document(patches in proptest::collection::vec(patch(), 0..12)) {
            let mut twin = Twin::new(&Section::new()).unwrap();
            let mut client = json!({});
            for (i, patch) in patches.into_iter().enumerate() {
                let notice = twin.patch_desired(patch).unwrap();
                prop_assert_eq!(notice.version, i as u64 + 2);
                client = by_the_book(client, serde_json::from_slice(&notice.body()).unwrap());
            }
            let mut desired = twin.desired_section();
            if client.get("$version").is_none() {
                client["$version"] = json!(1);
            }
            prop_assert_eq!(desired.take(), client);
        }
    }

    fn patch() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..9).prop_map(Value::from)];
        let node = leaf.prop_recursive(3, 12, 3, |inner| {
            proptest::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        proptest::collection::btree_map("[abc]", node, 0..3).prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    /// The pseudo code of RFC 7396, section 2.
    fn by_the_book(target: Value, patch: Value) -> Value {
        let Value::Object(patch) = patch else { return patch };
        let mut target = if target.is_object() { target } else { json!({}) };
        for (name, value) in patch {
            if value.is_null() {
                target.as_object_mut().unwrap().remove(&name);
            } else {
                target[&name] = by_the_book(target[&name].take(), value);
            }
        }
        target
    }
}

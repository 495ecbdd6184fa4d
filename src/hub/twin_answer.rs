//! The hub's answer to a request for the twin: `{"desired":{…,"$version":n},"reported":{…,"$version":k}}`.
//!
//! Each section is judged by itself, so that one that cannot be used does not hide the other: an operator whose desired
//! section is refused learns of it in the reported one. Before a section is parsed, its size and depth as text are
//! bounded; for that the answer is cut into its members without parsing them.

use serde_json::{Map, Value};

use super::twin::TwinProblem;
use crate::settings::defaults::{TWIN_ANSWER_LIMIT, TWIN_SECTION_LIMIT};
use crate::settings::twin_text::{self, TwinTextError};

type Section = Map<String, Value>;

/// The sections without what the hub adds to them, and the version of the desired one.
pub(super) struct TwinAnswer {
    pub(super) desired: Result<(Section, u64), TwinProblem>,
    /// Empty if there is none.
    pub(super) reported: Result<Section, TwinProblem>,
}

/// Reads the answer.
pub(super) fn read(payload: &[u8]) -> TwinAnswer {
    let answer = match sections(payload) {
        Ok(sections) => sections,
        Err(problem) => return TwinAnswer { desired: Err(problem.clone()), reported: Err(problem) },
    };
    let desired = answer.desired.ok_or(TwinProblem::Shape("the object \"desired\"")).and_then(|text| {
        let mut desired = section(text, "the object \"desired\"")?;
        let version = take_version(&mut desired).ok_or(TwinProblem::Shape("\"$version\" in \"desired\""))?;
        Ok((desired, version))
    });
    let reported = answer.reported.map_or(Ok(Section::new()), |text| {
        let mut reported = section(text, "the object \"reported\"")?;
        take_version(&mut reported);
        Ok(reported)
    });
    TwinAnswer { desired, reported }
}

/// Removes what the hub adds to a section, and gives its version.
pub(super) fn take_version(section: &mut Section) -> Option<u64> {
    section.remove("$metadata");
    section.remove("$version").and_then(|v| v.as_u64())
}

fn section(text: &[u8], what: &'static str) -> Result<Section, TwinProblem> {
    twin_text::read(text, TWIN_SECTION_LIMIT).map_err(|error| match error {
        TwinTextError::NotAnObject { .. } => TwinProblem::Shape(what),
        other => other.into(),
    })
}

/// The texts of both sections, as far as they are there.
#[derive(Default)]
struct Sections<'a> {
    desired: Option<&'a [u8]>,
    reported: Option<&'a [u8]>,
}

fn sections(payload: &[u8]) -> Result<Sections<'_>, TwinProblem> {
    if payload.len() > TWIN_ANSWER_LIMIT {
        return Err(TwinTextError::TooLarge { limit: TWIN_ANSWER_LIMIT }.into());
    }
    let text = payload.trim_ascii();
    let inner = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}"));
    let Some(inner) = inner else {
        // It may be a list, or not JSON: whoever reads it as a section says so, without the room to build much.
        let found = twin_text::read(text.get(..TWIN_SECTION_LIMIT).unwrap_or(text), TWIN_SECTION_LIMIT);
        return Err(found.err().map_or(TwinProblem::NotJson, Into::into));
    };
    let mut sections = Sections::default();
    for member in members(inner) {
        let Some((name, value)) = named(member) else {
            if inner.trim_ascii().is_empty() {
                break;
            }
            return Err(TwinProblem::NotJson);
        };
        match name {
            b"desired" => sections.desired = Some(value),
            b"reported" => sections.reported = Some(value),
            _ => {}
        }
    }
    Ok(sections)
}

/// The texts between the commas that are in no string, list or object.
fn members(inner: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut open, mut in_string, mut escaped) = (0_usize, false, false);
    inner.split(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => open += 1,
            b'}' | b']' if !in_string => open = open.saturating_sub(1),
            b',' if !in_string => return open == 0,
            _ => {}
        }
        false
    })
}

/// Name and value of a member. A name with an escape in it is none of ours.
fn named(member: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = member.trim_ascii().strip_prefix(b"\"")?;
    let mut escaped = false;
    let end = rest.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    })?;
    let (name, rest) = rest.split_at_checked(end)?;
    let value = rest.strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?;
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Section {
        let Value::Object(map) = value else { panic!("not an object: {value}") };
        map
    }

    #[test]
    fn sections_are_read_without_the_hubs_additions() {
        let text = br#" {"$x":[1,{"desired":{}}],"desired":{"a":{"b":"}],\"{"},"$metadata":{"x":1},"$version":4} ,
            "reported" : {"r":true,"$version":9}} "#;
        let answer = read(text);
        assert_eq!(answer.desired, Ok((map(json!({"a": {"b": "}],\"{"}})), 4)));
        assert_eq!(answer.reported, Ok(map(json!({"r": true}))));
        let answer = read(br#"{"desired":{"$version":1}}"#);
        assert_eq!((answer.desired, answer.reported), (Ok((Section::new(), 1)), Ok(Section::new())));
    }

    #[test]
    fn a_section_that_is_refused_leaves_the_other() {
        let full = |section: usize| format!("{{\"a\":\"{}\",\"$version\":1}}", "x".repeat(section));
        let too_large = || TwinProblem::from(TwinTextError::TooLarge { limit: TWIN_SECTION_LIMIT });
        for (desired, problem) in [
            (full(TWIN_SECTION_LIMIT), too_large()),
            (full(400_000), too_large()),
            ("{".repeat(17) + &"}".repeat(17), TwinTextError::TooDeep.into()),
            ("{\"a\"}".to_owned(), TwinProblem::NotJson),
            ("7".to_owned(), TwinProblem::Shape("the object \"desired\"")),
        ] {
            let answer = read(format!("{{\"desired\":{desired},\"reported\":{{\"r\":1}}}}").as_bytes());
            assert_eq!((answer.desired, answer.reported), (Err(problem), Ok(map(json!({"r": 1})))));
        }
        let answer = read(format!("{{\"reported\":{},\"desired\":{{\"$version\":3}}}}", full(70_000)).as_bytes());
        assert_eq!((answer.desired, answer.reported), (Ok((Section::new(), 3)), Err(too_large())));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![any::<bool>().prop_map(Value::from), "[\\PC\"\\\\{}\\[\\]:,]{0,6}".prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-d\"\\\\]{0,2}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_stands_around_them_both_are_found(
            desired in value(), reported in value(), more in value(), name in "[a-c\"\\\\]{0,3}", pretty: bool
        ) {
            let document = json!({"desired": {"d": desired, "$version": 7}, "reported": {"r": reported}, (name): more});
            let text = if pretty { serde_json::to_vec_pretty(&document) } else { serde_json::to_vec(&document) };
            let answer = read(&text.unwrap());
            prop_assert_eq!(answer.desired, Ok((map(json!({ "d": desired })), 7)));
            prop_assert_eq!(answer.reported, Ok(map(json!({ "r": reported }))));
        }

        #[test]
        fn nothing_makes_it_panic(text in "[\\PC\"\\\\{}\\[\\]:,]{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
            read(text.as_bytes());
            read(format!("{{\"desired\":{text}}}").as_bytes());
        }
    }
}

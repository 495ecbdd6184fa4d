//! The size of things: what a message and an event may weigh, and how an event that is too large is made to fit.
//!
//! An event that is too large is **split** between its payload items into several events of the same name; each item
//! then says which part it is in: `ExtraDetails` `Part` = `"1"`, `Parts` = `"3"`. An item that is too large alone is
//! **cut**: its longest texts are shortened, and `ExtraDetails` `Truncated.<field>` gives the length in bytes that the
//! text had. Texts of up to 64 bytes are left alone: that is where enumerations, addresses, ports and times are, which
//! the published schema checks.

use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use crate::model::event::{Event, EventName};
use crate::model::ids::{AgentId, EventId};
use crate::model::message::{LARGEST_BODY, MessageRoot};
use crate::model::time::Timestamp;
use crate::settings::agent_config::AgentConfig;

/// Kept free in each body, so that a root with a longer version text still fits.
const ROOT_RESERVE: usize = 64;

/// Kept free for what the store writes beside an event.
const ROW_RESERVE: usize = 64;

/// The most that `Part` and `Parts` add to an item.
const PART_MARK: usize = 64;

/// Texts up to this many bytes are never cut.
const SHORT_TEXT: usize = 64;

/// The member of each payload item that takes what the published fields have no room for.
const EXTRA_DETAILS: &str = "ExtraDetails";

/// The largest body of a message in bytes: `maxMessageSizeInBytes`, at most what the hub takes.
#[must_use]
pub fn max_body(config: &AgentConfig) -> usize {
    usize::try_from(config.max_message_size.as_u64()).unwrap_or(usize::MAX).min(LARGEST_BODY)
}

/// What is ready and unsent in bytes when messages leave at once: one of them is full, or half of the cache is taken,
/// which comes first if the cache has no room for two messages.
#[must_use]
pub(super) fn full(config: &AgentConfig) -> u64 {
    let body = u64::try_from(max_body(config)).unwrap_or(u64::MAX);
    body.min(config.max_local_cache_size.as_u64() / 2)
}

/// The largest event in bytes: it fits a message of its own, and takes a quarter of the cache at most, so that one event
/// never drives all others out.
#[must_use]
pub fn max_event(config: &AgentConfig) -> usize {
    let root = MessageRoot::new(crate::model::VERSION, AgentId::random());
    let message = max_body(config).saturating_sub(root.overhead() + ROOT_RESERVE);
    message.min(quarter_of_cache(config).saturating_sub(ROW_RESERVE))
}

/// A quarter of the cache in bytes: the most that one event takes, and the most that all open aggregates take.
pub(super) fn quarter_of_cache(config: &AgentConfig) -> usize {
    usize::try_from(config.max_local_cache_size.as_u64() / 4).unwrap_or(usize::MAX)
}

/// What became of the items of one event.
#[derive(Debug)]
pub(super) struct Fitted {
    /// The JSON texts of one or more events, in the order of their items; empty if nothing could be sent.
    pub(super) bodies: Vec<String>,
    /// Items that fit no event, not even cut.
    pub(super) lost: u64,
}

/// Writes events.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    /// The zone of `TimestampLocal`.
    pub(super) zone: TimeZone,
    /// The largest event in bytes.
    pub(super) max_event: usize,
}

impl Writer {
    /// The event with these items as text: one event if it fits, else as described at the top of this file.
    ///
    /// # Errors
    /// As [`Event::to_value`].
    pub(super) fn write(&self, name: EventName, at: Timestamp, items: Vec<Value>) -> Result<Fitted, serde_json::Error> {
        let mut event = self.envelope(name, at)?;
        fill(&mut event, items);
        let body = serde_json::to_string(&event)?;
        if body.len() <= self.max_event {
            return Ok(Fitted { bodies: vec![body], lost: 0 });
        }
        let items = fill(&mut event, Vec::new());
        self.split(&event, items)
    }

    /// Puts the items into as many copies of the empty event as it takes.
    fn split(&self, empty: &Value, mut items: Vec<Value>) -> Result<Fitted, serde_json::Error> {
        let room = self.room(empty)?;
        let budget = room.saturating_sub(PART_MARK);
        let before = items.len();
        let mut sizes = Vec::with_capacity(before);
        for item in &mut items {
            let size = text_len(item)?;
            sizes.push(if size > budget && cut(item, budget)? { text_len(item)? } else { size });
        }
        let (items, sizes): (Vec<_>, Vec<_>) = items.into_iter().zip(sizes).filter(|(_, size)| *size <= budget).unzip();
        let lost = u64::try_from(before - items.len()).unwrap_or(u64::MAX);
        let mut parts = group(items, &sizes, room);
        let count = parts.len();
        if count > 1 {
            for (number, part) in parts.iter_mut().enumerate() {
                for item in part {
                    detail(item, "Part", (number + 1).to_string());
                    detail(item, "Parts", count.to_string());
                }
            }
        }
        let mut bodies = Vec::with_capacity(count);
        for part in parts {
            let mut event = empty.clone();
            if let Some(members) = event.as_object_mut() {
                members.insert("Id".to_owned(), Value::String(EventId::random().to_string()));
            }
            fill(&mut event, part);
            bodies.push(serde_json::to_string(&event)?);
        }
        Ok(Fitted { bodies, lost })
    }

    /// Shortens an item until an event of this name with `reserve` bytes more takes it; `false` if that cannot be.
    ///
    /// # Errors
    /// As [`Event::to_value`].
    pub(super) fn trim(
        &self,
        name: EventName,
        at: Timestamp,
        item: &mut Value,
        reserve: usize,
    ) -> Result<bool, serde_json::Error> {
        let room = self.room(&self.envelope(name, at)?)?;
        cut(item, room.saturating_sub(PART_MARK + reserve))
    }

    /// An event without items.
    fn envelope(&self, name: EventName, at: Timestamp) -> Result<Value, serde_json::Error> {
        Event { id: EventId::random(), name, at, payload: Vec::new(), hits: 0 }.to_value(&self.zone)
    }

    /// The bytes that an event has for its items and the commas between them.
    fn room(&self, empty: &Value) -> Result<usize, serde_json::Error> {
        // `IsEmpty` becomes `false` as soon as there is an item: one byte more than `true`.
        Ok(self.max_event.saturating_sub(text_len(empty)? + 1))
    }
}

/// Adds one entry to the `ExtraDetails` of an item.
pub(super) fn detail(item: &mut Value, key: &str, value: String) {
    let Some(fields) = item.as_object_mut() else { return };
    let details = fields.entry(EXTRA_DETAILS).or_insert_with(|| Value::Object(Map::new()));
    if let Some(details) = details.as_object_mut() {
        details.insert(key.to_owned(), Value::String(value));
    }
}

fn text_len(value: &Value) -> Result<usize, serde_json::Error> {
    Ok(serde_json::to_string(value)?.len())
}

/// Gives an event these items, and hands back those it had.
fn fill(event: &mut Value, items: Vec<Value>) -> Vec<Value> {
    let Some(members) = event.as_object_mut() else { return items };
    members.insert("IsEmpty".to_owned(), Value::Bool(items.is_empty()));
    match members.insert("Payload".to_owned(), Value::Array(items)) {
        Some(Value::Array(before)) => before,
        _ => Vec::new(),
    }
}

/// Groups items in their order, each group as large as `room` allows once its items carry their part.
fn group(items: Vec<Value>, sizes: &[usize], room: usize) -> Vec<Vec<Value>> {
    let mut parts: Vec<Vec<Value>> = Vec::new();
    let mut used = 0;
    for (item, size) in items.into_iter().zip(sizes) {
        let cost = size + PART_MARK + 1;
        match parts.last_mut() {
            // The first item of a part has no comma before it.
            Some(part) if used + cost <= room + 1 => {
                part.push(item);
                used += cost;
            }
            _ => {
                parts.push(vec![item]);
                used = cost;
            }
        }
    }
    parts
}

/// Shortens the longest texts of an item until it has at most `budget` bytes; `false` if that cannot be.
fn cut(item: &mut Value, budget: usize) -> Result<bool, serde_json::Error> {
    while text_len(item)? > budget {
        // Each round either reaches the budget or makes one more text short, so the rounds are bounded by the texts.
        let Some((field, length)) = longest(item) else { return Ok(false) };
        let mark = format!("Truncated.{field}");
        if !has_detail(item, &mark) {
            detail(item, &mark, length.to_string());
        }
        let excess = text_len(item)?.saturating_sub(budget);
        if let Some(Value::String(text)) = text_mut(item, &field) {
            let keep = encoded_len(text).saturating_sub(excess).max(SHORT_TEXT);
            text.truncate(prefix(text, keep));
        }
    }
    Ok(true)
}

/// The text of an item that takes most bytes in JSON, as `Field` or `ExtraDetails.Key`, and its length in bytes. `None`
/// if all are short.
fn longest(item: &Value) -> Option<(String, usize)> {
    let fields = item.as_object()?;
    let own = fields.iter().map(|(key, value)| (key.clone(), value));
    let details = fields.get(EXTRA_DETAILS).and_then(Value::as_object);
    let details = details.into_iter().flatten().map(|(key, value)| (format!("{EXTRA_DETAILS}.{key}"), value));
    own.chain(details)
        .filter_map(|(key, value)| value.as_str().map(|text| (key, text)))
        .map(|(key, text)| (encoded_len(text), key, text.len()))
        .filter(|(encoded, ..)| *encoded > SHORT_TEXT)
        .max_by_key(|(encoded, ..)| *encoded)
        .map(|(_, key, length)| (key, length))
}

fn has_detail(item: &Value, key: &str) -> bool {
    item.get(EXTRA_DETAILS).and_then(|details| details.get(key)).is_some()
}

fn text_mut<'a>(item: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    match field.strip_prefix(EXTRA_DETAILS).and_then(|rest| rest.strip_prefix('.')) {
        Some(key) => item.get_mut(EXTRA_DETAILS)?.get_mut(key),
        None => item.get_mut(field),
    }
}

/// The bytes of a character in a JSON text, as serde_json escapes it.
fn encoded_char(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

fn encoded_len(text: &str) -> usize {
    text.chars().map(encoded_char).sum()
}

/// The length of the longest prefix that takes at most `budget` bytes in JSON.
fn prefix(text: &str, budget: usize) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += encoded_char(c);
        if used > budget {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn writer(max_event: usize) -> Writer {
        Writer { zone: TimeZone::UTC, max_event }
    }

    fn at() -> Timestamp {
        Timestamp::trusted("2026-11-22T09:30:00Z".parse().unwrap())
    }

    #[test]
    fn limits_leave_room_for_root_and_properties() {
        let mut config = AgentConfig::default();
        assert_eq!(max_body(&config), 204_800);
        let root = MessageRoot::new("10.20.30-longer.than.usual", AgentId::random());
        assert!(root.body_len(1, max_event(&config)) <= max_body(&config));
        config.max_message_size = crate::model::units::ByteSize::bytes(u64::MAX);
        assert_eq!(max_body(&config), 262_144 - 2048);
        config.max_message_size = crate::model::units::ByteSize::bytes(0);
        assert_eq!(max_event(&config), 0);
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let item = json!({"CommandLine": "x".repeat(5000), "Executable": "/bin/sh", "ExtraDetails": {"A": "b"}});
        let fitted = writer(1000).write(EventName::ProcessCreate, at(), vec![item]).unwrap();
        assert_eq!((fitted.bodies.len(), fitted.lost), (1, 0));
        assert!(fitted.bodies[0].len() <= 1000);
        let event: Value = serde_json::from_str(&fitted.bodies[0]).unwrap();
        let item = &event["Payload"][0];
        assert_eq!(item["ExtraDetails"]["Truncated.CommandLine"], "5000");
        assert_eq!(item["ExtraDetails"]["A"], "b");
        assert_eq!(item["Executable"], "/bin/sh");
        assert!(item["CommandLine"].as_str().unwrap().len() > 400);
    }

    #[test]
    fn an_item_of_many_short_texts_is_lost_and_the_others_go() {
        let details: Map<String, Value> = (0..200).map(|n| (format!("Key{n}"), json!("short"))).collect();
        let items = vec![json!({"A": "1"}), json!({"ExtraDetails": details}), json!({"A": "2"})];
        let fitted = writer(600).write(EventName::ListeningPorts, at(), items).unwrap();
        assert_eq!((fitted.bodies.len(), fitted.lost), (1, 1));
        let event: Value = serde_json::from_str(&fitted.bodies[0]).unwrap();
        assert_eq!(event["Payload"], json!([{"A": "1"}, {"A": "2"}]));
    }

    #[test]
    fn every_ascii_character_is_counted_as_it_is_written() {
        for c in '\0'..='\u{7f}' {
            assert_eq!(encoded_char(c) + 2, serde_json::to_string(&c).unwrap().len(), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn escapes_are_counted_as_they_are_written(text in any::<String>()) {
            prop_assert_eq!(encoded_len(&text) + 2, serde_json::to_string(&text).unwrap().len());
        }

        #[test]
        fn every_part_fits_and_no_item_is_lost(
            sizes in prop::collection::vec(0_usize..900, 0..60), max in 500_usize..3000, odd in any::<char>(),
        ) {
            let items: Vec<Value> = sizes.iter().enumerate()
                .map(|(n, size)| json!({"N": n, "Text": odd.to_string().repeat(*size)})).collect();
            let fitted = writer(max).write(EventName::ListeningPorts, at(), items).unwrap();
            prop_assert_eq!(fitted.lost, 0);
            let mut next = 0;
            let parts = fitted.bodies.len();
            for (number, body) in fitted.bodies.iter().enumerate() {
                prop_assert!(body.len() <= max, "{} > {}", body.len(), max);
                let event: Value = serde_json::from_str(body).unwrap();
                prop_assert_eq!(event["IsEmpty"].as_bool(), Some(sizes.is_empty()));
                for item in event["Payload"].as_array().unwrap() {
                    prop_assert_eq!(item["N"].as_u64(), Some(next));
                    next += 1;
                    if parts > 1 {
                        prop_assert_eq!(&item["ExtraDetails"]["Part"], &json!((number + 1).to_string()));
                        prop_assert_eq!(&item["ExtraDetails"]["Parts"], &json!(parts.to_string()));
                    }
                }
            }
            prop_assert_eq!(next, sizes.len() as u64);
        }
    }
}

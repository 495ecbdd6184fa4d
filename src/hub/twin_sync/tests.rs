//! Tests of the twin exchange.

use serde_json::json;

use super::*;

mod notices;
mod reports;

fn at(seconds: u64) -> Mono {
    ms(seconds * 1000)
}

fn ms(millis: u64) -> Mono {
    Mono::from_boot(Duration::from_millis(millis))
}

fn map(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("not an object: {value}") };
    map
}

fn twin(version: u64, desired: Value, reported: &Value) -> Vec<u8> {
    let mut desired = map(desired);
    desired.insert("$version".into(), version.into());
    json!({"desired": desired, "reported": reported}).to_string().into_bytes()
}

/// The machine with what it did last.
struct Bench {
    sync: TwinSync,
    out: Vec<TwinAction>,
}

impl Bench {
    /// Connected and with the first GET sent, as `$rid` 1.
    fn new() -> Self {
        let mut bench = Self { sync: TwinSync::new(1), out: Vec::new() };
        bench.sync.connected(at(0));
        assert_eq!(bench.tick(0), [TwinAction::Get { rid: 1 }]);
        bench
    }

    /// With a twin at version 1 and these reported properties.
    fn with_twin(reported: &Value) -> Self {
        let mut bench = Self::new();
        bench.answer(0, 1, 200, &twin(1, json!({"a": 1}), reported));
        assert_eq!(bench.tick(0), []);
        bench
    }

    fn tick(&mut self, seconds: u64) -> Vec<TwinAction> {
        self.tick_ms(seconds * 1000)
    }

    fn tick_ms(&mut self, millis: u64) -> Vec<TwinAction> {
        self.sync.tick(ms(millis), false, &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn answer(&mut self, seconds: u64, rid: u32, status: u16, payload: &[u8]) -> Vec<TwinAction> {
        self.sync.answer(at(seconds), rid, status, payload, &mut self.out);
        std::mem::take(&mut self.out)
    }

    /// What is done at once.
    fn notice(&mut self, seconds: u64, payload: &Value) -> Vec<TwinAction> {
        self.sync.notice(at(seconds), payload.to_string().as_bytes(), None);
        self.tick(seconds)
    }

    fn disconnect(&mut self, seconds: u64) -> Vec<TwinAction> {
        self.sync.disconnected(at(seconds), &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn deadline(&self) -> u64 {
        self.deadline_ms() / 1000
    }

    fn deadline_ms(&self) -> u64 {
        u64::try_from(self.sync.deadline().unwrap().since_boot().as_millis()).unwrap()
    }
}

fn desired(section: Value, version: u64) -> TwinAction {
    TwinAction::Event(FromHub::Desired { section: map(section), version })
}

fn failed(status: u16, detail: &str) -> TwinAction {
    TwinAction::Event(FromHub::Reported { ok: false, status, detail: detail.into() })
}

#[test]
fn each_connection_begins_with_a_get_and_announces_the_twin() {
    let mut bench = Bench::new();
    assert!(!bench.sync.tried());
    assert_eq!(bench.answer(1, 7, 200, &twin(9, json!({}), &json!({}))), [], "nobody asked with 7");
    assert_eq!(bench.answer(1, 1, 200, &twin(1, json!({"a": 1}), &json!({}))), [desired(json!({"a": 1}), 1)]);
    assert!(bench.sync.tried());
    bench.disconnect(2);
    assert_eq!((bench.tick(100), bench.sync.deadline()), (vec![], None));
    bench.sync.connected(at(200));
    assert_eq!(bench.tick(200), [TwinAction::Get { rid: 2 }]);
    assert_eq!(bench.answer(200, 1, 200, b"late"), [], "an answer to the old connection");
    assert_eq!(bench.answer(201, 2, 200, &twin(1, json!({"a": 1}), &json!({}))), [desired(json!({"a": 1}), 1)]);
}

#[test]
fn a_refused_silent_or_broken_get_is_repeated_with_growing_waits() {
    let mut bench = Bench::new();
    let problem = |text: &str| TwinAction::Event(FromHub::TwinUnavailable(text.into()));
    let body = b"{\"errorCode\":429001}";
    assert_eq!(bench.answer(1, 1, 429, body), [problem("twin GET: status 429 {\"errorCode\":429001}")]);
    assert!(bench.sync.tried(), "messages do not wait for a twin that does not come");
    assert_eq!(bench.tick(1), []);
    let again = bench.deadline();
    assert!((3..=5).contains(&again), "{again}");
    assert_eq!(bench.tick(10), [TwinAction::Get { rid: 2 }]);
    assert_eq!(bench.deadline(), 70);
    assert_eq!(bench.tick(69), []);
    assert_eq!(bench.tick(70), [problem("twin GET: no answer within 60 s")]);
    assert_eq!(bench.tick(80), [TwinAction::Get { rid: 3 }]);
    assert_eq!(bench.answer(80, 2, 200, &twin(1, json!({}), &json!({}))), [], "too late");
    assert!(matches!(bench.answer(81, 3, 200, b"[]")[..], [TwinAction::Event(FromHub::TwinUnreadable(_))]));
    assert_eq!(bench.tick(100), [TwinAction::Get { rid: 4 }]);
    assert_eq!(bench.answer(100, 4, 200, &twin(1, json!({}), &json!({}))), [desired(json!({}), 1)]);
}

#[test]
fn messages_wait_ten_seconds_for_a_silent_get_and_it_goes_on() {
    let mut bench = Bench::new();
    assert_eq!(bench.deadline(), 10);
    assert_eq!(bench.tick(9), []);
    assert!(!bench.sync.tried());
    assert_eq!(bench.tick(10), []);
    assert!(bench.sync.tried());
    assert_eq!(bench.deadline(), 60, "the answer may still come");
    assert_eq!(bench.answer(30, 1, 200, &twin(1, json!({"a": 1}), &json!({}))), [desired(json!({"a": 1}), 1)]);
    bench.sync.connected(at(40));
    assert!(!bench.sync.tried(), "each connection asks first");
}

#[test]
fn error_bodies_are_short_and_on_one_line() {
    assert_eq!(detail("ä".repeat(500).as_bytes()).chars().count(), 100);
    assert_eq!(detail(b"\x1b[31m\r\nx\0"), "[31m  x");
}

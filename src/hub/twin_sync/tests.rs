//! Tests of the twin exchange.

use serde_json::json;

use super::*;

fn at(seconds: u64) -> Mono {
    Mono::from_boot(Duration::from_secs(seconds))
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
        self.sync.tick(at(seconds), false, &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn answer(&mut self, seconds: u64, rid: u32, status: u16, payload: &[u8]) -> Vec<TwinAction> {
        self.sync.answer(at(seconds), rid, status, payload, &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn notice(&mut self, seconds: u64, payload: &Value) -> Vec<TwinAction> {
        self.sync.notice(at(seconds), payload.to_string().as_bytes(), None, &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn disconnect(&mut self, seconds: u64) -> Vec<TwinAction> {
        self.sync.disconnected(at(seconds), &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn deadline(&self) -> u64 {
        self.sync.deadline().unwrap().since_boot().as_secs()
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
fn a_change_is_announced_at_once_and_confirmed_later() {
    let mut bench = Bench::with_twin(&json!({}));
    assert_eq!(bench.notice(100, &json!({"b": 2, "$version": 2})), [desired(json!({"a": 1, "b": 2}), 2)]);
    assert_eq!(bench.tick(100), []);
    assert_eq!(bench.deadline(), 105);
    assert_eq!(bench.tick(105), [TwinAction::Get { rid: 2 }]);
    assert_eq!(bench.answer(105, 2, 200, &twin(2, json!({"b": 2}), &json!({}))), [desired(json!({"b": 2}), 2)]);
    assert_eq!(bench.notice(200, &json!({"b": 3, "$version": 3})).len(), 1);
    bench.tick(205);
    assert_eq!(bench.answer(205, 3, 200, &twin(3, json!({"b": 3}), &json!({}))), [], "nothing new");
}

#[test]
fn of_a_burst_the_first_is_announced_at_once_and_the_last_half_a_second_later() {
    let at = |ms: u64| Mono::from_boot(Duration::from_millis(ms));
    let mut bench = Bench::with_twin(&json!({}));
    assert_eq!(bench.notice(100, &json!({"b": 2, "$version": 2})), [desired(json!({"a": 1, "b": 2}), 2)]);
    for version in 3..1000_u64 {
        let patch = json!({"b": version, "$version": version}).to_string();
        bench.sync.notice(at(100_000 + version / 3), patch.as_bytes(), None, &mut bench.out);
        bench.sync.tick(at(100_000 + version / 3), false, &mut bench.out);
    }
    assert_eq!(bench.out, []);
    assert_eq!(bench.sync.deadline(), Some(at(100_500)));
    bench.sync.tick(at(100_500), false, &mut bench.out);
    assert_eq!(bench.out, [desired(json!({"a": 1, "b": 999}), 999)]);
    bench.out.clear();
    assert_eq!(bench.notice(102, &json!({"b": 0, "$version": 1000})), [desired(json!({"a": 1, "b": 0}), 1000)]);
}

#[test]
fn what_was_told_before_a_cut_is_announced_at_the_cut() {
    let mut bench = Bench::with_twin(&json!({}));
    bench.notice(100, &json!({"b": 2, "$version": 2}));
    assert_eq!(bench.notice(100, &json!({"b": 3, "$version": 3})), []);
    assert_eq!(bench.disconnect(100), [desired(json!({"a": 1, "b": 3}), 3)]);
    assert_eq!(bench.disconnect(101), []);
}

#[test]
fn a_notice_that_came_while_asking_is_confirmed_like_any_other() {
    let mut bench = Bench::new();
    assert_eq!(bench.notice(1, &json!({"b": 2, "$version": 2})), []);
    let answer = twin(1, json!({"a": 1}), &json!({}));
    assert_eq!(bench.answer(1, 1, 200, &answer), [desired(json!({"a": 1, "b": 2}), 2)]);
    assert_eq!(bench.tick(1), []);
    assert_eq!(bench.deadline(), 6);
    assert_eq!(bench.tick(6), [TwinAction::Get { rid: 2 }]);
    // The notice was of a replacement.
    assert_eq!(bench.answer(6, 2, 200, &twin(2, json!({"b": 2}), &json!({}))), [desired(json!({"b": 2}), 2)]);
}

#[test]
fn a_gap_asks_but_never_in_a_hot_loop() {
    let mut bench = Bench::with_twin(&json!({}));
    for _ in 0..10 {
        assert_eq!(bench.notice(1, &json!({"$version": 50})), []);
        assert_eq!(bench.tick(1), []);
    }
    assert_eq!(bench.deadline(), 5);
    assert_eq!(bench.tick(5), [TwinAction::Get { rid: 2 }]);
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
fn only_the_latest_difference_is_reported() {
    let mut bench = Bench::with_twin(&json!({"conf": {"a": 1, "old": 1}, "foreign": 1}));
    bench.sync.want(map(json!({"conf": {"a": 0}})));
    bench.sync.want(map(json!({"conf": {"a": 2}})));
    assert!(!bench.sync.settled());
    let patch = r#"{"conf":{"a":2,"old":null}}"#;
    assert_eq!(bench.tick(1), [TwinAction::Report { rid: 2, patch: patch.into() }]);
    bench.sync.want(map(json!({"conf": {"a": 3}})));
    assert_eq!(bench.tick(2), [], "one at a time");
    let ok = TwinAction::Event(FromHub::Reported { ok: true, status: 204, detail: String::new() });
    assert_eq!(bench.answer(3, 2, 204, b""), [ok]);
    assert_eq!(bench.tick(3), [TwinAction::Report { rid: 3, patch: r#"{"conf":{"a":3}}"#.into() }]);
    bench.answer(4, 3, 204, b"");
    assert_eq!(bench.tick(4), []);
    assert!(bench.sync.settled());
    bench.sync.want(map(json!({"conf": {"a": 3}})));
    assert_eq!(bench.tick(5), [], "nothing differs");
}

#[test]
fn reports_wait_for_the_first_get_and_are_compared_after_each() {
    let mut bench = Bench::new();
    bench.sync.want(map(json!({"conf": {"a": 1}})));
    assert_eq!(bench.tick(1), []);
    assert!(bench.sync.settled(), "without the hub's side nothing can be reported");
    bench.answer(1, 1, 200, &twin(1, json!({}), &json!({"conf": {"a": 1}})));
    assert_eq!(bench.tick(1), []);
    bench.disconnect(1);
    bench.sync.connected(at(100));
    assert_eq!(bench.tick(100), [TwinAction::Get { rid: 2 }]);
    bench.answer(100, 2, 200, &twin(1, json!({}), &json!({})));
    assert_eq!(bench.tick(100), [TwinAction::Report { rid: 3, patch: r#"{"conf":{"a":1}}"#.into() }]);
}

#[test]
fn a_malformed_report_is_dropped_and_a_throttled_one_repeated() {
    let mut bench = Bench::with_twin(&json!({}));
    bench.sync.want(map(json!({"conf": {"a": 1}})));
    bench.tick(1);
    assert_eq!(bench.answer(1, 2, 400, b"bad\nname"), [failed(400, "bad name")]);
    assert_eq!((bench.tick(1), bench.sync.deadline()), (vec![], None));
    bench.sync.want(map(json!({"conf": {"a": 2}})));
    bench.tick(2);
    assert_eq!(bench.answer(2, 3, 429, b""), [failed(429, "")]);
    assert_eq!(bench.tick(2), []);
    assert!((4..=6).contains(&bench.deadline()));
    assert_eq!(bench.tick(6), [TwinAction::Report { rid: 4, patch: r#"{"conf":{"a":2}}"#.into() }]);
}

#[test]
fn an_unanswered_report_looks_first_and_then_repeats() {
    let mut bench = Bench::with_twin(&json!({}));
    bench.sync.want(map(json!({"conf": {"a": 1}})));
    bench.tick(10);
    assert_eq!(bench.tick(70), [failed(0, "no answer within 60 s")]);
    let get = bench.deadline();
    assert_eq!(bench.tick(get + 1), [TwinAction::Get { rid: 3 }]);
    bench.answer(get + 1, 3, 200, &twin(1, json!({"a": 1}), &json!({"conf": {"a": 1}})));
    assert_eq!(bench.tick(get + 30), [], "it had been taken");
}

#[test]
fn the_last_words_are_reports() {
    let mut bench = Bench::with_twin(&json!({}));
    bench.notice(1, &json!({"$version": 9}));
    bench.sync.want(map(json!({"conf": {"a": 1}})));
    bench.sync.tick(at(50), true, &mut bench.out);
    assert!(matches!(bench.out[..], [TwinAction::Report { rid: 2, .. }]));
    assert!(!bench.sync.settled());
}

#[test]
fn error_bodies_are_short_and_on_one_line() {
    assert_eq!(detail("ä".repeat(500).as_bytes()).chars().count(), 100);
    assert_eq!(detail(b"\x1b[31m\r\nx\0"), "[31m  x");
}

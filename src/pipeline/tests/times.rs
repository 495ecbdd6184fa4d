//! Times on the wire when the clock or the zone is not what one would wish.

use proptest::prelude::*;

use super::*;

fn wall(text: &str, trusted: bool) -> Timestamp {
    Timestamp { utc: text.parse().unwrap(), trusted }
}

fn seen_at(at: Timestamp) -> Observation {
    Observation { at, ..seen("id", 0) }
}

fn event(change: &Change) -> Value {
    let body = event_body(change);
    assert_valid(&[body]);
    serde_json::from_str(body).unwrap()
}

/// `TimeTrusted` of each item of an event.
fn marks(change: &Change) -> Vec<Option<String>> {
    let event = event(change);
    let items = event["Payload"].as_array().unwrap().iter();
    items.map(|item| item["ExtraDetails"]["TimeTrusted"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_time_that_is_not_trusted_is_marked_on_each_item() {
    let marked = || Some("false".to_owned());
    let mut pipeline = pipeline(&config(Priority::Low, None, PLAIN));
    for (trusted, mark) in [(true, None), (false, marked())] {
        let at = Timestamp { trusted, ..time(0) };
        assert_eq!(marks(&pipeline.observe(vec![seen_at(at)], now(0))[0]), vec![mark.clone(); 1]);
        assert_eq!(marks(&pipeline.snapshot(Snapshot { at, ..ports(3) }, now(0))[0]), vec![mark; 3]);
        assert!(marks(&pipeline.snapshot(Snapshot { at, ..ports(0) }, now(0))[0]).is_empty());
    }
}

#[test]
fn each_kind_of_event_has_the_time_that_it_is_about() {
    let mut pipeline = pipeline(&config(Priority::Low, None, PLAIN));
    let seen = event(&pipeline.observe(vec![seen("id", 5)], now(9))[0]);
    assert_eq!(seen["TimestampUTC"], time(5).utc_text(), "when it happened");
    let taken = event(&pipeline.snapshot(Snapshot { at: time(6), ..ports(2) }, now(9))[0]);
    assert_eq!(taken["TimestampUTC"], time(6).utc_text(), "when it was taken");
    pipeline.configure(&config(Priority::Low, Some(60), PLAIN), now(9));
    pipeline.observe(vec![self::seen("id", 7)], now(9));
    let closed = event(&pipeline.tick(now(69))[0]);
    assert_eq!(closed["TimestampUTC"], time(69).utc_text(), "when it was closed");
    for event in [seen, taken, closed] {
        let [utc, local] = ["TimestampUTC", "TimestampLocal"].map(|key| event[key].as_str().unwrap());
        assert_eq!(utc.parse::<jiff::Timestamp>().unwrap(), local.parse().unwrap());
    }
}

#[test]
fn the_mark_of_a_snapshot_in_parts_is_on_each_part() {
    let mut pipeline = pipeline(&config(Priority::Low, None, 8192));
    let parts = pipeline.snapshot(Snapshot { at: Timestamp { trusted: false, ..time(0) }, ..ports(200) }, now(0));
    assert!(parts.len() > 3);
    assert!(parts.iter().flat_map(marks).all(|mark| mark.as_deref() == Some("false")));
}

#[test]
fn an_aggregate_is_marked_if_one_of_its_times_is_not_trusted() {
    let of = |trusted: bool, second: u64| Timestamp { trusted, ..time(second) };
    for (first, last, closed) in [(true, true, true), (false, true, true), (true, false, true), (true, true, false)] {
        let mut pipeline = pipeline(&config(Priority::Low, Some(60), PLAIN));
        pipeline.observe(vec![seen_at(of(first, 1)), seen_at(of(last, 2))], now(2));
        let changes = pipeline.flush(Now { wall: of(closed, 3), ..now(3) });
        let mark = (!(first && last && closed)).then(|| "false".to_owned());
        assert_eq!(marks(&changes[0]), [mark]);
    }
}

/// A board starts in 1970 and is set later; the window goes by the clock that never leaps.
#[test]
fn a_clock_that_is_set_ends_no_window_and_loses_nothing() {
    let mut pipeline = pipeline(&config(Priority::Low, Some(60), PLAIN));
    let mut books = Books::default();
    let mono = |second| now(second).mono;
    let then = |second: u64, text: &str, trusted: bool| Now { wall: wall(text, trusted), mono: mono(second) };
    for (second, text, trusted) in [
        (0, "1970-01-01T00:00:30Z", false),
        // Forward, back and forward again.
        (10, "2026-11-22T09:30:00Z", true),
        (20, "2026-11-22T08:30:00Z", true),
        (30, "2026-11-22T09:30:20Z", true),
    ] {
        let now = then(second, text, trusted);
        books.apply(&pipeline.observe(vec![seen_at(now.wall)], now));
        assert_eq!(pipeline.tick(now), []);
        assert_eq!(pipeline.next_deadline(), Some(mono(60)));
    }
    let closed = pipeline.tick(then(60, "2026-11-22T09:30:50Z", true));
    books.apply(&closed);
    let details = event(&closed[0])["Payload"][0]["ExtraDetails"].take();
    assert_eq!((books.collected(), details["HitCount"].as_str()), (4, Some("4")));
    assert_eq!(details["StartTimeUtc"], "1970-01-01T00:00:30.000Z");
    assert_eq!(details["EndTimeUtc"], "2026-11-22T09:30:20.000Z");
    assert_eq!(details["TimeTrusted"], "false");
}

/// From 2:59 to 2:01 in local time, and yet two minutes later: the offset tells.
#[test]
fn an_aggregate_over_the_repeated_hour_keeps_its_order() {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let mut pipeline = Pipeline::new(&config(Priority::Low, Some(3600), PLAIN), zone, now(0));
    let (first, last) = (wall("2026-10-25T00:59:00Z", true), wall("2026-10-25T01:01:00Z", true));
    pipeline.observe(vec![seen_at(first), seen_at(last)], now(0));
    let details = event(&pipeline.flush(Now { wall: last, ..now(1) })[0])["Payload"][0]["ExtraDetails"].take();
    assert_eq!(details["StartTimeLocal"], "2026-10-25T02:59:00.000+02:00");
    assert_eq!(details["EndTimeLocal"], "2026-10-25T02:01:00.000+01:00");
}

#[test]
fn a_changed_zone_is_in_all_that_is_written_from_then_on() {
    let mut pipeline = pipeline(&config(Priority::Low, Some(60), PLAIN));
    pipeline.observe(vec![seen("id", 0)], now(0));
    pipeline.set_zone(TimeZone::posix("IST-5:30").unwrap());
    let event = event(&pipeline.flush(now(1))[0]);
    assert_eq!(event["TimestampLocal"], "2026-11-22T15:03:21.000+05:30");
    assert_eq!(event["TimestampUTC"], "2026-11-22T09:33:21.000Z");
    assert_eq!(event["Payload"][0]["ExtraDetails"]["StartTimeLocal"], "2026-11-22T15:03:20.000+05:30");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever the wall clock leaps: no hit is lost, no window ends early or late, and the first time is not after
    /// the last.
    #[test]
    fn leaps_of_the_wall_clock_do_no_harm(
        steps in prop::collection::vec((0_u64..40, 0_i64..9_000_000_000, any::<bool>()), 1..30),
    ) {
        let mut pipeline = pipeline(&config(Priority::Low, Some(60), PLAIN));
        let (mut books, mut elapsed, mut opened) = (Books::default(), 0, None);
        let mut last = now(0);
        for (wait, unix, trusted) in &steps {
            elapsed += wait;
            let utc = jiff::Timestamp::from_second(*unix).unwrap();
            last = Now { wall: Timestamp { utc, trusted: *trusted }, mono: now(elapsed).mono };
            let closed = pipeline.tick(last);
            prop_assert_eq!(!closed.is_empty(), opened.is_some_and(|opened| elapsed >= opened + 60));
            if !closed.is_empty() {
                opened = None;
            }
            opened = opened.or(Some(elapsed));
            books.apply(&closed);
            books.apply(&pipeline.observe(vec![seen_at(last.wall)], last));
        }
        books.apply(&pipeline.flush(last));
        prop_assert_eq!(books.events.iter().map(|event| event.hits).sum::<u64>(), steps.len() as u64);
        for stored in &books.events {
            assert_valid(&[&stored.body]);
            let event: Value = serde_json::from_str(&stored.body).unwrap();
            let details = &event["Payload"][0]["ExtraDetails"];
            let moment = |key: &str| details[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
            prop_assert!(moment("StartTimeUtc") <= moment("EndTimeUtc"));
            prop_assert_eq!(moment("StartTimeUtc"), moment("StartTimeLocal"));
            prop_assert_eq!(moment("EndTimeUtc"), moment("EndTimeLocal"));
        }
    }
}

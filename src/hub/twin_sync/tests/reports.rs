//! What is reported, and when again.

use super::*;

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
    bench.sync.notice(at(1), br#"{"$version":9}"#, None);
    bench.sync.want(map(json!({"conf": {"a": 1}})));
    bench.sync.tick(at(50), true, &mut bench.out);
    assert!(matches!(bench.out[..], [TwinAction::Report { rid: 2, .. }]));
    assert!(!bench.sync.settled());
}

#[test]
fn what_the_hub_puts_off_is_tried_again_with_growing_pauses_and_what_it_refuses_is_not() {
    // Seconds from an answer to the next attempt: half of the ceiling to the ceiling.
    const PAUSES: [(u64, u64); 6] = [(2, 4), (4, 8), (8, 16), (16, 32), (30, 60), (30, 60)];
    for (status, again) in [(400, false), (413, false), (429, true), (412, true), (500, true), (503, true), (599, true)]
    {
        let mut bench = Bench::with_twin(&json!({}));
        bench.sync.want(map(json!({"conf": {"a": 1}})));
        let patch = r#"{"conf":{"a":1}}"#;
        let (mut rid, mut now) = (2, 10_000);
        assert_eq!(bench.tick_ms(now), [TwinAction::Report { rid, patch: patch.into() }]);
        for (failures, (least, most)) in PAUSES.into_iter().enumerate() {
            bench.sync.answer(ms(now), rid, status, b"why", &mut bench.out);
            assert_eq!(std::mem::take(&mut bench.out), [failed(status, "why")], "{status}");
            assert_eq!(bench.tick_ms(now), [], "{status}: never at once");
            if !again {
                assert_eq!((bench.sync.deadline(), bench.sync.settled()), (None, true), "{status}");
                // Nor is it later, or after the next look at the twin, until something else is wanted.
                assert_eq!(bench.tick(100_000), []);
                assert_eq!(bench.notice(100_001, &json!({"$version": 50})), [TwinAction::Get { rid: 3 }]);
                bench.answer(100_002, 3, 200, &twin(50, json!({"a": 1}), &json!({})));
                assert_eq!(bench.tick(100_003), [], "{status}");
                bench.sync.want(map(json!({"conf": {"a": 2}})));
                assert!(matches!(bench.tick(100_004)[..], [TwinAction::Report { .. }]), "{status}");
                break;
            }
            let next = bench.deadline_ms();
            let pause = next - now;
            assert!((least * 1000..=most * 1000).contains(&pause), "{status}, failure {failures}: {pause} ms");
            assert_eq!(bench.tick_ms(next - 1), [], "{status}, failure {failures}");
            now = next;
            let mut actions = bench.tick_ms(now);
            if status != 429 {
                // It may have been taken nevertheless.
                assert_eq!(actions, [TwinAction::Get { rid: rid + 1 }], "{status}, failure {failures}");
                rid += 1;
                let unchanged = twin(1, json!({"a": 1}), &json!({}));
                bench.sync.answer(ms(now), rid, 200, &unchanged, &mut bench.out);
                actions = bench.tick_ms(now);
            }
            rid += 1;
            assert_eq!(actions, [TwinAction::Report { rid, patch: patch.into() }], "{status}, failure {failures}");
        }
        if again {
            // A success begins anew.
            bench.sync.answer(ms(now), rid, 204, b"", &mut bench.out);
            bench.out.clear();
            bench.sync.want(map(json!({"conf": {"a": 2}})));
            assert_eq!(bench.tick_ms(now).len(), 1);
            bench.sync.answer(ms(now), rid + 1, status, b"", &mut bench.out);
            let pause = bench.deadline_ms() - now;
            assert!((2000..=4000).contains(&pause), "{status}: {pause} ms");
        }
    }
}

#[test]
fn what_is_wrong_with_desired_can_be_reported_from_the_first_answer_on() {
    let mut bench = Bench::new();
    bench.sync.want(map(json!({"conf": {"a": 1}})));
    let large = "x".repeat(70_000);
    let answer =
        format!("{{\"desired\":{{\"large\":\"{large}\",\"$version\":1}},\"reported\":{{\"conf\":{{\"b\":1}}}}}}");
    let [TwinAction::Event(FromHub::TwinUnreadable(why))] = &bench.answer(0, 1, 200, answer.as_bytes())[..] else {
        panic!("not told")
    };
    assert!(why.contains("65536"), "{why}");
    assert_eq!(bench.tick(0), [TwinAction::Report { rid: 2, patch: r#"{"conf":{"a":1,"b":null}}"#.into() }]);
}

#[test]
fn a_reported_section_that_cannot_be_read_stops_reports_and_nothing_else() {
    let mut bench = Bench::new();
    bench.sync.want(map(json!({"conf": {"a": 1}})));
    let answer = br#"{"desired":{"a":1,"$version":1},"reported":[]}"#;
    let actions = bench.answer(0, 1, 200, answer);
    let [announced, TwinAction::Event(FromHub::TwinUnavailable(why))] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(announced, &desired(json!({"a": 1}), 1));
    assert_eq!(why, "twin GET: nothing can be reported: the twin lacks the object \"reported\"");
    assert_eq!(bench.tick(0), []);
    assert_eq!(bench.tick(5), [TwinAction::Get { rid: 2 }], "asked again after a pause");
    assert_eq!(bench.answer(5, 2, 200, &twin(1, json!({"a": 1}), &json!({}))), []);
    assert!(matches!(bench.tick(5)[..], [TwinAction::Report { rid: 3, .. }]));
}

#[test]
fn a_silent_get_holds_no_report_up() {
    let mut bench = Bench::with_twin(&json!({}));
    assert_eq!(bench.notice(10, &json!({"b": 2, "$version": 2})), [TwinAction::Get { rid: 2 }]);
    bench.sync.want(map(json!({"conf": {"a": 1}})));
    assert!(matches!(bench.tick(10)[..], [TwinAction::Report { rid: 3, .. }]));
    assert!(!bench.sync.quiet() && !bench.sync.settled());
    bench.answer(11, 3, 204, b"");
    assert!(!bench.sync.quiet() && bench.sync.settled());
    bench.answer(12, 2, 200, &twin(2, json!({"b": 2}), &json!({"conf": {"a": 1}})));
    assert!(bench.sync.quiet());
    assert_eq!(bench.tick(12), []);
}

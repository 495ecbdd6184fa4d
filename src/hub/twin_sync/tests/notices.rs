//! What becomes of notices: when the twin is asked for, and when it is announced.

use std::collections::VecDeque;

use super::*;

/// A notice, and what is done at once.
fn notice_ms(bench: &mut Bench, millis: u64, payload: &str) -> Vec<TwinAction> {
    bench.sync.notice(ms(millis), payload.as_bytes(), None);
    bench.tick_ms(millis)
}

fn answer_ms(bench: &mut Bench, millis: u64, rid: u32, payload: &[u8]) -> Vec<TwinAction> {
    bench.sync.answer(ms(millis), rid, 200, payload, &mut bench.out);
    bench.tick_ms(millis)
}

#[test]
fn a_change_is_asked_about_at_once_and_announced_whole() {
    let mut bench = Bench::with_twin(&json!({}));
    // The notice of a section that was replaced: it does not say that `a` is gone.
    assert_eq!(notice_ms(&mut bench, 100_000, r#"{"b":2,"$version":2}"#), [TwinAction::Get { rid: 2 }]);
    let answer = twin(2, json!({"b": 2}), &json!({}));
    assert_eq!(answer_ms(&mut bench, 100_080, 2, &answer), [desired(json!({"b": 2}), 2)]);
    assert_eq!(bench.sync.deadline(), None, "all is said");
    // A patch likewise.
    assert_eq!(notice_ms(&mut bench, 200_000, r#"{"c":3,"$version":3}"#), [TwinAction::Get { rid: 3 }]);
    let answer = twin(3, json!({"b": 2, "c": 3}), &json!({}));
    assert_eq!(answer_ms(&mut bench, 200_080, 3, &answer), [desired(json!({"b": 2, "c": 3}), 3)]);
}

#[test]
fn a_change_is_announced_within_a_second_even_if_the_hub_does_not_answer() {
    let mut bench = Bench::with_twin(&json!({}));
    assert_eq!(notice_ms(&mut bench, 100_000, r#"{"b":2,"$version":2}"#), [TwinAction::Get { rid: 2 }]);
    assert_eq!(bench.deadline_ms(), 100_750);
    assert_eq!(bench.tick_ms(100_750), [desired(json!({"a": 1, "b": 2}), 2)]);
    // While the request is under way for ever, each further change is announced as it comes, twice a second at most.
    assert_eq!(notice_ms(&mut bench, 101_000, r#"{"b":3,"$version":3}"#), []);
    assert_eq!(bench.deadline_ms(), 101_250);
    assert_eq!(bench.tick_ms(101_250), [desired(json!({"a": 1, "b": 3}), 3)]);
    let now = notice_ms(&mut bench, 110_000, r#"{"b":4,"$version":4}"#);
    assert_eq!(now, [desired(json!({"a": 1, "b": 4}), 4)]);
    // A late answer corrects it.
    let answer = twin(4, json!({"b": 4}), &json!({}));
    assert_eq!(answer_ms(&mut bench, 120_000, 2, &answer), [desired(json!({"b": 4}), 4)]);
}

#[test]
fn a_change_is_announced_at_once_if_the_hub_refuses_to_answer() {
    let mut bench = Bench::with_twin(&json!({}));
    assert_eq!(notice_ms(&mut bench, 100_000, r#"{"b":2,"$version":2}"#), [TwinAction::Get { rid: 2 }]);
    bench.sync.answer(ms(100_020), 2, 429, b"", &mut bench.out);
    let refused = TwinAction::Event(FromHub::TwinUnavailable("twin GET: status 429 ".into()));
    assert_eq!(bench.tick_ms(100_020), [refused, desired(json!({"a": 1, "b": 2}), 2)]);
    let again = bench.deadline_ms();
    assert!((102_020..=104_020).contains(&again), "{again}");
    // The next one does not hurry the request.
    assert_eq!(notice_ms(&mut bench, 101_000, r#"{"b":3,"$version":3}"#), [desired(json!({"a": 1, "b": 3}), 3)]);
    assert_eq!(bench.deadline_ms(), again);
    assert_eq!(bench.tick_ms(again), [TwinAction::Get { rid: 3 }]);
}

#[test]
fn an_answer_that_is_older_than_the_last_notice_is_asked_about_again() {
    let mut bench = Bench::with_twin(&json!({}));
    assert_eq!(notice_ms(&mut bench, 100_000, r#"{"b":2,"$version":2}"#), [TwinAction::Get { rid: 2 }]);
    assert_eq!(notice_ms(&mut bench, 100_010, r#"{"c":3,"$version":3}"#), []);
    assert_eq!(answer_ms(&mut bench, 100_020, 2, &twin(2, json!({"a": 1, "b": 2}), &json!({}))), []);
    assert_eq!(bench.deadline_ms(), 100_500, "half a second after the one before");
    assert_eq!(bench.tick_ms(100_500), [TwinAction::Get { rid: 3 }]);
    // The last one was a replacement.
    assert_eq!(answer_ms(&mut bench, 100_520, 3, &twin(3, json!({"c": 3}), &json!({}))), [desired(json!({"c": 3}), 3)]);
    assert_eq!(bench.sync.deadline(), None);
}

#[test]
fn what_came_before_the_first_answer_is_announced_with_it() {
    let mut bench = Bench::new();
    assert_eq!(notice_ms(&mut bench, 10, r#"{"b":2,"$version":2}"#), []);
    let older = twin(1, json!({"a": 1}), &json!({}));
    assert_eq!(answer_ms(&mut bench, 20, 1, &older), [], "asked again, for the whole");
    assert_eq!(bench.tick_ms(500), [TwinAction::Get { rid: 2 }]);
    assert_eq!(answer_ms(&mut bench, 520, 2, &twin(2, json!({"b": 2}), &json!({}))), [desired(json!({"b": 2}), 2)]);
    assert_eq!(bench.sync.deadline(), None);
}

/// A hub that answers after `delay` ms, and a storm of notices each `every` ms for `time` ms: all that is done, by time.
fn storm(delay: u64, every: u64, time: u64) -> Vec<(u64, TwinAction)> {
    let mut bench = Bench::with_twin(&json!({}));
    let (begin, mut version) = (100_000, 1);
    let mut done = Vec::new();
    let mut answers = VecDeque::<(u64, u32, Vec<u8>)>::new();
    for now in begin..begin + time + 10_000 {
        let mut actions = Vec::new();
        if now < begin + time && (now - begin) % every == 0 {
            version += 1;
            actions = notice_ms(&mut bench, now, &format!("{{\"b\":{version},\"$version\":{version}}}"));
        }
        if answers.front().is_some_and(|(at, ..)| *at == now) {
            let (_, rid, answer) = answers.pop_front().unwrap();
            actions.extend(answer_ms(&mut bench, now, rid, &answer));
        }
        actions.extend(bench.tick_ms(now));
        for action in actions {
            if let TwinAction::Get { rid } = action {
                answers.push_back((now + delay, rid, twin(version, json!({"a": 1, "b": version}), &json!({}))));
            }
            done.push((now - begin, action));
        }
    }
    let last = done.iter().rev().find(|(_, action)| matches!(action, TwinAction::Event(_))).unwrap();
    assert_eq!(last.1, desired(json!({"a": 1, "b": version}), version), "the last wins");
    assert!(last.0 < time + 1000, "and soon: {} of {time}", last.0);
    done
}

#[test]
fn a_storm_becomes_few_requests_and_few_announcements() {
    for (delay, every, time) in
        [(20, 1, 60_000), (20, 100, 60_000), (300, 10, 60_000), (2000, 10, 60_000), (20, 1, 300)]
    {
        let done = storm(delay, every, time);
        let times = |wanted: fn(&TwinAction) -> bool| -> Vec<u64> {
            done.iter().filter(|(_, action)| wanted(action)).map(|(at, _)| *at).collect()
        };
        let gets = times(|action| matches!(action, TwinAction::Get { .. }));
        let announced = times(|action| matches!(action, TwinAction::Event(FromHub::Desired { .. })));
        let most = 11 + usize::try_from(time / 5000).unwrap();
        assert!(gets.len() <= most, "{delay} {every}: {} requests", gets.len());
        assert!(gets.windows(2).all(|two| two[1] - two[0] >= 500), "{gets:?}");
        // Those that an answer confirmed, and those that had to do without.
        let most = gets.len() + usize::try_from(time / 500).unwrap() + 2;
        assert!(announced.len() <= most, "{delay} {every}: {} announcements", announced.len());
        // A change is announced within a second of its coming.
        let mut before = 0;
        for at in announced.into_iter().filter(|at| *at < time) {
            assert!(at - before <= 1000, "{delay} {every}: nothing from {before} to {at}");
            before = at;
        }
    }
}

#[test]
fn what_was_told_before_a_cut_is_announced_at_the_cut() {
    let mut bench = Bench::with_twin(&json!({}));
    assert_eq!(bench.notice(100, &json!({"b": 2, "$version": 2})), [TwinAction::Get { rid: 2 }]);
    assert_eq!(bench.notice(100, &json!({"b": 3, "$version": 3})), []);
    assert_eq!(bench.disconnect(100), [desired(json!({"a": 1, "b": 3}), 3)]);
    assert_eq!(bench.disconnect(101), []);
}

#[test]
fn a_gap_asks_but_never_in_a_hot_loop() {
    let mut bench = Bench::with_twin(&json!({}));
    assert_eq!(bench.notice(10, &json!({"$version": 50})), [TwinAction::Get { rid: 2 }]);
    for n in 0..10 {
        assert_eq!(bench.notice(10, &json!({"$version": 50 + n})), []);
    }
    // It says nothing of them.
    assert_eq!(bench.answer(10, 2, 200, &twin(1, json!({"a": 1}), &json!({}))), []);
    assert_eq!(bench.deadline_ms(), 10_500);
    assert_eq!(bench.tick_ms(10_500), [TwinAction::Get { rid: 3 }]);
    assert_eq!(
        answer_ms(&mut bench, 10_520, 3, &twin(59, json!({"a": 2}), &json!({}))),
        [desired(json!({"a": 2}), 59)]
    );
}

#[test]
fn a_notice_that_cannot_be_read_is_told_if_the_twin_itself_cannot_be_had() {
    let unreadable = TwinAction::Event(FromHub::TwinUnreadable("the twin is not JSON".into()));
    for (status, body, told) in [
        (200, twin(1, json!({"a": 1}), &json!({})), vec![]),
        (200, b"{".to_vec(), vec![unreadable.clone()]),
        (
            500,
            Vec::new(),
            vec![TwinAction::Event(FromHub::TwinUnavailable("twin GET: status 500 ".into())), unreadable],
        ),
    ] {
        let mut bench = Bench::with_twin(&json!({}));
        assert_eq!(notice_ms(&mut bench, 10_000, "{\"b\":"), [TwinAction::Get { rid: 2 }]);
        for n in 1..20 {
            assert_eq!(
                notice_ms(&mut bench, 10_000 + n, &format!("{}{{", " ".repeat(100))),
                [],
                "one question is enough"
            );
        }
        assert_eq!(bench.answer(11, 2, status, &body), told);
        // What was told is withdrawn by the next good answer, although it changes nothing.
        let again = bench.sync.deadline().unwrap();
        bench.sync.tick(again, false, &mut bench.out);
        assert_eq!(std::mem::take(&mut bench.out), [TwinAction::Get { rid: 3 }]);
        let withdrawn = if told.is_empty() { vec![] } else { vec![desired(json!({"a": 1}), 1)] };
        assert_eq!(bench.answer(20, 3, 200, &twin(1, json!({"a": 1}), &json!({}))), withdrawn);
    }
}

#[test]
fn the_same_fault_has_the_same_text_wherever_it_is() {
    let mut texts = std::collections::BTreeSet::new();
    let mut bench = Bench::new();
    for n in 0..20_u32 {
        let broken = format!("{{\"desired\":{{{}?}}}}", "\n ".repeat(n as usize));
        let now = bench.deadline().max(1) + 61;
        for action in bench.answer(now, n + 1, 200, broken.as_bytes()) {
            let TwinAction::Event(FromHub::TwinUnreadable(text)) = action else { panic!("{action:?}") };
            texts.insert(text);
        }
        bench.tick(now + 61);
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
}

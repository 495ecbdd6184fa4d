//! What the core does on order: statistics, and sending before the time.

use serde_json::Value;

use super::trouble_tests::{Board, STATISTICS};
use super::*;
use crate::model::payload::{Payload, ProcessCreate};

fn events(body: &str) -> Vec<Value> {
    let body: Value = serde_json::from_str(body).unwrap();
    body["Events"].as_array().unwrap().clone()
}

fn names(body: &str) -> Vec<String> {
    events(body).iter().map(|event| event["Name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_statistics_event_has_what_came_since_its_own_last_one() {
    let mut board = Board::new();
    board.give(ToCore::LinkReady);
    board.give(ToCore::LinesLeftOut(3));
    let at = board.clock.now().wall;
    let gap = Gap { source: "test".into(), start: at, end: at, reason: "test".into(), missed_at_most: None };
    board.give(ToCore::Gap(gap));
    // One after the other, each alone in its message, so that one message was sent before the second and two before the
    // third.
    let (mut sent, mut dropped) = (Vec::new(), Vec::new());
    let [drops, messages] = STATISTICS;
    for name in [messages, messages, drops, messages, drops] {
        assert!(board.statistics(&[name]));
        board.pass(2);
        let body = board.acknowledged().unwrap();
        assert_eq!(names(&body), [name.as_str()]);
        let event = &events(&body)[0]["Payload"];
        if name == messages {
            sent.push(event[0]["MessagesSent"].as_u64().unwrap());
        } else {
            dropped.push((event[1]["DroppedEvents"].as_u64().unwrap(), event[0]["ExtraDetails"]["Gap1"].is_string()));
        }
    }
    assert_eq!(sent, [0, 1, 2]);
    assert_eq!(dropped, [(3, true), (0, false)]);
}

#[test]
fn what_is_off_goes_on_counting() {
    let mut board = Board::new();
    board.give(ToCore::LinkReady);
    let mut config = (*board.core.config).clone();
    config.priorities.insert(EventName::DroppedEventsStatistics, crate::model::units::Priority::Off);
    board.give(ToCore::LinesLeftOut(3));
    board.give(ToCore::Configure(Arc::new(config)));
    board.pass(1);
    assert!(board.statistics(&STATISTICS));
    board.pass(2);
    assert_eq!(names(&board.acknowledged().unwrap()), ["MessageStatistics"]);
    let since = board.core.storage.spool().statistics();
    assert_eq!((since.low.dropped[&DropReason::RateLimited], since.messages_sent), (3, 1));
}

#[test]
fn a_flush_closes_what_is_open_and_sends_it_at_once() {
    let mut board = Board::new();
    let mut config = (*board.core.config).clone();
    config.low_priority_message_frequency = crate::model::units::IsoDuration::from_secs(3600);
    board.give(ToCore::Configure(Arc::new(config)));
    board.give(ToCore::LinkReady);
    let what = Payload::ProcessCreate(ProcessCreate {
        executable: "/bin/true".into(),
        command_line: "true".into(),
        ..ProcessCreate::default()
    });
    let seen = Observation { at: board.clock.now().wall, serial: 1, what };
    board.give(ToCore::Observed(vec![seen.clone(), seen]));
    board.pass(5);
    assert_eq!((board.core.pipeline.open_aggregates(), board.acknowledged()), (1, None), "it grows for an hour");
    board.give(ToCore::Flush);
    let body = board.acknowledged().unwrap();
    assert_eq!(names(&body), ["ProcessCreate"]);
    assert_eq!(events(&body)[0]["Payload"][0]["ExtraDetails"]["HitCount"], "2");
    assert_eq!((board.core.pipeline.open_aggregates(), board.acknowledged()), (0, None));
    assert_eq!(board.core.storage.spool().balance().low.delivered, 2);
}

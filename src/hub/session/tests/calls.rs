//! Calls of direct methods in each phase of a connection.

use super::*;
use crate::hub::traffic::MethodCall;

fn called(bench: &mut Bench, rid: &str) -> Vec<Action> {
    let topic = Incoming::Method { name: "collectNow".into(), rid: rid.into() };
    bench.give(Input::Publish { topic, payload: b"" })
}

fn call(connection: u64, rid: &str) -> Action {
    Action::Event(FromHub::Called(MethodCall {
        connection,
        name: "collectNow".into(),
        rid: rid.into(),
        payload: Vec::new(),
    }))
}

fn answer(connection: u64, rid: &str) -> MethodAnswer {
    MethodAnswer { connection, rid: rid.into(), status: 200, body: "{}".into() }
}

#[test]
fn a_call_that_comes_before_the_subscription_is_known_to_stand_is_taken() {
    let mut bench = Bench::new(LIFE);
    bench.give(Input::Tick);
    bench.give(Input::Dialled);
    assert_eq!(called(&mut bench, "0"), [], "nobody is signed in");
    assert_eq!(bench.give(Input::Connected), [Action::Subscribe]);
    assert_eq!(called(&mut bench, "1"), [call(0, "1")]);
    let given = answer(0, "1");
    assert_eq!(bench.give(Input::Order(ToHub::Answer(given.clone()))), [Action::Answer(given)]);
    assert_eq!(bench.answer(1, 200, r#"{"desired":{"$version":1}}"#), [], "the twin was not asked for yet");
    assert_eq!(bench.give(Input::Subscribed), [Action::GetTwin { rid: 1 }]);
    assert_eq!(called(&mut bench, "2"), [call(0, "2")]);
}

#[test]
fn an_answer_that_outlived_its_connection_is_not_given_to_a_new_call() {
    let mut bench = Bench::ready(LIFE);
    assert_eq!(called(&mut bench, "1"), [call(0, "1")]);
    bench.give(closed());
    bench.wait();
    bench.finish_sign_in(2);
    assert_eq!(called(&mut bench, "1"), [call(1, "1")]);
    assert_eq!(bench.give(Input::Order(ToHub::Answer(answer(0, "1")))), [], "the slow one of before");
    let given = answer(1, "1");
    assert_eq!(bench.give(Input::Order(ToHub::Answer(given.clone()))), [Action::Answer(given)]);
}

#[test]
fn renewal_waits_for_an_answer_that_is_owed_but_not_for_ever() {
    for answered in [true, false] {
        let mut bench = Bench::ready(Duration::from_secs(100));
        bench.later(75);
        called(&mut bench, "1");
        assert_eq!(bench.later(11), [], "a caller waits");
        let actions = if answered {
            let mut actions = bench.give(Input::Order(ToHub::Answer(answer(0, "1"))));
            assert_eq!(actions.remove(0), Action::Answer(answer(0, "1")));
            actions
        } else {
            assert_eq!(bench.later(8), []);
            bench.later(1)
        };
        assert_eq!(actions.first(), Some(&Action::Disconnect), "{answered}");
        assert_eq!(actions.last(), Some(&Action::Dial));
    }
}

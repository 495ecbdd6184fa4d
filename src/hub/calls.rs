//! Calls of direct methods on one connection: how many wait for their answer, and which answers still have a caller.
//!
//! The hub picks the `$rid` of a call, and may pick one again on another connection. So a call bears the number of its
//! connection too, and an answer that took longer than its connection lived reaches nobody.

use serde_json::json;

use super::traffic::{CALLS, METHOD_PAYLOAD, MethodAnswer, MethodCall};

/// See the top of this file.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// How many connections there were before.
    connection: u64,
    waiting: Vec<String>,
}

impl Calls {
    /// Takes a call in; `None` if it is one that waits already.
    pub(super) fn come(
        &mut self,
        name: String,
        rid: String,
        payload: &[u8],
    ) -> Option<Result<MethodCall, MethodAnswer>> {
        let connection = self.connection;
        let refused = |rid: String, status, why: &str| {
            Some(Err(MethodAnswer { connection, rid, status, body: json!({ "error": why }).to_string() }))
        };
        if self.waiting.contains(&rid) {
            return None;
        }
        if payload.len() > METHOD_PAYLOAD {
            return refused(rid, 400, "the payload is over 131072 bytes");
        }
        if self.waiting.len() >= CALLS {
            return refused(rid, 429, "too many calls at once; call again when the others are answered");
        }
        self.waiting.push(rid.clone());
        Some(Ok(MethodCall { connection, name, rid, payload: payload.to_vec() }))
    }

    /// What goes to the hub for this answer; `None` if nobody waits for it any more.
    pub(super) fn go(&mut self, answer: MethodAnswer) -> Option<MethodAnswer> {
        if answer.connection != self.connection {
            return None;
        }
        let at = self.waiting.iter().position(|rid| *rid == answer.rid)?;
        self.waiting.swap_remove(at);
        if answer.body.len() <= METHOD_PAYLOAD {
            return Some(answer);
        }
        let body = json!({ "error": "the answer is over 131072 bytes" }).to_string();
        Some(MethodAnswer { status: 500, body, ..answer })
    }

    /// Nobody waits for an answer.
    pub(super) fn quiet(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The connection is gone, and with it whoever waited.
    pub(super) fn forget(&mut self) {
        self.connection += 1;
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(connection: u64, rid: &str, body: String) -> MethodAnswer {
        MethodAnswer { connection, rid: rid.into(), status: 200, body }
    }

    #[test]
    fn each_call_has_one_answer_and_their_number_is_bounded() {
        let mut calls = Calls::default();
        assert!(calls.quiet());
        for n in 0..CALLS {
            let call = calls.come("ping".into(), n.to_string(), b"x").unwrap().unwrap();
            assert_eq!((call.rid, call.payload), (n.to_string(), b"x".to_vec()));
        }
        assert!(calls.come("ping".into(), "0".into(), b"").is_none(), "the same again");
        assert_eq!(calls.come("ping".into(), "more".into(), b"").unwrap().unwrap_err().status, 429);
        assert!(calls.go(answer(0, "0", "{}".into())).is_some());
        assert!(calls.go(answer(0, "0", "{}".into())).is_none(), "answered");
        assert!(calls.come("ping".into(), "more".into(), b"").unwrap().is_ok());
        assert!(!calls.quiet());
        calls.forget();
        assert!(calls.quiet());
        assert!(calls.go(answer(0, "1", "{}".into())).is_none(), "gone with its connection");
    }

    #[test]
    fn an_answer_of_an_old_connection_is_not_that_of_a_new_call_with_the_same_id() {
        let mut calls = Calls::default();
        let old = calls.come("collectNow".into(), "1".into(), b"").unwrap().unwrap();
        calls.forget();
        let new = calls.come("ping".into(), "1".into(), b"").unwrap().unwrap();
        assert!(calls.go(answer(old.connection, &old.rid, "\"late\"".into())).is_none());
        let said = calls.go(answer(new.connection, &new.rid, "\"pong\"".into())).unwrap();
        assert_eq!(said.body, "\"pong\"");
    }

    #[test]
    fn what_the_hub_would_not_take_is_said_instead() {
        let mut calls = Calls::default();
        let call = |calls: &mut Calls, size| calls.come("a".into(), "1".into(), &vec![b' '; size]).unwrap();
        assert_eq!(call(&mut calls, METHOD_PAYLOAD + 1).unwrap_err().status, 400);
        assert!(call(&mut calls, METHOD_PAYLOAD).is_ok());
        let said = calls.go(answer(0, "1", "x".repeat(METHOD_PAYLOAD + 1))).unwrap();
        assert_eq!((said.status, said.body.len() < 100), (500, true));
    }
}

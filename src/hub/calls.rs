//! Calls of direct methods on one connection: how many wait for their answer, and which answers still have a caller.

use serde_json::json;

use super::traffic::{CALLS, MethodAnswer, MethodCall};

/// The hub's limit for a payload, each way.
const MAX_PAYLOAD: usize = 128 * 1024;

/// See the top of this file.
#[derive(Debug, Default)]
pub(super) struct Calls {
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
        let refused = |rid: String, status, why: &str| {
            Some(Err(MethodAnswer { rid, status, body: json!({ "error": why }).to_string() }))
        };
        if self.waiting.contains(&rid) {
            return None;
        }
        if payload.len() > MAX_PAYLOAD {
            return refused(rid, 400, "the payload is over 131072 bytes");
        }
        if self.waiting.len() >= CALLS {
            return refused(rid, 429, "too many calls at once; call again when the others are answered");
        }
        self.waiting.push(rid.clone());
        Some(Ok(MethodCall { name, rid, payload: payload.to_vec() }))
    }

    /// What goes to the hub for this answer; `None` if nobody waits for it any more.
    pub(super) fn go(&mut self, answer: MethodAnswer) -> Option<MethodAnswer> {
        let at = self.waiting.iter().position(|rid| *rid == answer.rid)?;
        self.waiting.swap_remove(at);
        if answer.body.len() <= MAX_PAYLOAD {
            return Some(answer);
        }
        let body = json!({ "error": "the answer is over 131072 bytes" }).to_string();
        Some(MethodAnswer { status: 500, body, ..answer })
    }

    /// The connection is gone, and with it whoever waited.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rid: &str, body: String) -> MethodAnswer {
        MethodAnswer { rid: rid.into(), status: 200, body }
    }

    #[test]
    fn each_call_has_one_answer_and_their_number_is_bounded() {
        let mut calls = Calls::default();
        for n in 0..CALLS {
            let call = calls.come("ping".into(), n.to_string(), b"x").unwrap().unwrap();
            assert_eq!((call.rid, call.payload), (n.to_string(), b"x".to_vec()));
        }
        assert!(calls.come("ping".into(), "0".into(), b"").is_none(), "the same again");
        assert_eq!(calls.come("ping".into(), "more".into(), b"").unwrap().unwrap_err().status, 429);
        assert!(calls.go(answer("0", "{}".into())).is_some());
        assert!(calls.go(answer("0", "{}".into())).is_none(), "answered");
        assert!(calls.come("ping".into(), "more".into(), b"").unwrap().is_ok());
        calls.forget();
        assert!(calls.go(answer("1", "{}".into())).is_none(), "gone with its connection");
    }

    #[test]
    fn what_the_hub_would_not_take_is_said_instead() {
        let mut calls = Calls::default();
        assert_eq!(calls.come("a".into(), "1".into(), &vec![b' '; MAX_PAYLOAD + 1]).unwrap().unwrap_err().status, 400);
        assert!(calls.come("a".into(), "1".into(), &vec![b' '; MAX_PAYLOAD]).unwrap().is_ok());
        let said = calls.go(answer("1", "x".repeat(MAX_PAYLOAD + 1))).unwrap();
        assert_eq!((said.status, said.body.len() < 100), (500, true));
    }
}

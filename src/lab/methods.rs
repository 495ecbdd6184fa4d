//! Direct methods, as the service side calls them.

use std::time::Duration;

use serde_json::Value;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::identity::Outbound;
use super::shared::Shared;
use super::topic;

/// Each way.
const LARGEST: usize = 128 * 1024;

/// What the device answered.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodReply {
    /// Its status.
    pub status: i64,
    /// Its payload; null for an empty one.
    pub payload: Value,
}

/// Why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MethodError {
    /// The module does not exist, is offline or does not listen to the method.
    #[error("404103: the module is not online or does not listen to this method")]
    NotOnline,
    /// No answer within the time.
    #[error("504: no answer within the time given")]
    TimedOut,
    /// Method names have letters, digits, `_`, `-` and `.`, at most 100.
    #[error("400: this is no name for a method")]
    Name,
    /// Call or answer is over 128 KiB.
    #[error("413: the payload is over 131072 bytes")]
    TooLarge,
    /// The answer is not JSON.
    #[error("502: the module answered something that is not JSON")]
    NotJson,
}

pub(super) async fn invoke(
    shared: &Shared,
    client: &str,
    name: &str,
    payload: &Value,
    wait: Duration,
) -> Result<MethodReply, MethodError> {
    let of_alphabet = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if name.is_empty() || name.len() > 100 || !name.bytes().all(of_alphabet) {
        return Err(MethodError::Name);
    }
    let body = payload.to_string().into_bytes();
    if body.len() > LARGEST {
        return Err(MethodError::TooLarge);
    }
    let (caller, answer) = oneshot::channel();
    let rid = format!("{:x}", shared.serial());
    shared.with(|registry| {
        let record = registry
            .get_mut(client)
            .filter(|record| record.listens(|filter| topic::covers_method(filter, name)))
            .ok_or(MethodError::NotOnline)?;
        // Callers that went away are forgotten here.
        record.calls.retain(|_, caller| !caller.is_closed());
        record.calls.insert(rid.clone(), caller);
        record.send(Outbound::Method { name: name.to_owned(), rid, body });
        Ok(())
    })?;
    let answer = timeout(wait, answer).await.ok().and_then(Result::ok).ok_or(MethodError::TimedOut)?;
    if answer.body.len() > LARGEST {
        return Err(MethodError::TooLarge);
    }
    let payload = if answer.body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&answer.body).map_err(|_| MethodError::NotJson)?
    };
    Ok(MethodReply { status: answer.status, payload })
}

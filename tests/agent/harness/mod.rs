//! The rig: a hub that remembers what happened, and an agent that ends with its test.

mod agent;
mod hub;

use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

pub use agent::{Agent, Place, balance_holds, run};
pub use hub::{Hub, PROVOKED, Received};

/// The object of the twin that holds the configuration.
pub const OBJECT: &str = "ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration";
/// How long anything may take; only a test that fails takes so long.
pub const LIMIT: Duration = Duration::from_secs(40);

/// How long a stop may take here. The promise is 5 s, and 2.5 s of them are the agent's own waiting; the rest is disk and
/// processor, which other tests share, so this is twice the promise. What a stop could wait for by mistake (a sign-in, an
/// acknowledgement, a ping) takes 30 s and more. The acceptance script holds the agent to the 5 s, alone on its machine.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A patch of the desired section with these keys.
pub fn keys<'a>(values: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let members = values.into_iter().map(|(key, value)| (key.to_owned(), json!({ "value": value })));
    json!({ OBJECT: Value::Object(members.collect()) })
}

/// Asks until there is an answer.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "never came: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// How many hits an event stands for. A list that was split counts with its first part only.
pub fn hits(event: &Value) -> u64 {
    let items = event["Payload"].as_array().map_or(&[][..], Vec::as_slice);
    if let Some(count) = items.first().and_then(|item| item["ExtraDetails"]["HitCount"].as_str()) {
        return count.parse().unwrap();
    }
    let parts: Vec<&str> = items.iter().filter_map(|item| item["ExtraDetails"]["Part"].as_str()).collect();
    u64::from(parts.is_empty() || parts.contains(&"1"))
}

//! What can be typed while a try runs.

use std::io::{BufRead, stdin};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::sync::mpsc;

/// One order.
#[derive(Debug, PartialEq)]
pub(super) enum Order {
    /// Change a twin property.
    Set(String, Value),
    /// Call a direct method.
    Call(String, Value),
    /// Show desired and reported.
    Twin,
    /// Show collectors and balance.
    Status,
    /// End.
    Quit,
    /// Not an order; what to type instead.
    Wrong(String),
}

const HELP: &str = "orders: set KEY VALUE | call METHOD [JSON] | twin | status | quit    (for example: set eventPriorityProcessCreate Off)";

fn order(line: &str) -> Option<Order> {
    let mut words = line.trim().splitn(3, char::is_whitespace);
    Some(match (words.next()?, words.next(), words.next()) {
        ("", None, None) => return None,
        ("set", Some(key), Some(value)) if !key.is_empty() => Order::Set(key.to_owned(), value_of(value)),
        ("call", Some(name), payload) if !name.is_empty() => {
            Order::Call(name.to_owned(), payload.map_or(Value::Null, value_of))
        }
        ("twin", None, None) => Order::Twin,
        ("status", None, None) => Order::Status,
        ("quit" | "exit", None, None) => Order::Quit,
        _ => Order::Wrong(HELP.to_owned()),
    })
}

/// JSON if it is JSON, else a string: `true`, `8192` and `PT5S` all mean what they look like.
fn value_of(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap_or_else(|_| Value::String(text.trim().to_owned()))
}

/// Reads `KEY=VALUE`.
pub(super) fn assignment(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value_of(value))),
        _ => Err("expected KEY=VALUE, for example eventPriorityProcessCreate=Off".to_owned()),
    }
}

/// Reads `30s`, `5m` or `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time such as 30s, 5m or 1h".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    Ok(Duration::from_secs(number.checked_mul(factor).filter(|s| *s <= 365 * 86_400).ok_or_else(expected)?))
}

/// Reads orders from standard input, on a thread of its own: a blocked read must not hold up the end.
pub(super) fn read_orders() -> anyhow::Result<mpsc::Receiver<Order>> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::Builder::new()
        .name("prompt".into())
        .spawn(move || {
            for line in stdin().lock().lines() {
                let Ok(line) = line else { return };
                if let Some(order) = order(&line)
                    && sender.blocking_send(order).is_err()
                {
                    return;
                }
            }
        })
        .context("cannot read orders")?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn orders_are_read() {
        assert_eq!(order("set a PT5S"), Some(Order::Set("a".into(), json!("PT5S"))));
        assert_eq!(order("set a  8192 "), Some(Order::Set("a".into(), json!(8192))));
        assert_eq!(order("call ping"), Some(Order::Call("ping".into(), Value::Null)));
        assert_eq!(order("call a {\"b\": [1]}"), Some(Order::Call("a".into(), json!({"b": [1]}))));
        assert!(matches!(order("call"), Some(Order::Wrong(_))));
        assert_eq!(order(" status "), Some(Order::Status));
        assert_eq!(order(""), None);
        assert!(matches!(order("set a"), Some(Order::Wrong(_))));
        assert!(matches!(order("rm -rf /"), Some(Order::Wrong(_))));
        assert_eq!(assignment("a=true"), Ok(("a".into(), json!(true))));
        assert!(assignment("=x").is_err() && assignment("x").is_err());
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("2").is_err() && duration("m").is_err() && duration("99999999999999999999s").is_err());
    }
}

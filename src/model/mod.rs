//! Floor 0: pure data. The event types are the wire contract; nothing here does I/O or knows tokio.

pub mod change;
pub mod event;
pub mod event_set;
pub mod health;
pub mod ids;
pub mod loss;
pub mod message;
pub mod payload;
pub mod problem;
pub mod secret;
pub mod time;
pub mod units;

/// The version of this program, as messages and the reported twin carry it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

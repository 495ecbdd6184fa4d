//! The whole agent as a user runs it, the built program, against the loopback hub over TCP and TLS.
//!
//! Each test has a hub of its own in its process, and an agent of its own with a configuration, a state directory and
//! a runtime directory of its own. Nothing needs root. Each body that a hub receives is judged by the published schema.

#![cfg(feature = "lab")]
#![expect(clippy::disallowed_methods, reason = "runs the program under test, with files that are no state of an agent")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod bad_input;
mod configuration;
mod delivery;
mod diagnostics;
mod harness;
mod lifetime;
mod methods;
mod restart;
#[path = "../schema/mod.rs"]
mod schema;
mod secrets;
mod times;
mod tryout;
mod twin;
mod updates;
mod waiting;

//! The loopback IoT Hub over real sockets, with a client that is nobody's but these tests'.
#![cfg(feature = "lab")]
#![expect(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "a test may fail where it stands")]

mod client;
mod command;
mod faults;
mod sign_in;
mod telemetry;
mod twin;

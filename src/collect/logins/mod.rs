//! Sign-ins.

pub mod sighting;
pub mod syslog;
pub mod words;

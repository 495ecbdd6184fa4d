//! Sign-ins.

pub mod correlate;
pub mod sighting;
pub mod syslog;
pub mod words;

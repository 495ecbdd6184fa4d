//! Floor 1: the only code that touches the machine. Each item has a fake or takes a root directory that tests replace.

pub mod clock;
pub mod files;
pub mod host;
pub mod notify;

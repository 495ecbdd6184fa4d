//! Sign-ins without audit: from the logs that programs write about them. `event.rs` says what an event holds.
//!
//! Read are, whichever exist, the systemd journal, `/var/log/auth.log`, `/var/log/secure`, `/var/log/wtmp` and
//! `/var/log/btmp` (`source.rs`). Each line, record or entry becomes a [`sighting`]; [`correlate`] makes one attempt of
//! what several say.

pub mod correlate;
pub mod entries;
mod event;
mod feed;
mod health;
pub mod records;
pub mod sighting;
mod source;
mod state;
pub mod syslog;
pub mod words;

use super::lane::SourceContext;
use super::source::Source;
use crate::model::event::EventName;
use crate::model::event_set::EventSet;

pub use feed::line_says;
pub(super) use source::forget;

/// The name in `SourceChoice`.
const NAME: &str = "login logs";
/// What it gives.
pub(super) const EVENTS: EventSet = EventSet::of(&[EventName::Login]);

/// Opens the source, if any of the logs can be read.
pub(super) fn open(context: &SourceContext, _: EventSet, _: &str) -> Result<Box<dyn Source>, String> {
    Ok(Box::new(source::LoginSource::open(context)?))
}

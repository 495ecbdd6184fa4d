//! What every stream of observations has in common: what it covers, how it is read, what it says about its losses.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::health::{CollectorHealth, HealthState};
use crate::model::loss::Gap;
use crate::model::time::Timestamp;
use crate::sys::wake::Waker;

/// How well a source sees one kind of event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The event.
    pub event: EventName,
    /// What it cannot see; empty if nothing.
    pub cannot_see: String,
    /// Whether each one is seen or counted as lost.
    pub complete: bool,
}

/// Which source was chosen, and what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceChoice {
    /// Its name: `process connector`, `polling /proc`.
    pub name: &'static str,
    /// Why this one; says why a better one was not taken.
    pub reason: String,
    /// The events that it can give, wanted or not.
    pub covers: Vec<Coverage>,
}

impl SourceChoice {
    /// The events that it can give.
    #[must_use]
    pub fn events(&self) -> EventSet {
        self.covers.iter().fold(EventSet::NONE, |set, coverage| set.with(EventSet::of(&[coverage.event])))
    }

    /// How it sees `event`, as `status`, `doctor` and the reported twin show it; `None` if it does not.
    #[must_use]
    pub fn health(&self, event: EventName) -> Option<CollectorHealth> {
        let coverage = self.covers.iter().find(|coverage| coverage.event == event)?;
        let detail = if coverage.cannot_see.is_empty() {
            self.reason.clone()
        } else {
            format!("{}; cannot see {}", self.reason, coverage.cannot_see)
        };
        Some(CollectorHealth {
            event,
            state: if coverage.complete { HealthState::Ok } else { HealthState::Degraded },
            source: self.name.to_owned(),
            detail,
        })
    }
}

/// Observations that a source knows to have missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Which kinds may be among them.
    pub events: EventSet,
    /// The last moment up to which nothing was missed.
    pub start: Timestamp,
    /// The moment from which nothing is missed again.
    pub end: Timestamp,
    /// Upper bound of what was missed; `None` if the source cannot tell.
    pub at_most: Option<u64>,
    /// Why, in words.
    pub reason: String,
}

impl Loss {
    /// As gaps in the watch over what is `wanted` of its events, one for each.
    pub fn gaps(&self, wanted: EventSet) -> impl Iterator<Item = Gap> {
        self.events.and(wanted).iter().map(|event| Gap {
            source: event.as_str().to_owned(),
            start: self.start,
            end: self.end,
            reason: self.reason.clone(),
            missed_at_most: self.at_most,
        })
    }
}

/// What a drain gave besides observations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// What was missed, in order.
    pub losses: Vec<Loss>,
}

/// Why a source gives nothing.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The one that the configuration asks for cannot be had.
    #[error(
        "collect.process_source = \"{wanted}\" cannot be used: {reason}; set it to \"auto\" to take the best that works"
    )]
    Unavailable {
        /// What was asked for.
        wanted: &'static str,
        /// Why not.
        reason: String,
    },
    /// Nothing that works here sees any of the wanted events.
    #[error("nothing on this machine sees {events}: {reason}")]
    NoSource {
        /// Names of the events.
        events: String,
        /// What was tried.
        reason: String,
    },
    /// None of the sources that may be used sees any of the wanted events.
    #[error("no source sees {events}{because}")]
    Unseen {
        /// Names of the events.
        events: String,
        /// Which ones may be used, if not all; starts with a blank.
        because: String,
    },
    /// It worked and then broke; opening it again may help.
    #[error("{name} broke: {source}; it is opened again")]
    Broken {
        /// Name of the source.
        name: &'static str,
        /// What happened.
        source: io::Error,
    },
}

impl SourceError {
    /// Whether opening the source again may help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        !matches!(self, Self::Unseen { .. })
    }
}

/// A stream of what happens on the machine.
pub trait Source: Send {
    /// Which source this is, and why. What it cannot see may change with a drain, the events that it covers do not.
    fn choice(&self) -> &SourceChoice;

    /// A way to end the drain that is going on, or the next one, from another thread.
    fn waker(&self) -> Waker;

    /// The events of which it knows what happened since a source of its kind was last open, so that the time between is
    /// no gap.
    fn resumed(&self) -> EventSet {
        EventSet::NONE
    }

    /// Gives only these events from now on, as far as it covers them. What is not wanted is not watched in the kernel,
    /// where the kernel can tell them apart. A source that was just opened watches what it was opened for.
    ///
    /// # Errors
    /// [`SourceError::Broken`]: open it again.
    fn want(&mut self, events: EventSet) -> Result<(), SourceError>;

    /// Waits at most `wait` for the first observation, then gathers for at most [`GATHER`] and [`BATCH`], and appends
    /// them to `out`. Blocks: it is meant for a thread of its own. Returns early, maybe with nothing, when woken.
    /// Call it again at once: a kernel source has a bounded buffer.
    ///
    /// # Errors
    /// [`SourceError::Broken`]; what was appended before is good.
    fn drain(&mut self, wait: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError>;
}

/// How long a drain gathers after its first observation.
pub const GATHER: Duration = Duration::from_millis(100);
/// How many observations a drain gathers.
pub const BATCH: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn choice() -> SourceChoice {
        let coverage = |event, cannot_see: &str, complete| Coverage { event, cannot_see: cannot_see.into(), complete };
        SourceChoice {
            name: "x",
            reason: "why".into(),
            covers: vec![
                coverage(EventName::ProcessCreate, "this", false),
                coverage(EventName::ProcessTerminate, "", true),
            ],
        }
    }

    #[test]
    fn each_event_has_a_health_line_of_its_own() {
        let health = choice().health(EventName::ProcessCreate).unwrap();
        assert_eq!((health.state, health.detail.as_str()), (HealthState::Degraded, "why; cannot see this"));
        let health = choice().health(EventName::ProcessTerminate).unwrap();
        assert_eq!((health.state, health.detail.as_str()), (HealthState::Ok, "why"));
        assert_eq!(choice().health(EventName::Login), None);
        assert_eq!(choice().events(), EventSet::of(&[EventName::ProcessCreate, EventName::ProcessTerminate]));
    }

    #[test]
    fn a_loss_is_a_gap_in_each_wanted_event_it_touches() {
        let at = Timestamp::trusted(jiff::Timestamp::UNIX_EPOCH);
        let events = choice().events();
        let loss = Loss { events, start: at, end: at, at_most: Some(3), reason: "full".into() };
        let wanted = EventSet::of(&[EventName::ProcessTerminate, EventName::Login]);
        let gaps: Vec<_> = loss.gaps(wanted).map(|gap| (gap.source, gap.missed_at_most)).collect();
        assert_eq!(gaps, [("ProcessTerminate".to_owned(), Some(3))]);
    }
}

//! The two clocks. Wall time before a floor that has surely passed is kept, but not trusted.

use std::sync::Mutex;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::model::time::{Mono, Now, Timestamp};

/// Where "now" comes from.
pub trait Clock: Send + Sync {
    /// Reads both clocks.
    fn now(&self) -> Now;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    floor: jiff::Timestamp,
}

impl SystemClock {
    /// `floor` is a moment that has surely passed: the time of the build, or the last time that was stored.
    #[must_use]
    pub const fn new(floor: jiff::Timestamp) -> Self {
        Self { floor }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let boot = clock_gettime(ClockId::Boottime);
        let since = Duration::new(u64::try_from(boot.tv_sec).unwrap_or(0), u32::try_from(boot.tv_nsec).unwrap_or(0));
        let utc = jiff::Timestamp::now();
        Now { wall: Timestamp { utc, trusted: utc >= self.floor }, mono: Mono::from_boot(since) }
    }
}

/// A clock that stands until it is moved; for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<Now>);

impl ManualClock {
    /// Stands at `wall`, one hour after boot.
    #[must_use]
    pub const fn new(wall: jiff::Timestamp) -> Self {
        Self(Mutex::new(Now {
            wall: Timestamp { utc: wall, trusted: true },
            mono: Mono::from_boot(Duration::from_secs(3600)),
        }))
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        if let Ok(mut now) = self.0.lock() {
            now.mono = now.mono.after(by);
            now.wall.utc = now.wall.utc.checked_add(by).unwrap_or(now.wall.utc);
        }
    }

    /// Sets the wall clock only, as a time synchronisation does.
    pub fn set_wall(&self, wall: jiff::Timestamp) {
        if let Ok(mut now) = self.0.lock() {
            now.wall.utc = wall;
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        match self.0.lock() {
            Ok(now) => *now,
            Err(poisoned) => *poisoned.into_inner(),
        }
    }
}

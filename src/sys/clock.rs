//! The two clocks and the time zone. Wall time before a floor that has surely passed is kept, but not trusted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use rustix::time::{ClockId, clock_gettime};

use crate::model::time::{Mono, Now, Timestamp};

/// Where "now" comes from.
pub trait Clock: Send + Sync {
    /// Reads both clocks.
    fn now(&self) -> Now;

    /// The zone that the machine is set to now; UTC if it has none. Somebody may change it while the agent runs.
    fn zone(&self) -> TimeZone;
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

    fn zone(&self) -> TimeZone {
        // Read from `TZ` or `/etc/localtime`, and by jiff not again within five minutes.
        TimeZone::try_system().unwrap_or(TimeZone::UTC)
    }
}

/// A clock that stands until it is moved; for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Now, TimeZone)>);

impl ManualClock {
    /// Stands at `wall`, one hour after boot, in UTC.
    #[must_use]
    pub const fn new(wall: jiff::Timestamp) -> Self {
        let now =
            Now { wall: Timestamp { utc: wall, trusted: true }, mono: Mono::from_boot(Duration::from_secs(3600)) };
        Self(Mutex::new((now, TimeZone::UTC)))
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let now = &mut self.state().0;
        now.mono = now.mono.after(by);
        now.wall.utc = now.wall.utc.checked_add(by).unwrap_or(now.wall.utc);
    }

    /// Sets the wall clock only, as a time synchronisation does.
    pub fn set_wall(&self, wall: jiff::Timestamp) {
        self.state().0.wall.utc = wall;
    }

    /// Sets the zone, as an administrator does.
    pub fn set_zone(&self, zone: TimeZone) {
        self.state().1 = zone;
    }

    fn state(&self) -> MutexGuard<'_, (Now, TimeZone)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        self.state().0
    }

    fn zone(&self) -> TimeZone {
        self.state().1.clone()
    }
}

//! How long to wait before the next attempt: doubling ceilings with jitter, forgotten only after a while of good
//! weather, so that a hub which kicks right after the sign-in makes no hot loop.

use std::time::Duration;

use super::error::Lane;
use crate::model::time::Mono;

/// First ceiling and cap of the normal lane; a wait is drawn from one millisecond to the ceiling (full jitter), so a fleet
/// that lost its hub together does not come back together. It is never zero: that is a link that is renewed on purpose.
const NORMAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// First ceiling and cap of the slow lane; a wait is at least half the ceiling, because trying sooner helps nobody.
const SLOW: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(300));
/// First ceiling and cap for requests on a standing link (twin GET and report) that the hub put off; at least half.
const REQUEST: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(60));
/// A link that lived this long starts from the beginning.
const STABLE: Duration = Duration::from_secs(60);

/// The waits between attempts to connect.
#[derive(Debug)]
pub struct Backoff {
    random: fastrand::Rng,
    failures: u32,
    lane: Lane,
    up_since: Option<Mono>,
}

impl Backoff {
    /// Starts fresh. The seed makes the waits repeatable.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), failures: 0, lane: Lane::Normal, up_since: None }
    }

    /// The link is up.
    pub fn up(&mut self, now: Mono) {
        self.up_since = Some(now);
    }

    /// The link is taken down on purpose, to come up again at once: a good while until here still counts.
    pub fn renewed(&mut self, now: Mono) {
        if self.up_since.take().is_some_and(|up| now.since(up) >= STABLE) {
            self.failures = 0;
        }
    }

    /// An attempt failed, or the link was lost: how long to wait. Changing the lane starts that lane's doubling.
    pub fn down(&mut self, now: Mono, lane: Lane) -> Duration {
        let stable = self.up_since.take().is_some_and(|up| now.since(up) >= STABLE);
        if stable || lane != self.lane {
            self.failures = 0;
        }
        self.lane = lane;
        let wait = match lane {
            Lane::Normal => draw(&mut self.random, ceiling(NORMAL, self.failures), 1),
            Lane::Slow => draw_half(&mut self.random, ceiling(SLOW, self.failures)),
        };
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

/// The waits between repetitions of one request on a standing link.
#[derive(Debug)]
pub struct RequestBackoff {
    random: fastrand::Rng,
    failures: u32,
}

impl RequestBackoff {
    /// Starts fresh. The seed makes the waits repeatable.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), failures: 0 }
    }

    /// It worked: the next failure starts from the beginning.
    pub fn worked(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait.
    pub fn failed(&mut self) -> Duration {
        let wait = draw_half(&mut self.random, ceiling(REQUEST, self.failures));
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

fn ceiling((first, cap): (Duration, Duration), failures: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures)).min(cap)
}

fn draw_half(random: &mut fastrand::Rng, ceiling: Duration) -> Duration {
    draw(random, ceiling, millis(ceiling) / 2)
}

fn draw(random: &mut fastrand::Rng, ceiling: Duration, floor: u64) -> Duration {
    Duration::from_millis(random.u64(floor..=millis(ceiling)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::from_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn ceilings_double_to_the_cap() {
        let seconds: Vec<_> = (0..11).map(|n| ceiling(NORMAL, n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(ceiling(NORMAL, u32::MAX).as_secs(), 300);
        assert_eq!((0..4).map(|n| ceiling(SLOW, n).as_secs()).collect::<Vec<_>>(), [60, 120, 240, 300]);
    }

    #[test]
    fn a_short_life_does_not_reset_and_a_long_one_does() {
        let mut backoff = Backoff::new(1);
        for _ in 0..8 {
            backoff.up(at(0));
            backoff.down(at(59), Lane::Normal);
        }
        assert_eq!(backoff.failures, 8);
        backoff.up(at(100));
        assert!(backoff.down(at(160), Lane::Normal) <= Duration::from_secs(1));
        assert_eq!(backoff.failures, 1);
    }

    #[test]
    fn a_renewal_keeps_the_merit_of_the_time_before() {
        let mut backoff = Backoff::new(1);
        for _ in 0..8 {
            backoff.down(at(0), Lane::Normal);
        }
        backoff.up(at(0));
        backoff.renewed(at(3000));
        backoff.up(at(3001));
        assert!(backoff.down(at(3002), Lane::Normal) <= Duration::from_secs(1));
    }

    #[test]
    fn the_slow_lane_is_slow_and_stays_its_own() {
        let mut backoff = Backoff::new(7);
        for _ in 0..50 {
            let wait = backoff.down(at(0), Lane::Slow);
            assert!(wait >= Duration::from_secs(30) && wait <= Duration::from_secs(300), "{wait:?}");
        }
        assert!(backoff.down(at(0), Lane::Normal) <= Duration::from_secs(1));
    }

    #[test]
    fn a_lost_link_is_never_taken_for_a_renewed_one() {
        assert!((0..20_000).all(|seed| !Backoff::new(seed).down(at(0), Lane::Normal).is_zero()));
    }

    #[test]
    fn equal_seeds_give_equal_waits() {
        let (mut a, mut b, mut c) = (Backoff::new(3), Backoff::new(3), Backoff::new(4));
        let waits = |x: &mut Backoff| (0..10).map(|_| x.down(at(0), Lane::Normal)).collect::<Vec<_>>();
        let (a, b, c) = (waits(&mut a), waits(&mut b), waits(&mut c));
        assert_eq!(a, b);
        assert_ne!(a, c);
    }

    proptest::proptest! {
        #[test]
        fn waits_stay_below_their_ceiling(seed: u64, failures in 0_u32..64) {
            let mut backoff = Backoff::new(seed);
            backoff.failures = failures;
            let wait = backoff.down(at(0), Lane::Normal);
            proptest::prop_assert!(wait <= ceiling(NORMAL, failures));
            let mut request = RequestBackoff { random: fastrand::Rng::with_seed(seed), failures };
            let wait = request.failed();
            proptest::prop_assert!(wait >= Duration::from_secs(2) && wait <= Duration::from_secs(60));
        }
    }
}

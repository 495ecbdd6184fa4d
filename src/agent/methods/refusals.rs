//! Which calls of direct methods are written to the log: pure. Those that are let through come no more often than the
//! judge lets them; those that are refused come as often as somebody likes, so only one in each minute has a line.

use std::time::Duration;

use crate::model::time::Mono;

/// Refused calls have one line in this time.
const PAUSE: Duration = Duration::from_secs(60);

/// What was said of refused calls.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    said_at: Option<Mono>,
    unsaid: u64,
}

impl Refusals {
    /// Whether a call with this answer has a line; if so, how many refused ones before it had none.
    pub(super) fn line(&mut self, status: u16, now: Mono) -> Option<u64> {
        if status >= 400 {
            if self.said_at.is_some_and(|at| now.since(at) < PAUSE) {
                self.unsaid = self.unsaid.saturating_add(1);
                return None;
            }
            self.said_at = Some(now);
        }
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refused_calls_is_a_line_a_minute_and_says_how_many_there_were() {
        let at = |second| Mono::from_boot(Duration::from_secs(second));
        let mut refusals = Refusals::default();
        assert_eq!(refusals.line(404, at(100)), Some(0), "the first");
        assert!((0..1000).all(|n| refusals.line(429, at(100 + n % 60)).is_none()));
        assert_eq!(refusals.line(200, at(159)), Some(1000), "what is let through is always told");
        assert_eq!(refusals.line(400, at(159)), None);
        assert_eq!(refusals.line(404, at(160)), Some(1));
        assert_eq!(refusals.line(202, at(160)), Some(0));
        let hour = (0..36_000).filter(|n| refusals.line(429, at(160 + n / 10)).is_some()).count();
        assert_eq!(hour, 59);
    }
}

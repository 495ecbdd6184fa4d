//! Lines of auth.log, and what becomes of them: no line panics, and no line makes two attempts.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use twinward::collect::logins::correlate::{Correlator, PENDING};
use twinward::collect::logins::line_says;
use twinward::collect::logins::sighting::{Act, Service};
use twinward::model::time::Mono;

fuzz_target!(|text: &str| {
    let now = "2026-07-01T12:00:00Z".parse().expect("a time");
    let zone = jiff::tz::TimeZone::UTC;
    let mut correlator = Correlator::default();
    let (mut seen, mut told) = (0, 0);
    for line in text.lines() {
        let Some(sighting) = line_says(line, now, &zone) else { continue };
        if sighting.said.act == Act::Success && sighting.said.service == Service::Ssh {
            assert!(line.contains(": Accepted "), "only sshd's own word lets somebody in: {line}");
        }
        seen += 1;
        told += usize::from(correlator.see(sighting, Mono::default()).is_some());
    }
    let left = correlator.due(Mono::from_boot(Duration::from_secs(1_000_000))).len();
    assert!(left <= PENDING && told + left <= seen);
});

//! Durations against a slow reading of the published grammar.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use twinward::model::units::IsoDuration;

fuzz_target!(|text: &str| {
    let Ok(duration) = IsoDuration::parse(text) else { return };
    assert_eq!(duration.as_str(), text);
    let slow = slow(text).expect("only what the grammar allows is read");
    let difference = duration.length().abs_diff(slow);
    // The slow reading counts in floating point.
    assert!(difference <= Duration::from_millis(1) + slow / 1_000_000, "{text}: {:?} or {slow:?}", duration.length());
    let whole = IsoDuration::from_secs(duration.length().as_secs());
    assert_eq!(
        IsoDuration::parse(whole.as_str()).expect("our own form").length().as_secs(),
        duration.length().as_secs()
    );
});

/// `P[nW][nD][T[nH][nM][nS]]` in floating point.
fn slow(text: &str) -> Option<Duration> {
    let body = text.strip_prefix('P')?;
    let (date, time) = body.split_once('T').map_or((body, None), |(date, time)| (date, Some(time)));
    if time == Some("") || body.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    for (part, units) in [(date, "WD"), (time.unwrap_or(""), "HMS")] {
        let (mut number, mut left) = (String::new(), units);
        for c in part.chars() {
            if c.is_ascii_digit() || c == '.' {
                number.push(c);
                continue;
            }
            let (_, rest) = left.split_once(c)?;
            left = rest;
            let factor = match (c, units) {
                ('W', _) => 604_800.0,
                ('D', _) => 86_400.0,
                ('H', _) => 3600.0,
                ('M', _) => 60.0,
                _ => 1.0,
            };
            seconds += number.parse::<f64>().ok()? * factor;
            number.clear();
        }
        if !number.is_empty() {
            return None;
        }
    }
    Duration::try_from_secs_f64(seconds).ok()
}

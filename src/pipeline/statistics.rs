//! What the agent reports about its own work, as the three operational events (protocol reference 3.7 and 1.4).
//!
//! DroppedEventsStatistics has one item for each queue. Its `ExtraDetails` say why events were dropped,
//! `Dropped.<reason>` = decimal count, and on the item of the high queue when nothing could be collected: `Gap1`,
//! `Gap2`, … = `<start>/<end> <source> <reason>`, with `, at most <n> missed` if the source knows; `GapsOmitted` counts
//! those beyond the first 16.

use std::collections::BTreeMap;

use crate::model::event::{EventName, Observation, Snapshot};
use crate::model::loss::{DropReason, Gap, Queue};
use crate::model::payload::{ConfigurationError, DroppedEvents, ExtraDetails, MessageStatistics, Payload};
use crate::model::problem::{Problem, ProblemKind};
use crate::model::time::Timestamp;

/// The most gaps that one report names.
const MOST_GAPS: usize = 16;

/// The most characters of a gap's source or reason.
const MOST_WORDS: usize = 120;

/// What one queue took in and lost since the last report, in hits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Entered the queue.
    pub collected: u64,
    /// Lost, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

/// The DroppedEventsStatistics snapshot: two items, High first. When it is stored, the same batch holds
/// [`crate::model::change::Change::DroppedEventsReported`], so that no count is reported twice.
#[must_use]
pub fn dropped_events(high: &QueueCounts, low: &QueueCounts, gaps: &[Gap], at: Timestamp) -> Snapshot {
    let mut high = dropped_item(Queue::High, high);
    for (number, gap) in gaps.iter().take(MOST_GAPS).enumerate() {
        high.extra_details.insert(format!("Gap{}", number + 1), gap_text(gap));
    }
    if let Some(omitted) = gaps.len().checked_sub(MOST_GAPS).filter(|omitted| *omitted > 0) {
        high.extra_details.insert("GapsOmitted".to_owned(), omitted.to_string());
    }
    let items = vec![Payload::DroppedEvents(high), Payload::DroppedEvents(dropped_item(Queue::Low, low))];
    Snapshot { name: EventName::DroppedEventsStatistics, at, items }
}

fn dropped_item(queue: Queue, counts: &QueueCounts) -> DroppedEvents {
    let reasons = counts.dropped.iter().filter(|(_, count)| **count > 0);
    let extra_details: ExtraDetails =
        reasons.map(|(reason, count)| (format!("Dropped.{}", reason.as_str()), count.to_string())).collect();
    DroppedEvents {
        queue: queue.as_str().to_owned(),
        collected_events: counts.collected,
        dropped_events: counts.dropped.values().fold(0, |sum, count| sum.saturating_add(*count)),
        extra_details,
    }
}

fn gap_text(gap: &Gap) -> String {
    let words = |text: &str| text.chars().take(MOST_WORDS).collect::<String>();
    let (source, reason) = (words(&gap.source), words(&gap.reason));
    // A reason that is a whole sentence already begins with its source.
    let words = if reason.starts_with(&source) { reason } else { format!("{source} {reason}") };
    let mut text = format!("{}/{} {words}", gap.start.utc_text(), gap.end.utc_text());
    if let Some(missed) = gap.missed_at_most {
        text.push_str(&format!(", at most {missed} missed"));
    }
    text
}

/// The MessageStatistics snapshot: one item.
#[must_use]
pub fn message_statistics(counts: MessageStatistics, at: Timestamp) -> Snapshot {
    Snapshot { name: EventName::MessageStatistics, at, items: vec![Payload::MessageStatistics(counts)] }
}

/// One ConfigurationError observation for each problem of the twin, numbered from `first_serial`. Keys that nobody
/// knows have no published `ErrorType` and are left out: the reported twin shows them.
#[must_use]
pub fn configuration_errors(problems: &[Problem], first_serial: u64, at: Timestamp) -> Vec<Observation> {
    let published = problems.iter().filter_map(|problem| Some((problem, error_type(problem.kind)?)));
    let errors = published.map(|(problem, error_type)| ConfigurationError {
        configuration_name: problem.key.clone(),
        error_type: error_type.to_owned(),
        used_configuration: problem.in_force.clone(),
        message: format!("given {}, expected {}", problem.given, problem.expected),
        extra_details: ExtraDetails::new(),
    });
    errors
        .zip(first_serial..)
        .map(|(error, serial)| Observation { at, serial, what: Payload::ConfigurationError(error) })
        .collect()
}

/// The published `ErrorType`.
fn error_type(kind: ProblemKind) -> Option<&'static str> {
    match kind {
        ProblemKind::TypeMismatch => Some("TypeMismatch"),
        ProblemKind::NotOptimal => Some("NotOptimal"),
        ProblemKind::Conflict => Some("Conflict"),
        ProblemKind::Outdated | ProblemKind::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::trusted(jiff::Timestamp::from_second(1_795_340_000 + second).unwrap())
    }

    fn gap(source: &str, reason: &str, missed_at_most: Option<u64>) -> Gap {
        Gap { source: source.into(), start: at(0), end: at(60), reason: reason.into(), missed_at_most }
    }

    fn details(snapshot: &Snapshot, item: usize) -> &ExtraDetails {
        let Payload::DroppedEvents(item) = &snapshot.items[item] else { panic!() };
        &item.extra_details
    }

    #[test]
    fn reasons_and_gaps_are_told() {
        let high = QueueCounts {
            collected: 10,
            dropped: [(DropReason::CacheFull, 3), (DropReason::Oversize, 1), (DropReason::Corrupt, 0)].into(),
        };
        let gaps =
            [gap("agent", "agent was not running", None), gap("ProcessCreate", "kernel buffer overran", Some(5))];
        let snapshot = dropped_events(&high, &QueueCounts::default(), &gaps, at(90));
        let Payload::DroppedEvents(item) = &snapshot.items[0] else { panic!() };
        assert_eq!((item.queue.as_str(), item.collected_events, item.dropped_events), ("High", 10, 4));
        let told: Vec<String> = details(&snapshot, 0).iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            told,
            [
                "Dropped.cacheFull=3",
                "Dropped.oversize=1",
                "Gap1=2026-11-22T09:33:20.000Z/2026-11-22T09:34:20.000Z agent was not running",
                "Gap2=2026-11-22T09:33:20.000Z/2026-11-22T09:34:20.000Z ProcessCreate kernel buffer overran, at most 5 missed",
            ]
        );
        let Payload::DroppedEvents(low) = &snapshot.items[1] else { panic!() };
        assert_eq!((low.queue.as_str(), low.extra_details.len()), ("Low", 0));
    }

    #[test]
    fn gaps_are_bounded_in_number_and_length() {
        let gaps = vec![gap(&"s".repeat(1000), &"ö".repeat(100_000), None); 40];
        let snapshot = dropped_events(&QueueCounts::default(), &QueueCounts::default(), &gaps, at(0));
        let details = details(&snapshot, 0);
        assert_eq!(details.len(), 17);
        assert_eq!(details["GapsOmitted"], "24");
        assert!(details.values().map(String::len).sum::<usize>() < 16 * 500);
    }

    #[test]
    fn each_kind_of_problem_has_its_published_error_type_or_no_event() {
        for (kind, error_type) in [
            (ProblemKind::TypeMismatch, Some("TypeMismatch")),
            (ProblemKind::NotOptimal, Some("NotOptimal")),
            (ProblemKind::Conflict, Some("Conflict")),
            (ProblemKind::Outdated, None),
            (ProblemKind::Unknown, None),
        ] {
            let problem = Problem {
                key: "maxMessageSizeInBytes".into(),
                kind,
                given: "10000".into(),
                expected: "a multiple of 4096".into(),
                in_force: "10000".into(),
            };
            let errors = configuration_errors(&[problem], 0, at(0));
            let told = errors.first().map(|error| {
                let Payload::ConfigurationError(error) = &error.what else { panic!() };
                assert_eq!(error.configuration_name, "maxMessageSizeInBytes");
                assert_eq!(error.used_configuration, "10000");
                error.error_type.as_str()
            });
            assert_eq!((told, errors.len()), (error_type, usize::from(error_type.is_some())), "{kind:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_no_configuration_error() {
        let problem = |kind| Problem {
            key: "maxMessageSizeInBytes".into(),
            kind,
            given: "\"many\"".into(),
            expected: "an integer".into(),
            in_force: "204800".into(),
        };
        let problems =
            [problem(ProblemKind::Unknown), problem(ProblemKind::TypeMismatch), problem(ProblemKind::Conflict)];
        let observations = configuration_errors(&problems, 7, at(0));
        assert_eq!(observations.iter().map(|o| o.serial).collect::<Vec<_>>(), [7, 8]);
        let Payload::ConfigurationError(error) = &observations[0].what else { panic!() };
        assert_eq!(error.error_type, "TypeMismatch");
        assert_eq!(error.message, "given \"many\", expected an integer");
        assert_eq!(error.used_configuration, "204800");
    }
}

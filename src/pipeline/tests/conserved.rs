use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Observe(Vec<u8>),
    Snapshot(usize),
    Wait(u64),
    Configure(Priority, Option<u64>, bool),
    Flush,
    Restart { spoil: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let priority = prop_oneof![Just(Priority::High), Just(Priority::Low), Just(Priority::Off)];
    prop_oneof![
        6 => prop::collection::vec(0_u8..6, 0..8).prop_map(Step::Observe),
        1 => (0_usize..80).prop_map(Step::Snapshot),
        4 => (0_u64..50).prop_map(Step::Wait),
        2 => (priority, prop::option::of(0_u64..60), any::<bool>()).prop_map(|(p, a, s)| Step::Configure(p, a, s)),
        1 => Just(Step::Flush),
        1 => any::<bool>().prop_map(|spoil| Step::Restart { spoil }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever is seen and whatever the twin says: each hit is in an event, or booked as dropped, or was ignored
    /// because its type was off; each event is valid and fits a message.
    #[test]
    fn hits_are_conserved(steps in prop::collection::vec(step(), 1..40)) {
        let mut config = config(Priority::Low, Some(30), PLAIN);
        let (mut pipeline, mut books, mut second) = (pipeline(&config), Books::default(), 0);
        let (mut given, mut ignored, mut written) = (BTreeMap::<String, u64>::new(), 0, 0);
        for step in steps.into_iter().chain([Step::Flush]) {
            let changes = match step {
                Step::Observe(kinds) => {
                    let mut batch = Vec::new();
                    for kind in kinds {
                        // Kind 5 does not fit a small message.
                        let command_line = format!("{kind}{}", "x".repeat(if kind == 5 { 20_000 } else { 0 }));
                        *given.entry(kind.to_string()).or_default() += 1;
                        batch.push(seen(&command_line, second));
                    }
                    pipeline.observe(batch, now(second))
                }
                Step::Snapshot(count) => {
                    *given.entry("ports".into()).or_default() += 1;
                    pipeline.snapshot(Snapshot { at: time(second), ..ports(count) }, now(second))
                }
                Step::Wait(wait) => {
                    second += wait;
                    let changes = pipeline.tick(now(second));
                    prop_assert!(pipeline.next_deadline().is_none_or(|deadline| deadline > now(second).mono));
                    changes
                }
                Step::Configure(priority, aggregation, small) => {
                    config = self::config(priority, aggregation, if small { 8192 } else { PLAIN });
                    pipeline.configure(&config, now(second))
                }
                Step::Flush => pipeline.flush(now(second)),
                Step::Restart { spoil } => {
                    ignored += pipeline.ignored();
                    pipeline = Pipeline::new(&config, zone(), now(second));
                    let mut stored: Vec<_> = books.open.values().cloned().collect();
                    if let Some(first) = stored.first_mut().filter(|_| spoil) {
                        first.state.pop();
                    }
                    pipeline.restore(stored, now(second))
                }
            };
            books.apply(&changes);
            let limit = max_event(&config);
            for event in &books.events[written..] {
                prop_assert!(event.body.len() <= limit);
                assert_valid(&[&event.body]);
            }
            written = books.events.len();
            prop_assert_eq!(books.open.len(), pipeline.open_aggregates());
            prop_assert_eq!(books.collected() + ignored + pipeline.ignored(), given.values().sum::<u64>());
        }
        prop_assert!(books.open.is_empty());
        let mut found = BTreeMap::<String, u64>::new();
        for stored in &books.events {
            let event: Value = serde_json::from_str(&stored.body).unwrap();
            let item = &event["Payload"][0];
            let kind = item["CommandLine"].as_str().map_or("ports", |line| &line[..1]);
            let count = item["ExtraDetails"]["HitCount"].as_str().map(|count| count.parse::<u64>().unwrap());
            prop_assert!(count.is_none_or(|count| count == stored.hits));
            *found.entry(kind.into()).or_default() += stored.hits;
        }
        for (kind, hits) in &found {
            prop_assert!(hits <= &given[kind], "{}", kind);
        }
        let lost = books.discarded + ignored + pipeline.ignored();
        prop_assert_eq!(found.values().sum::<u64>() + lost, given.values().sum::<u64>());
    }
}

//! Which object of a section counts, and in which form.

use super::*;

#[test]
fn no_object_means_defaults_and_says_so() {
    for desired in [json!({}), json!({ "$version": 1 }), json!({ OBJECT: null })] {
        let applied = apply(desired.as_object().unwrap(), &unusual());
        assert_eq!(applied, Applied { config: AgentConfig::default(), problems: vec![], object_found: false });
    }
    let applied = apply(json!({ OBJECT: [1] }).as_object().unwrap(), &unusual());
    assert_eq!((applied.config, applied.object_found), (unusual(), true));
    assert_eq!((applied.problems.len(), applied.problems[0].kind), (1, ProblemKind::TypeMismatch));
}

#[test]
fn the_older_form_counts_while_the_current_one_is_absent() {
    let older = json!({
        "snapshotFrequency": "PT2H", "maxMessageSizeInBytes": 16384, "eventPriorityLogin": "low",
        "eventPriorityProcessCreate": {"value": "Off"}, "lowPriorityMessageFrequency": null,
        "maxLocalCacheSizeInBytes": "much", "eventPriority": "High",
    });
    let applied = apply(json!({ OLDER_OBJECT: older }).as_object().unwrap(), &unusual());
    let text = |key: TwinKey| key.text(&applied.config);
    assert_eq!(text(TwinKey::SnapshotFrequency), "PT2H");
    assert_eq!(text(TwinKey::MaxMessageSize), "16384");
    assert_eq!(text(TwinKey::EventPriority(EventName::Login)), "Low");
    assert_eq!(text(TwinKey::EventPriority(EventName::ProcessCreate)), "Off");
    assert_eq!(text(TwinKey::LowPriorityMessageFrequency), "PT5H");
    assert_eq!(text(TwinKey::MaxLocalCacheSize), text_of_unusual_cache(), "refused: what was in force stays");
    let found: Vec<(&str, ProblemKind)> = applied.problems.iter().map(|p| (p.key.as_str(), p.kind)).collect();
    assert_eq!(
        found,
        [
            (OLDER_OBJECT, ProblemKind::Outdated),
            ("maxLocalCacheSizeInBytes", ProblemKind::TypeMismatch),
            ("eventPriority", ProblemKind::Unknown)
        ]
    );
}

fn text_of_unusual_cache() -> String {
    TwinKey::MaxLocalCacheSize.text(&unusual())
}

#[test]
fn the_current_form_wins_over_the_older_one() {
    let both = json!({ OLDER_OBJECT: {"snapshotFrequency": "PT2H"}, OBJECT: {"snapshotFrequency": {"value": "PT3H"}} });
    let applied = apply(both.as_object().unwrap(), &AgentConfig::default());
    assert_eq!(applied.config.snapshot_frequency.as_str(), "PT3H");
    assert_eq!((applied.problems.len(), applied.problems[0].in_force.as_str()), (1, OBJECT));
    let gone = json!({ OLDER_OBJECT: null, OBJECT: null });
    let applied = apply(gone.as_object().unwrap(), &unusual());
    assert_eq!(applied, Applied { config: AgentConfig::default(), problems: vec![], object_found: false });
}

#[test]
fn the_object_can_have_another_name() {
    let desired =
        json!({ "mine": {"snapshotFrequency": {"value": "PT3H"}}, OBJECT: {"snapshotFrequency": {"value": "PT4H"}} });
    let applied = super::super::apply(desired.as_object().unwrap(), "mine", &AgentConfig::default());
    assert_eq!((applied.config.snapshot_frequency.as_str(), applied.problems.len()), ("PT3H", 0));
}

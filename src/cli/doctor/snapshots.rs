//! What each snapshot would hold, taken here and now with the rights of whoever asks.

use crate::collect::snapshot::{self, CollectError, SnapshotContext, Taken};
use crate::model::event::EventName;
use crate::model::health::HealthState;

use super::finding::{Check, Finding};

/// Takes one snapshot, and throws it away.
pub(super) fn snapshot(name: EventName, context: &SnapshotContext) -> Finding {
    let uid = rustix::process::geteuid().as_raw();
    judge(name, uid, snapshot::take(name, context))
}

fn judge(name: EventName, uid: u32, taken: Result<Taken, CollectError>) -> Finding {
    let taken = match taken {
        Ok(taken) => taken,
        Err(error) => return Finding::failed(Check::Snapshots, format!("{name}: {error}"), "report this as a mistake"),
    };
    let Taken { snapshot, health } = taken;
    let source = if health.source.is_empty() { String::new() } else { format!(" from {}", health.source) };
    let told = format!("{name}, as uid {uid}: {} items{source}", snapshot.items.len());
    let off = format!("see that the agent may read this, or set \"eventPriority{name}\": \"off\" in the twin");
    match health.state {
        HealthState::Unavailable => Finding::warning(Check::Snapshots, format!("{told}: {}", health.detail), off),
        HealthState::Degraded => {
            let advice = "ask as root, or with the capabilities of the packaged unit, before you look for a cause";
            Finding::warning(Check::Snapshots, format!("{told}; not seen: {}", health.detail), advice)
        }
        HealthState::Ok | HealthState::Off if health.detail.is_empty() => Finding::ok(Check::Snapshots, told),
        HealthState::Ok | HealthState::Off => Finding::ok(Check::Snapshots, format!("{told}: {}", health.detail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Snapshot;
    use crate::model::health::CollectorHealth;
    use crate::model::time::Timestamp;

    fn text(state: HealthState, detail: &str) -> String {
        let event = EventName::FirewallConfiguration;
        let at = Timestamp::trusted(jiff::Timestamp::UNIX_EPOCH);
        let health = CollectorHealth { event, state, source: "nft".to_owned(), detail: detail.to_owned() };
        judge(event, 7, Ok(Taken { snapshot: Snapshot { name: event, at, items: Vec::new() }, health })).text()
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let told = [
            text(HealthState::Ok, ""),
            text(HealthState::Ok, "no firewall"),
            text(HealthState::Degraded, "the tables of IPv6"),
            text(HealthState::Unavailable, "nft is not installed"),
        ];
        insta::assert_snapshot!(told.concat(), @r#"
        ok       snapshots          FirewallConfiguration, as uid 7: 0 items from nft
        ok       snapshots          FirewallConfiguration, as uid 7: 0 items from nft: no firewall
        warning  snapshots          FirewallConfiguration, as uid 7: 0 items from nft; not seen: the tables of IPv6
                                    what to do: ask as root, or with the capabilities of the packaged unit, before you look for a cause
        warning  snapshots          FirewallConfiguration, as uid 7: 0 items from nft: nft is not installed
                                    what to do: see that the agent may read this, or set "eventPriorityFirewallConfiguration": "off" in the twin
        "#);
        let refused = judge(EventName::Login, 7, Err(CollectError::NoCollector(EventName::Login)));
        assert!(refused.detail.starts_with("Login: no snapshot collector"), "{}", refused.detail);
    }
}

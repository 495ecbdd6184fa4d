//! What came and went is told once, whatever becomes of the snapshots.

use super::*;
use crate::collect::hardware::Recorder;
use crate::collect::snapshot::CollectError;
use crate::model::payload::Payload;
use crate::sys::clock::ManualClock;
use crate::sys::host::Host;
use crate::sys::uevent;

const NAME: EventName = EventName::ConnectedHardware;

#[tokio::test]
async fn what_a_failed_snapshot_had_to_tell_is_in_the_next_one() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("sys/devices")).unwrap();
    let host = Host::rooted(root.path());
    let clock = Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()));
    let recorder: Arc<Recorder> = Arc::default();
    let told = uevent::decode(b"remove@/devices/virtual/net/veth0\0SUBSYSTEM=net\0").unwrap();
    recorder.begin().notice(&host, &told, clock.now());

    let (core, from_core) = flume::bounded(8);
    let (health, mut healths) = mpsc::channel(8);
    let (_config, config) = watch::channel(Arc::new(AgentConfig::default()));
    let (_orders, out_of_turn) = mpsc::channel(1);
    let context = SnapshotContext { hotplug: Some(recorder), ..SnapshotContext::plain(host, Arc::clone(&clock) as _) };
    let crashes = Arc::default();
    let parts = SnapshotParts { context: context.clone(), clock, config, crashes, core, health, out_of_turn };
    let mut round = 0;
    for expected in [None, Some(1), Some(0)] {
        let context = context.clone();
        round += 1;
        let mut collectors = Collectors::new(move |name| {
            // The first one looks, and then fails.
            let taken = snapshot::take(name, &context)?;
            if round == 1 { Err(CollectError::NoCollector(name)) } else { Ok(taken) }
        });
        pass(&parts, &mut collectors, EventSet::of(&[NAME]), |_, _| {}).await;
        let expected_state = if expected.is_some() { HealthState::Ok } else { HealthState::Unavailable };
        assert_eq!(healths.recv().await.unwrap().state, expected_state);
        let gone = from_core.try_recv().ok().map(|told| match told {
            ToCore::Snapshot(snapshot) => {
                let is_gone = |item: &&Payload| matches!(item, Payload::ConnectedHardware(d) if d.extra_details["State"] == "removed");
                snapshot.items.iter().filter(is_gone).count()
            }
            _ => panic!("no snapshot"),
        });
        assert_eq!(gone, expected, "round {round}");
    }
}

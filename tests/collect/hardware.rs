//! Devices that really come and go: network interfaces, in a namespace of the test's own.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use twinward::collect::hardware::{Recorder, Watch, WatchStop};
use twinward::collect::snapshot::{self, SnapshotContext};
use twinward::model::event::{Event, EventName};
use twinward::model::ids::EventId;
use twinward::model::payload::{ConnectedHardware, Payload};
use twinward::sys::clock::{Clock, SystemClock};
use twinward::sys::host::Host;

use crate::{PATIENCE, assert_valid, clock};

/// Set in the process that is in the namespace.
const INSIDE: &str = "TWINWARD_TEST_INSIDE";

/// Runs the test with this name again, in a network namespace of its own whose devices are those in `/sys`.
#[expect(clippy::disallowed_methods, reason = "a process changes its namespace when it starts")]
fn again_in_a_namespace(test: &str) {
    let output = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", "mount -t sysfs none /sys && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", test])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

#[expect(clippy::disallowed_methods, reason = "the test makes devices")]
fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Ends the watch also if the test fails.
struct Ending(WatchStop);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Listens as the agent does.
struct Bench {
    context: SnapshotContext,
    recorder: Arc<Recorder>,
}

impl Bench {
    fn take(&self) -> Vec<ConnectedHardware> {
        let taken = snapshot::take(EventName::ConnectedHardware, &self.context).unwrap();
        assert_eq!((taken.health.source.as_str(), taken.health.detail.as_str()), ("/sys, uevents", ""));
        let snapshot = taken.snapshot;
        let item = |item: &Payload| match item {
            Payload::ConnectedHardware(item) => item.clone(),
            other => panic!("{other:?}"),
        };
        let items = snapshot.items.iter().map(item).collect();
        let event =
            Event { id: EventId::random(), name: snapshot.name, at: snapshot.at, payload: snapshot.items, hits: 1 };
        assert_valid(&[event]);
        items
    }

    /// Takes snapshots until one has an item with this name and state and a time of arrival; that item.
    #[expect(clippy::disallowed_methods, reason = "the test's own end")]
    fn seen(&self, name: &str, state: &str) -> ConnectedHardware {
        let end = Instant::now() + PATIENCE;
        loop {
            let all = self.take();
            let is_it = |item: &&ConnectedHardware| {
                let details = &item.extra_details;
                item.hardware_name == name && details["State"] == state && details.contains_key("ConnectedAt")
            };
            if let Some(found) = all.iter().find(is_it) {
                return found.clone();
            }
            assert!(Instant::now() < end, "{name} is not {state}: {all:?}");
        }
    }
}

/// Arrival, another name, departure, each with its time; what was there before has none, also if somebody lets the
/// kernel say again that it was added.
#[test]
#[ignore = "needs root; run by CI"]
fn a_device_that_comes_and_goes_is_told_with_its_times() {
    if std::env::var_os(INSIDE).is_none() {
        return again_in_a_namespace("hardware::a_device_that_comes_and_goes_is_told_with_its_times");
    }
    ip("link add old0 type veth peer name old1");
    let clock: Arc<dyn Clock> = clock();
    let recorder: Arc<Recorder> = Arc::default();
    let context =
        SnapshotContext { hotplug: Some(Arc::clone(&recorder)), ..SnapshotContext::plain(Host::system(), clock) };
    let bench = Bench { context, recorder };
    let mut watch = Watch::open().unwrap();
    let ending = Ending(watch.stop());
    let writer = bench.recorder.begin();
    let before = jiff::Timestamp::now();
    std::thread::scope(move |scope| {
        scope.spawn(move || {
            let clock = SystemClock::new(jiff::Timestamp::UNIX_EPOCH);
            watch.follow(&Host::system(), &clock, &writer).unwrap();
        });
        let _ending = ending;
        // The notice that was asked for comes before the others.
        std::fs::OpenOptions::new()
            .write(true)
            .open("/sys/class/net/old0/uevent")
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"add"))
            .unwrap();
        ip("link add new0 type veth peer name new1");
        let new = bench.seen("new0", "connected");
        assert_eq!(
            (new.hardware_category.as_str(), new.hardware_sub_category.as_str()),
            ("Network", "Virtual Adapter")
        );
        assert!(new.extra_details["MacAddress"].len() == 17, "{new:?}");
        let old = bench.take().into_iter().find(|item| item.hardware_name == "old0").unwrap();
        assert_eq!(old.extra_details.get("ConnectedAt"), None);

        ip("link set new0 name stick0");
        let renamed = bench.seen("stick0", "connected");
        assert_eq!(renamed.extra_details["ConnectedAt"], new.extra_details["ConnectedAt"]);
        assert!(!bench.take().iter().any(|item| item.hardware_name == "new0"));

        ip("link delete stick0");
        let gone = bench.seen("stick0", "removed");
        assert_eq!(gone.extra_details["ConnectedAt"], new.extra_details["ConnectedAt"]);
        assert_eq!(gone.extra_details["MacAddress"], new.extra_details["MacAddress"]);
        let time = |key: &str| gone.extra_details[key].parse::<jiff::Timestamp>().unwrap();
        let (came, went, after) = (time("ConnectedAt"), time("DisconnectedAt"), jiff::Timestamp::now());
        // Times are told in whole milliseconds.
        let before = before - std::time::Duration::from_millis(1);
        assert!(before <= came && came <= went && went <= after, "{before} {came} {went} {after}");
        bench.seen("new1", "removed");

        bench.context.taken_over(EventName::ConnectedHardware);
        assert!(bench.take().iter().all(|item| item.extra_details["State"] == "connected"));
    });
}

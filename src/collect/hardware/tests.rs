use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::time::{Mono, Timestamp};
use crate::sys::fixture;
use crate::sys::uevent::{self, Uevent};

/// `second` seconds after half past nine, one hour after boot.
fn at(second: u64) -> Now {
    let start: jiff::Timestamp = "2026-11-22T09:30:00Z".parse().unwrap();
    let wall = Timestamp::trusted(start + Duration::from_secs(second));
    Now { wall, mono: Mono::from_boot(Duration::from_secs(3600 + second)) }
}

fn items(found: Found) -> Vec<ConnectedHardware> {
    let item = |item| match item {
        Payload::ConnectedHardware(item) => item,
        other => panic!("{other:?}"),
    };
    found.items.into_iter().map(item).collect()
}

/// One device a line, its details below.
fn shown(found: Found) -> String {
    let mut text = String::new();
    for item in items(found) {
        text += &format!("{} | {} | {}\n", item.hardware_category, item.hardware_sub_category, item.hardware_name);
        for (key, value) in item.extra_details {
            text += &format!("    {key}: {value}\n");
        }
    }
    text
}

fn golden(name: &str) {
    let machine = fixture::machine(name);
    let found = collect(&machine.host, None, at(0));
    assert_eq!((found.missing.len(), found.source.as_str()), (0, "/sys"));
    insta::with_settings!({
        snapshot_path => "../../../tests/golden/hardware",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, shown(found));
    });
}

#[test]
fn a_board_is_described() {
    golden("board");
}

#[test]
fn a_pc_is_described() {
    golden("pc");
}

#[test]
fn a_machine_without_sys_says_so() {
    let root = tempfile::tempdir().unwrap();
    let found = collect(&Host::rooted(root.path()), None, at(0));
    assert_eq!((found.items.len(), found.unavailable.as_deref()), (0, Some("/sys is not mounted")));

    // An empty event that is taken over has told nothing.
    let bench = Bench::without_devices();
    bench.stick("remove", at(1));
    assert!(bench.found(at(2)).unavailable.is_some());
    bench.recorder.told();
    assert_eq!(bench.recorder.look().gone.len(), 1);
}

#[test]
fn more_devices_than_a_snapshot_holds_are_counted() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().unwrap();
    for directory in ["sys/devices", "sys/class/net"] {
        std::fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    for number in 0..LIMIT + 7 {
        let target = format!("../../devices/virtual/net/veth{number:04}");
        symlink(target, root.path().join(format!("sys/class/net/veth{number:04}"))).unwrap();
    }
    let found = collect(&Host::rooted(root.path()), None, at(0));
    assert_eq!((found.items.len(), found.missing.len()), (LIMIT, 1));
    assert_eq!(found.missing[0], "more than 1024 devices: 7 more are left out");
}

const STICK: &str = "/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2";

/// A recorder, and the machine whose devices it reads.
struct Bench {
    host: Host,
    _files: Option<fixture::Fixture>,
    recorder: Arc<Recorder>,
    writer: Writer,
}

impl Bench {
    fn new() -> Self {
        let files = fixture::machine("board");
        Self { host: files.host.clone(), _files: Some(files), ..Self::without_devices() }
    }

    fn without_devices() -> Self {
        let recorder: Arc<Recorder> = Arc::default();
        Self { host: Host::rooted("/nowhere"), _files: None, writer: recorder.begin(), recorder }
    }

    fn tell(&self, action: &str, path: &str, more: &str, now: Now) {
        let text = format!("{action}@{path}\0ACTION={action}\0DEVPATH={path}\0{more}");
        let told: Uevent<'_> = uevent::decode(text.as_bytes()).unwrap();
        self.writer.notice(&self.host, &told, now);
    }

    fn stick(&self, action: &str, now: Now) {
        self.tell(action, STICK, "SUBSYSTEM=usb\0DEVTYPE=usb_device\0PRODUCT=781/5567/100\0", now);
    }

    fn found(&self, now: Now) -> Found {
        collect(&self.host, Some(&self.recorder), now)
    }

    /// State and times of all items at the path.
    fn times(&self, path: &str, now: Now) -> Vec<String> {
        let all = items(self.found(now)).into_iter().filter(|item| item.extra_details["Path"] == path);
        let detail = |item: &ConnectedHardware, key: &str| item.extra_details.get(key).cloned().unwrap_or("-".into());
        all.map(|item| ["State", "ConnectedAt", "DisconnectedAt"].map(|key| detail(&item, key)).join(" ")).collect()
    }

    fn pull_out(&self) {
        let host = &self.host;
        std::fs::remove_dir_all(host.path(format!("/sys{STICK}"))).unwrap();
        for link in ["bus/usb/devices/1-1.2", "bus/usb/devices/1-1.2:1.0", "class/block/sda", "class/block/sda1"] {
            std::fs::remove_file(host.path(format!("/sys/{link}"))).unwrap();
        }
    }
}

#[test]
fn a_stick_that_was_in_for_a_minute_is_in_the_next_message() {
    let bench = Bench::new();
    bench.stick("add", at(10));
    assert_eq!(bench.times(STICK, at(20)), ["connected 2026-11-22T09:30:10.000Z -"]);
    bench.pull_out();
    bench.stick("remove", at(70));
    let expected = ["removed 2026-11-22T09:30:10.000Z 2026-11-22T09:31:10.000Z"];
    assert_eq!(bench.times(STICK, at(80)), expected);
    assert_eq!(bench.times(STICK, at(90)), expected, "nobody took it over yet");
    bench.recorder.told();
    assert_eq!(bench.times(STICK, at(100)), [""; 0]);
}

#[test]
fn what_is_pulled_out_keeps_what_was_known_of_it() {
    let bench = Bench::new();
    // It was there before we listened, and a snapshot has shown it.
    assert_eq!(bench.times(STICK, at(0)), ["connected - -"]);
    bench.pull_out();
    bench.stick("remove", at(5));
    let gone = items(bench.found(at(6))).pop().unwrap();
    assert_eq!((gone.hardware_name.as_str(), gone.hardware_sub_category.as_str()), ("Ultra Fit [31m", "Mass Storage"));
    assert_eq!(gone.extra_details["Serial"], "4C530001230912109123");
    assert_eq!(gone.extra_details["Vendor"], "SanDisk Corp.");
    assert_eq!(gone.extra_details.get("ConnectedAt"), None);
    assert_eq!(gone.extra_details["DisconnectedAt"], "2026-11-22T09:30:05.000Z");
}

#[test]
fn what_was_gone_before_it_could_be_read_is_what_the_kernel_said() {
    let bench = Bench::new();
    bench.pull_out();
    bench.stick("add", at(5));
    bench.stick("remove", at(6));
    let gone = items(bench.found(at(7))).pop().unwrap();
    // The list of ids knows it all the same.
    assert_eq!(gone.hardware_name, "SanDisk Corp. Cruzer Blade");
    assert_eq!((gone.extra_details["VendorId"].as_str(), gone.extra_details["ProductId"].as_str()), ("0781", "5567"));
    assert_eq!(gone.extra_details["ConnectedAt"], "2026-11-22T09:30:05.000Z");
}

#[test]
fn what_somebody_asked_for_is_no_arrival() {
    let bench = Bench::new();
    bench.tell("add", STICK, "SUBSYSTEM=usb\0DEVTYPE=usb_device\0SYNTH_UUID=0\0", at(5));
    assert_eq!(bench.times(STICK, at(6)), ["connected - -"]);
    bench.tell("remove", STICK, "SUBSYSTEM=usb\0DEVTYPE=usb_device\0SYNTH_UUID=0\0", at(7));
    assert_eq!(bench.times(STICK, at(8)), ["connected - -"]);
}

#[test]
fn what_is_no_device_of_its_own_is_not_told() {
    let bench = Bench::new();
    let disk = format!("{STICK}/1-1.2:1.0/host0/target0:0:0/0:0:0:0/block/sda");
    bench.tell("remove", &format!("{disk}/sda1"), "SUBSYSTEM=block\0DEVTYPE=partition\0", at(5));
    bench.tell("remove", "/devices/virtual/block/loop0", "SUBSYSTEM=block\0DEVTYPE=disk\0", at(5));
    bench.tell("remove", "/devices/virtual/bdi/8:0", "SUBSYSTEM=bdi\0", at(5));
    bench.tell("remove", "/devices/virtual/x", "", at(5));
    assert!(items(bench.found(at(9))).iter().all(|item| item.extra_details["State"] == "connected"));
    bench.tell("remove", &disk, "SUBSYSTEM=block\0DEVTYPE=disk\0", at(5));
    let gone = items(bench.found(at(9))).pop().unwrap();
    assert_eq!((gone.hardware_sub_category.as_str(), gone.extra_details["State"].as_str()), ("USB Disk", "removed"));
}

/// The kernel tells of a device before its interfaces are there.
#[test]
fn interfaces_that_come_later_are_read() {
    let bench = Bench::new();
    let interface = bench.host.path(format!("/sys{STICK}/1-1.2:1.0"));
    let aside = interface.with_file_name("aside");
    std::fs::rename(&interface, &aside).unwrap();
    bench.stick("add", at(1));
    std::fs::rename(&aside, &interface).unwrap();
    let path = format!("{STICK}/1-1.2:1.0");
    bench.tell("add", &path, "SUBSYSTEM=usb\0DEVTYPE=usb_interface\0", at(1));
    bench.pull_out();
    bench.stick("remove", at(2));
    let gone = items(bench.found(at(3))).pop().unwrap();
    assert_eq!(
        (gone.hardware_sub_category.as_str(), gone.extra_details["Class"].as_str()),
        ("Mass Storage", "08/06/50")
    );
    assert_eq!(gone.extra_details["Driver"], "usb-storage");
}

#[test]
fn an_interface_that_gets_another_name_is_the_same() {
    let bench = Bench::new();
    let old = "/devices/virtual/net/veth1a";
    bench.tell("add", old, "SUBSYSTEM=net\0INTERFACE=veth1a\0", at(1));
    let more = format!("SUBSYSTEM=net\0INTERFACE=up0\0DEVPATH_OLD={old}\0");
    bench.tell("move", "/devices/virtual/net/up0", &more, at(2));
    bench.tell("remove", "/devices/virtual/net/up0", "SUBSYSTEM=net\0INTERFACE=up0\0", at(3));
    assert_eq!(bench.times(old, at(4)), [""; 0]);
    let expected = ["removed 2026-11-22T09:30:01.000Z 2026-11-22T09:30:03.000Z"];
    assert_eq!(bench.times("/devices/virtual/net/up0", at(4)), expected);
}

#[test]
fn a_flood_is_counted_and_does_not_push_out_hardware() {
    let bench = Bench::new();
    for number in 0..300 {
        let path = format!("/devices/virtual/net/veth{number}");
        bench.tell("add", &path, "SUBSYSTEM=net\0", at(1));
        bench.tell("remove", &path, "SUBSYSTEM=net\0", at(2));
    }
    for number in 0..200 {
        let path = format!("/devices/pci0000:00/usb9/9-{number}");
        bench.tell("remove", &path, "SUBSYSTEM=usb\0DEVTYPE=usb_device\0", at(3));
    }
    bench.writer.lost();
    let found = bench.found(at(4));
    assert_eq!(
        found.missing,
        [
            "notices about devices were lost 1 time(s) since the last snapshot",
            "244 more devices that went are left out",
        ]
    );
    let gone: Vec<_> = items(found).into_iter().filter(|item| item.extra_details["State"] == "removed").collect();
    let of_usb = gone.iter().filter(|item| item.hardware_category == "USB").count();
    assert_eq!((gone.len(), of_usb), (256, 192));
    bench.recorder.told();
    assert_eq!(bench.found(at(5)).missing, [""; 0]);
}

#[test]
fn a_clock_that_was_set_since_does_not_falsify_times() {
    let at_boot = Now { wall: Timestamp { utc: jiff::Timestamp::UNIX_EPOCH, trusted: false }, mono: at(0).mono };
    assert_eq!(recorder::time(at_boot, at(60)), "2026-11-22T09:30:00.000Z");
    assert_eq!(recorder::time(at(3), at(60)), "2026-11-22T09:30:03.000Z");
}

#[test]
fn who_was_replaced_is_not_heard() {
    let bench = Bench::new();
    bench.stick("remove", at(1));
    let _new = bench.recorder.begin();
    bench.stick("add", at(2));
    assert_eq!(bench.recorder.look().gone.len(), 1, "what is not told yet is kept");
    assert_eq!(bench.recorder.look().connected.len(), 0);
    bench.recorder.forget();
    assert_eq!(bench.recorder.look().gone.len(), 0);
    bench.recorder.nobody_listens("as planned by the test".to_owned());
    let missing = bench.found(at(3)).missing;
    assert_eq!(missing, ["devices that come and go between two snapshots are not seen: as planned by the test"]);
}

/// What the model of the recorder does.
#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Remove(u8),
    /// A snapshot that is taken over, or one that fails.
    Snapshot(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![(0_u8..4).prop_map(Step::Add), (0_u8..4).prop_map(Step::Remove), any::<bool>().prop_map(Step::Snapshot),]
}

proptest! {
    /// Each departure is in exactly one snapshot that was taken over, with the time of its arrival if that was seen.
    #[test]
    fn each_departure_is_told_once(steps in prop::collection::vec(step(), 0..60)) {
        let bench = Bench::without_devices();
        let path = |number: u8| format!("/devices/virtual/net/veth{number}");
        let mut there: [Option<u64>; 4] = [None; 4];
        let (mut expected, mut told) = (Vec::new(), Vec::new());
        for (second, step) in (0_u64..).zip(steps.into_iter().chain([Step::Snapshot(true)])) {
            match step {
                Step::Add(number) => {
                    bench.tell("add", &path(number), "SUBSYSTEM=net\0", at(second));
                    there[usize::from(number)] = Some(second);
                }
                Step::Remove(number) => {
                    bench.tell("remove", &path(number), "SUBSYSTEM=net\0", at(second));
                    expected.push((path(number), there[usize::from(number)].take().map(at), at(second)));
                }
                Step::Snapshot(works) => {
                    let look = bench.recorder.look();
                    let listed: Vec<Device> = (0_u8..4).filter(|n| there[usize::from(*n)].is_some()).map(|number| {
                        let path = path(number);
                        Device::new("Network", "", &sysfs::Device::at(&bench.host, &path))
                    }).collect();
                    let known: Vec<_> = (0_u8..4).filter_map(|n| Some((path(n), at(there[usize::from(n)]?)))).collect();
                    prop_assert_eq!(look.connected.into_iter().collect::<Vec<_>>(), known);
                    bench.recorder.listed(look.mark, &listed);
                    if works {
                        told.extend(look.gone.into_iter().map(|g| (g.device.details["Path"].clone(), g.connected, g.at)));
                        bench.recorder.told();
                    }
                }
            }
        }
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn any_notice_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..100), action in 0_usize..3, kind in 0..KINDS.len()) {
        let bench = Bench::without_devices();
        let mut text = format!("{}@{STICK}\0SUBSYSTEM={}\0", ["add", "remove", "move"][action], KINDS[kind].0).into_bytes();
        text.extend(bytes);
        if let Some(told) = uevent::decode(&text) {
            bench.writer.notice(&bench.host, &told, at(1));
        }
        let _ = bench.recorder.look();
    }
}

use super::*;
use crate::sys::fixture;

/// The item as it is sent, a golden file for each machine.
fn golden(name: &str) {
    let machine = fixture::machine(name);
    let found = collect(&machine.host);
    assert_eq!(found.missing, [""; 0]);
    let [Payload::SystemInformation(item)] = &found.items[..] else { panic!("{found:?}") };
    insta::with_settings!({
        snapshot_path => "../../../tests/golden/system_information",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, serde_json::to_string_pretty(item).unwrap());
    });
}

/// Raspberry Pi OS with 64 bits, which says that it is Debian.
#[test]
fn a_board_is_described() {
    golden("board");
}

/// Fedora on a PC; its root is laid over something that is not to be seen.
#[test]
fn a_pc_is_described() {
    golden("pc");
}

/// Programs for 32 bits on a kernel with 64, and a read-only root under an overlay.
#[test]
fn a_board_with_an_older_userland_is_described() {
    golden("pi-32bit");
}

/// Yocto with busybox, on flash that the kernel mounts itself.
#[test]
fn a_small_image_is_described() {
    golden("poky");
}

#[test]
fn a_machine_without_files_says_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let found = collect(&Host::rooted(root.path()));
    assert_eq!((found.items.len(), found.missing.len()), (1, 1));
    assert_eq!(found.missing[0], "/proc/meminfo is not readable");
}

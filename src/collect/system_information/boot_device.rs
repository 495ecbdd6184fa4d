//! The device of the root file system, also if `/` is only laid over it.
//!
//! `/proc/mounts` (`fstab(5)`): source, mount point, kind, options, two numbers; blank, tab, line end and backslash are
//! `\` and three octal digits.

use super::{Facts, SMALL};
use crate::sys::host::Host;
use crate::sys::mounts;

const MOUNTS: usize = 1 << 20;
/// An overlay over a loop device over a partition, and one more.
const DEEPEST: usize = 4;
/// More disks than a volume lies on.
const DISKS: usize = 64;

/// One line of `/proc/mounts`.
#[derive(Debug)]
struct Mount {
    source: String,
    point: String,
    kind: String,
    options: String,
}

fn parse(text: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let mut fields = line.split(' ');
        let mut next = || fields.next().map(unescape);
        Some(Mount { source: next()?, point: next()?, kind: next()?, options: next()? })
    };
    text.lines().filter_map(line).take(mounts::MOUNT_LIMIT).collect()
}

fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The device; and `RootFileSystem`, the kind of what is mounted on `/`, and `BootDisks`, what a logical volume lies on.
pub(super) fn tell(host: &Host, facts: &mut Facts) -> Option<String> {
    let mounts = parse(&host.read_text("/proc/mounts", MOUNTS).unwrap_or_default());
    let root = mounts.iter().rfind(|mount| mount.point == "/");
    facts.tell("RootFileSystem", root.map(|mount| mount.kind.clone()));
    let device = root
        .and_then(|mount| device_of(host, &mounts, mount, DEEPEST))
        .or_else(|| told_to_the_kernel(host, &host.read_text("/proc/cmdline", SMALL).unwrap_or_default()));
    facts.tell("BootDisks", device.as_deref().and_then(|device| disks(host, device)));
    device
}

/// The device of a mount; `left` is how many file systems may lie on one another.
fn device_of(host: &Host, mounts: &[Mount], mount: &Mount, left: usize) -> Option<String> {
    let left = left.checked_sub(1)?;
    let source = mount.source.as_str();
    match mount.kind.as_str() {
        "overlay" | "overlayfs" => {
            // The lowest of its layers is what the machine was started from.
            let layers = mount.options.split(',').find_map(|option| option.strip_prefix("lowerdir="))?;
            let lowest = layers.rsplit(':').next()?;
            device_of(host, mounts, holder(mounts, lowest)?, left)
        }
        "tmpfs" | "ramfs" | "rootfs" => None,
        "ubifs" | "nfs" | "nfs4" | "9p" | "virtiofs" => Some(source.to_owned()),
        _ if source.starts_with("/dev/loop") => {
            let name = source.strip_prefix("/dev/")?;
            let file = host.read_text(format!("/sys/class/block/{name}/loop/backing_file"), SMALL).unwrap_or_default();
            let under = holder(mounts, file.trim_end()).and_then(|mount| device_of(host, mounts, mount, left));
            under.or_else(|| Some(source.to_owned()))
        }
        _ if source.starts_with("/dev/") && source != "/dev/root" => Some(source.to_owned()),
        _ => by_mount_number(host, &mount.point),
    }
}

/// The mount that holds a path, other than `/` itself.
fn holder<'a>(mounts: &'a [Mount], path: &str) -> Option<&'a Mount> {
    let holds = |mount: &&Mount| {
        let rest = path.strip_prefix(mount.point.as_str());
        mount.point != "/" && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // Of two on the same point the later one counts.
    mounts.iter().filter(holds).max_by_key(|mount| mount.point.len())
}

/// By the number of the device, for a source that names none (`/dev/root`).
fn by_mount_number(host: &Host, point: &str) -> Option<String> {
    let table = mounts::parse(&host.read("/proc/self/mountinfo", MOUNTS).ok()?);
    let mount = table.into_iter().rfind(|mount| mount.point == std::path::Path::new(point))?;
    by_number(host, mount.device)
}

fn by_number(host: &Host, (major, minor): (u32, u32)) -> Option<String> {
    // Without a device of its own, a file system has major number 0.
    let target = host.read_link(format!("/sys/dev/block/{major}:{minor}")).ok().filter(|_| major != 0)?;
    Some(format!("/dev/{}", target.file_name()?.to_str()?.replace('!', "/")))
}

/// What the boot loader told the kernel: the last `root=`. It is resolved if it can be, else it stays as it is.
fn told_to_the_kernel(host: &Host, command_line: &str) -> Option<String> {
    let root = command_line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("root=")).next_back()?;
    let by =
        [("PARTUUID=", "by-partuuid"), ("PARTLABEL=", "by-partlabel"), ("UUID=", "by-uuid"), ("LABEL=", "by-label")];
    let linked = || {
        let (directory, name) = by.into_iter().find_map(|(tag, by)| Some((by, root.strip_prefix(tag)?)))?;
        let target = host.read_link(format!("/dev/disk/{directory}/{name}")).ok().filter(|_| !name.contains('/'))?;
        Some(format!("/dev/{}", target.file_name()?.to_str()?))
    };
    let numbered = || {
        let number = if let Some((major, minor)) = root.split_once(':') {
            (major.parse().ok()?, minor.parse().ok()?)
        } else {
            let number = u32::from_str_radix(root, 16).ok().filter(|number| *number <= 0xffff)?;
            (number >> 8, number & 0xff)
        };
        by_number(host, number)
    };
    linked().or_else(numbered).or_else(|| Some(root.to_owned()).filter(|root| !root.is_empty()))
}

/// The partitions or disks that a mapped device lies on.
fn disks(host: &Host, device: &str) -> Option<String> {
    const BLOCK: &str = "/sys/class/block";
    let name = device.strip_prefix("/dev/")?;
    let name = match name.strip_prefix("mapper/") {
        Some(mapped) => {
            let all = host.list(BLOCK, 4096).ok()?;
            let mut all = all.iter().filter_map(|name| name.to_str()).filter(|name| name.starts_with("dm-"));
            all.find(|name| {
                let given = host.read_text(format!("{BLOCK}/{name}/dm/name"), SMALL);
                given.is_ok_and(|given| given.trim_end() == mapped)
            })?
            .to_owned()
        }
        None => name.to_owned(),
    };
    let mut under: Vec<String> = host
        .list(format!("{BLOCK}/{name}/slaves"), DISKS)
        .ok()?
        .iter()
        .filter_map(|name| Some(format!("/dev/{}", name.to_str()?)))
        .collect();
    under.sort_unstable();
    (!under.is_empty()).then(|| under.join(", "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;
    use crate::sys::fixture;

    /// The device, with these tables of mounts, this command line, and links `PATH -> TARGET`.
    fn device(mounts: &str, mountinfo: &str, command_line: &str, links: &[(&str, &str)]) -> Option<String> {
        let files = [("proc/mounts", mounts), ("proc/self/mountinfo", mountinfo), ("proc/cmdline", command_line)];
        let machine = fixture::made(&files);
        for (path, target) in links {
            let path = machine.host.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }
        tell(&machine.host, &mut Facts::default())
    }

    const PARTITION: (&str, &str) = ("sys/dev/block/179:2", "../../devices/mmc0/block/mmcblk0/mmcblk0p2");

    #[test]
    fn a_device_is_named_as_it_is_mounted() {
        let of = |mounts: &str| device(mounts, "", "root=/dev/sda1", &[]);
        assert_eq!(of("/dev/mmcblk0p2 / ext4 rw 0 0\n").as_deref(), Some("/dev/mmcblk0p2"));
        assert_eq!(of("/dev/my\\040disk / ext4 rw 0 0\n").as_deref(), Some("/dev/my disk"));
        assert_eq!(of("/dev/mapper/vg-root / ext4 rw 0 0\n").as_deref(), Some("/dev/mapper/vg-root"));
        assert_eq!(of("ubi0:rootfs / ubifs ro 0 0\n").as_deref(), Some("ubi0:rootfs"));
        assert_eq!(of("192.168.1.1:/srv/pi / nfs4 rw 0 0\n").as_deref(), Some("192.168.1.1:/srv/pi"));
        assert_eq!(of("rootfs / rootfs rw 0 0\n/dev/sdb2 / ext4 rw 0 0\n").as_deref(), Some("/dev/sdb2"));
    }

    #[test]
    fn what_the_kernel_mounted_itself_is_known_by_its_number() {
        let mountinfo = "20 1 179:2 / / ro - squashfs /dev/root ro\n";
        let of = |links: &[(&str, &str)]| {
            device("/dev/root / squashfs ro 0 0\n", mountinfo, "root=PARTUUID=4c4e106f-02", links)
        };
        assert_eq!(of(&[PARTITION]).as_deref(), Some("/dev/mmcblk0p2"));
        assert_eq!(of(&[]).as_deref(), Some("PARTUUID=4c4e106f-02"), "better than nothing");
        let by_id = ("dev/disk/by-partuuid/4c4e106f-02", "../../mmcblk0p2");
        assert_eq!(of(&[by_id]).as_deref(), Some("/dev/mmcblk0p2"));
    }

    #[test]
    fn an_overlay_is_where_its_lowest_layer_is() {
        let mounts = "/dev/mmcblk0p2 /media/root-ro ext4 ro 0 0\n\
            tmpfs-root /media/root-rw tmpfs rw 0 0\n\
            overlayroot / overlay rw,lowerdir=/media/root-rw/x:/media/root-ro,upperdir=/media/root-rw/overlay 0 0\n";
        assert_eq!(device(mounts, "", "root=x", &[]).as_deref(), Some("/dev/mmcblk0p2"));
        // The layers of a container are not to be seen in it.
        let docker = "overlay / overlay rw,lowerdir=/var/lib/docker/overlay2/l/A:/var/lib/docker/overlay2/l/B 0 0\n";
        assert_eq!(device(docker, "", "quiet root=/dev/vda1", &[]).as_deref(), Some("/dev/vda1"));
        // One that lies on itself has an end.
        let mounts = "overlay /a overlay rw,lowerdir=/a/b 0 0\noverlay / overlay rw,lowerdir=/a 0 0\n";
        assert_eq!(device(mounts, "", "", &[]), None);
    }

    #[test]
    fn the_last_root_of_the_command_line_counts() {
        let of = |line: &str| device("none / rootfs rw 0 0\n", "", line, &[PARTITION]);
        assert_eq!(of("root=/dev/ram0 quiet root=/dev/sda3 ro").as_deref(), Some("/dev/sda3"));
        assert_eq!(
            (of("root=179:2").as_deref(), of("root=b302").as_deref()),
            (Some("/dev/mmcblk0p2"), Some("/dev/mmcblk0p2"))
        );
        assert_eq!(of("root=ubi0:rootfs ubi.mtd=3").as_deref(), Some("ubi0:rootfs"));
        assert_eq!(of("root=/dev/nfs nfsroot=1.2.3.4:/x").as_deref(), Some("/dev/nfs"));
        assert_eq!(of("root=UUID=../../../etc/x").as_deref(), Some("UUID=../../../etc/x"));
        assert_eq!((of("quiet"), of("root=")), (None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\n]{0,200}", options in "[ -~]{0,80}") {
            let host = Host::rooted("/nowhere");
            let _ = told_to_the_kernel(&host, &text);
            let _ = told_to_the_kernel(&host, &format!("root={text}"));
            let mounts = parse(&format!("x / overlay lowerdir={options} 0 0\n{text}"));
            for mount in &mounts {
                let _ = device_of(&host, &mounts, mount, DEEPEST);
            }
        }
    }
}

//! Modules of the kernel: which are loaded (`/proc/modules`, one a line, name first), built in or there to be loaded
//! (`/lib/modules/RELEASE/modules.builtin` and `modules.dep`, one path a line), and which `modprobe.d(5)` keeps from
//! being loaded: `install NAME /bin/false`, or `module_blacklist=` on the kernel's command line. `blacklist` in
//! `modprobe.d` keeps only the hardware from asking for a module. `-` and `_` are the same.

use std::ops::ControlFlow;

use super::host::Host;
use super::text_file::{self, TEXT_LIMIT, Unreadable};

const DIRECTORIES: [&str; 5] =
    ["/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"];
/// Debian's `modules.dep` has 0.7 MB.
const LIST: usize = 8 << 20;

/// Whether a module is loaded or part of the kernel itself.
///
/// # Errors
/// A list cannot be read.
pub fn loaded(host: &Host, name: &str) -> Result<bool, Unreadable> {
    let name = plain(name);
    let is = |line: &str| line.split_ascii_whitespace().next().map(plain).as_deref() == Some(&*name);
    if any_line(host, "/proc/modules", is)? {
        return Ok(true);
    }
    for directory in directories(host)? {
        if any_line(host, &format!("{directory}/modules.builtin"), |line| names(line, &name))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a module could be loaded: its file is there, and nothing keeps `modprobe` from it.
///
/// # Errors
/// A list or a file of `modprobe.d` cannot be read.
pub fn loadable(host: &Host, name: &str) -> Result<bool, Unreadable> {
    let name = plain(name);
    let mut there = false;
    for directory in directories(host)? {
        let is = |line: &str| line.split(':').next().is_some_and(|path| names(path, &name));
        there |= any_line(host, &format!("{directory}/modules.dep"), is)?;
    }
    Ok(there && !refused(host, &name)?)
}

/// Where the lists are: of the running kernel; of an image those of all its kernels. A service for which systemd hides
/// the modules sees them through the first process, if it may.
fn directories(host: &Host) -> Result<Vec<String>, Unreadable> {
    const PLACE: &str = "/lib/modules";
    let releases = match text_file::read(host, "/proc/sys/kernel/osrelease", 256)? {
        Some(release) => vec![release.trim().to_owned()],
        None => text_file::names(host, PLACE, 16)?,
    };
    let directory = |release: String| {
        let plain = format!("{PLACE}/{release}");
        let hidden = host.is_live() && host.facts(&plain).is_err();
        if hidden { format!("/proc/1/root{plain}") } else { plain }
    };
    Ok(releases.into_iter().filter(|release| !release.contains('/')).map(directory).collect())
}

fn refused(host: &Host, name: &str) -> Result<bool, Unreadable> {
    let words = text_file::read(host, "/proc/cmdline", TEXT_LIMIT)?.unwrap_or_default();
    let mut listed = words.split_ascii_whitespace().filter_map(|word| word.strip_prefix("module_blacklist="));
    if listed.any(|list| list.split(',').any(|module| plain(module) == name)) {
        return Ok(true);
    }
    for path in text_file::drop_ins(host, &DIRECTORIES, ".conf")? {
        if text_file::read(host, path, TEXT_LIMIT)?.is_some_and(|text| refuses(&text, name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the text of a file of `modprobe.d` lets another program that does nothing run in place of loading.
#[must_use]
pub fn refuses(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next() == Some("install")
            && words.next().map(plain).as_deref() == Some(name)
            && words.next().and_then(|program| program.rsplit('/').next()).is_some_and(|p| p == "false" || p == "true")
    })
}

fn any_line(host: &Host, path: &str, mut is: impl FnMut(&str) -> bool) -> Result<bool, Unreadable> {
    let mut found = false;
    text_file::each_line(host, path, LIST, |line| {
        found |= is(line);
        if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found)
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// Whether the path of a module's file is that of this module: `kernel/drivers/usb/storage/usb-storage.ko.xz`.
fn names(path: &str, name: &str) -> bool {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    let stem = file.split_once(".ko").map_or(file, |(stem, _)| stem);
    stem.len() == name.len() && plain(stem) == name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::fixture;

    #[test]
    fn what_is_loaded_built_in_or_refused_is_known() {
        let machine = fixture::made(&[]);
        let host = &machine.host;
        let put = |path, text| machine.put(path, text);
        let of = |name| (loaded(host, name).unwrap(), loadable(host, name).unwrap());
        assert_eq!(of("usb-storage"), (false, false));
        put("proc/modules", "cramfs 16384 0 - Live 0x0\n");
        put("proc/sys/kernel/osrelease", "6.1.0-13-arm64\n");
        put("lib/modules/6.1.0-13-arm64/modules.builtin", "kernel/fs/squashfs/squashfs.ko\n");
        put(
            "lib/modules/6.1.0-13-arm64/modules.dep",
            "kernel/drivers/usb/storage/usb-storage.ko.xz: kernel/a/scsi_mod.ko.xz\nkernel/fs/cramfs/cramfs.ko:\n\
             kernel/net/dccp/dccp.ko:\n",
        );
        put("lib/modules/5.0/modules.dep", "kernel/net/old.ko:\n");
        assert_eq!((of("usb_storage"), of("cramfs"), of("squashfs")), ((false, true), (true, true), (true, false)));
        assert_eq!((of("scsi_mod"), of("old")), ((false, false), (false, false)));
        put("etc/modprobe.d/a.conf", "blacklist dccp\n#install dccp /bin/false\n");
        assert_eq!(of("dccp"), (false, true));
        put("lib/modprobe.d/b.conf", "install usb_storage /usr/bin/false\ninstall dccp /bin/true\n");
        assert_eq!((of("usb-storage"), of("dccp")), ((false, false), (false, false)));
        put("proc/cmdline", "quiet module_blacklist=x,cramfs\n");
        assert_eq!(of("cramfs"), (true, false));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\n]{0,200}") {
            let _ = refuses(&text, "dccp");
            let _ = names(&text, "dccp");
        }
    }
}

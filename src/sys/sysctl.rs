//! Kernel parameters: what is in force (`/proc/sys`), and for an image what would be set at its start (`sysctl.d(5)`).
//!
//! `sysctl.d` has lines `name = value`; a `-` in front of the name ignores failures; `#` and `;` begin comments; `*` in
//! a name stands for anything between two dots. Of two files with one name in two directories the earlier directory's
//! counts; the files are taken in the order of their names, `/etc/sysctl.conf` last, and the last value wins.

use super::glob::fits;
use super::host::Host;
use super::text_file::{self, TEXT_LIMIT, Unreadable};

const ROOT: &str = "/proc/sys";
const DIRECTORIES: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
const VALUE: usize = 4096;

/// The value of a parameter such as `kernel.kptr_restrict`; `None` if there is no such parameter, or none is set.
///
/// # Errors
/// It, or a file of `sysctl.d`, cannot be read.
pub fn value(host: &Host, name: &str) -> Result<Option<String>, Unreadable> {
    if host.facts(format!("{ROOT}/kernel")).is_ok() {
        let path = format!("{ROOT}/{}", slashed(name));
        let text = text_file::read(host, path, VALUE)?;
        return Ok(text.map(|text| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")));
    }
    let mut value = None;
    for path in text_file::drop_ins(host, &DIRECTORIES, ".conf")?.into_iter().chain(["/etc/sysctl.conf".to_owned()]) {
        let text = text_file::read(host, path, TEXT_LIMIT)?.unwrap_or_default();
        value = set_in(&text, name).or(value);
    }
    Ok(value)
}

/// In the form of a path: whichever of dot and slash comes first parts the components.
fn slashed(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.get(at..).is_some_and(|rest| rest.starts_with('.')) => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// What the text of a file of `sysctl.d` sets a parameter to.
#[must_use]
pub fn set_in(text: &str, name: &str) -> Option<String> {
    let wanted = slashed(name);
    let line = |line: &str| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (key, value) = line.split_once('=')?;
        let key = slashed(key.trim().trim_start_matches('-'));
        let same = key == wanted || (key.contains('*') && same_components(&key, &wanted));
        same.then(|| value.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
    };
    text.lines().filter_map(line).next_back()
}

fn same_components(pattern: &str, name: &str) -> bool {
    pattern.split('/').count() == name.split('/').count()
        && pattern.split('/').zip(name.split('/')).all(|(p, n)| fits(p.as_bytes(), n.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::fixture;

    #[test]
    fn the_last_setting_of_an_image_wins() {
        let machine = fixture::made(&[]);
        let host = &machine.host;
        let put = |path, text| machine.put(path, text);
        put("usr/lib/sysctl.d/50-default.conf", "kernel.sysrq = 16\nnet.ipv4.conf.*.rp_filter = 2\n");
        put("usr/lib/sysctl.d/60-hidden.conf", "kernel.sysrq = 1\n");
        put("etc/sysctl.d/60-hidden.conf", "# kernel.sysrq = 3\n-kernel/dmesg_restrict=1\n");
        assert_eq!(value(host, "kernel.sysrq").unwrap().as_deref(), Some("16"));
        assert_eq!(value(host, "kernel.dmesg_restrict").unwrap().as_deref(), Some("1"));
        assert_eq!(value(host, "net.ipv4.conf.all.rp_filter").unwrap().as_deref(), Some("2"));
        assert_eq!(value(host, "net.ipv4.ip_forward").unwrap(), None);
        put("etc/sysctl.conf", "kernel.sysrq=0");
        assert_eq!(value(host, "kernel.sysrq").unwrap().as_deref(), Some("0"));
        put("proc/sys/kernel/sysrq", "438\n");
        assert_eq!(value(host, "kernel.sysrq").unwrap().as_deref(), Some("438"));
        assert_eq!(value(host, "kernel.dmesg_restrict").unwrap(), None);
        put("proc/sys/net/ipv4/conf/eth0.1/rp_filter", "1\n");
        assert_eq!(value(host, "net/ipv4/conf/eth0.1/rp_filter").unwrap().as_deref(), Some("1"));
        assert_eq!(value(host, "net.ipv4.conf.eth0/1.rp_filter").unwrap().as_deref(), Some("1"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\n]{0,200}", name in "[a-z./*]{0,20}") {
            let _ = set_in(&text, &name);
        }
    }
}

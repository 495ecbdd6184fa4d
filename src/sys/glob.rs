//! Paths with `*` in their components, as a shell would complete them: `*` stands for any characters but `/`, and not
//! for a dot at the beginning.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::host::{FileFacts, FileKind, Host};
use super::text_file::{Unreadable, present};

/// More names than a directory on a board has; the rest is not looked at.
const NAMES: usize = 8192;
/// So many places are looked at, at most, at a time.
const OPEN: usize = 16_384;
/// And so many in all.
const VISITS: usize = 65_536;

/// What a pattern stands for.
#[derive(Debug, Default)]
pub struct Paths {
    /// All that exist, sorted.
    pub paths: Vec<PathBuf>,
    /// Whether there are more than were asked for.
    pub cut: bool,
}

/// Everything that exists and fits an absolute pattern. A link that leads nowhere does not exist, nor does one from
/// outside of `/dev` to a device: so units, rules and settings are masked, with a link to `/dev/null`.
///
/// # Errors
/// A directory that cannot be read.
pub fn expand(host: &Host, pattern: &str, limit: usize) -> Result<Paths, Unreadable> {
    let mut found = Paths::default();
    let components: Vec<&str> = pattern.split('/').filter(|c| !c.is_empty()).collect();
    let mut open = VecDeque::from([(PathBuf::from("/"), 0)]);
    let mut visited = 0;
    while let Some((mut path, mut at)) = open.pop_front() {
        visited += 1;
        if visited > VISITS {
            found.cut = true;
            break;
        }
        while let Some(component) = components.get(at).filter(|c| !c.contains('*')) {
            path.push(component);
            at += 1;
        }
        let Some(component) = components.get(at) else {
            if present(&path, host.facts(&path))?.is_some_and(|facts| !is_mask(host, &path, facts)) {
                if found.paths.len() == limit {
                    found.cut = true;
                    break;
                }
                found.paths.push(path);
            }
            continue;
        };
        let mut names = present(&path, host.list(&path, NAMES + 1))?.unwrap_or_default();
        found.cut |= names.len() > NAMES;
        names.sort_unstable();
        for name in names.iter().filter(|name| fits(component.as_bytes(), name.as_bytes())) {
            if open.len() > OPEN {
                found.cut = true;
                break;
            }
            open.push_back((path.join(name), at + 1));
        }
    }
    found.paths.sort_unstable();
    Ok(found)
}

fn is_mask(host: &Host, path: &Path, facts: FileFacts) -> bool {
    facts.kind == FileKind::Device
        && !path.starts_with("/dev")
        && host.link_facts(path).is_ok_and(|own| own.kind == FileKind::Link)
}

/// Whether a name fits a pattern.
#[must_use]
pub fn fits(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    // Where to go on after the last star: one letter further in the name than the time before.
    let (mut p, mut n, mut again) = (0, 0, None);
    while let Some(letter) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                again = Some((p + 1, n));
                p += 1;
            }
            Some(wanted) if wanted == letter => (p, n) = (p + 1, n + 1),
            _ => match again {
                Some((after, from)) => {
                    (p, n) = (after, from + 1);
                    again = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;
    use crate::sys::files::write_atomic;

    #[test]
    fn names_fit_as_in_a_shell() {
        for (pattern, name, fit) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            (".*", ".ssh", true),
            ("id_*_key*", "id_a_b_key.pub", true),
            ("a*b", "acc", false),
            ("*", "", true),
            ("**a", "bba", true),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), fit, "{pattern} {name}");
        }
    }

    #[test]
    fn masks_do_not_exist() {
        let root = tempfile::tempdir().unwrap();
        symlink("/dev/null", root.path().join("masked.service")).unwrap();
        symlink("masked.service", root.path().join("alias.service")).unwrap();
        write_atomic(&root.path().join("plain.service"), b"", 0o644).unwrap();
        let found = expand(&Host::system(), &format!("{}/*.service", root.path().display()), 9).unwrap();
        assert_eq!(found.paths, [root.path().join("plain.service")]);
        assert_eq!(expand(&Host::system(), "/dev/nul*", 9).unwrap().paths, [Path::new("/dev/null")]);
    }

    #[test]
    fn paths_are_found_and_bounded() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        for user in ["ann", "bob", "eve"] {
            create_dir_all(root.path().join("home").join(user)).unwrap();
        }
        for path in ["home/ann/x1", "home/ann/x2", "home/eve/x1", "home/file"] {
            write_atomic(&root.path().join(path), b"", 0o644).unwrap();
        }
        symlink("/nowhere", root.path().join("home/bob/x1")).unwrap();
        let all = |pattern, limit| {
            let found = expand(&host, pattern, limit).unwrap();
            (found.paths.iter().map(|p| p.to_str().unwrap().to_owned()).collect::<Vec<_>>(), found.cut)
        };
        let three = ["/home/ann/x1", "/home/ann/x2", "/home/eve/x1"].map(str::to_owned).to_vec();
        assert_eq!(all("/home/*/x*", 10), (three.clone(), false));
        assert_eq!(all("/home/*/x*", 3), (three, false));
        assert!(all("/home/*/x*", 2).1);
        assert_eq!(all("/home/eve/x1", 2), (vec!["/home/eve/x1".to_owned()], false));
        assert_eq!(all("/none/*/x", 2), (vec![], false));
        assert_eq!(all("/home/*/none", 9), (vec![], false));
    }

    proptest! {
        #[test]
        fn any_names_are_survived(pattern in "[ab*.]{0,12}", name in "[ab.]{0,12}") {
            let _ = fits(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(fits(name.as_bytes(), name.as_bytes()), true);
        }
    }
}

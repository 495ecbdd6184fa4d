//! Which groups an account is in.

use std::collections::HashMap;

use crate::sys::group::Group;

/// More memberships than a board has; the rest is left out, and said so.
const MEMBERSHIPS: usize = 16_384;
/// More groups of one account than anybody reads; the rest is left out, and said so.
const OF_ONE: usize = 256;

/// Groups whose members can become root, or read or change what is root's: through sudo, through a daemon that does what
/// they ask for, or through the files that these groups may open.
const PRIVILEGED: [&str; 11] =
    ["sudo", "wheel", "admin", "docker", "podman", "lxd", "incus-admin", "libvirt", "disk", "shadow", "adm"];

/// The groups of a machine.
#[derive(Debug, Default)]
pub(super) struct Groups<'a> {
    /// Of several with one id the first.
    names: HashMap<u32, &'a str>,
    /// Ids of the groups that list a user, in the order of the file.
    of_member: HashMap<&'a str, Vec<u32>>,
    /// Ids of [`PRIVILEGED`] groups, with their names.
    privileged: Vec<(u32, &'a str)>,
    memberships: usize,
    /// How many memberships are left out.
    pub(super) left_out: usize,
}

/// The groups of one account.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// Ids with `;` between them, the primary one first.
    pub(super) ids: String,
    /// The names of the same groups in the same order; an id without a name stands for itself.
    pub(super) names: String,
    /// The privileged ones among them, with `;` between them; empty if none is.
    pub(super) privileged: String,
}

impl<'a> Groups<'a> {
    /// Takes in one group. The order matters: what comes first wins.
    pub(super) fn add(&mut self, group: Group<'a>) {
        // A name with the mark between names would shift all that follow.
        let name = group.name;
        if !name.contains(';') {
            self.names.entry(group.gid).or_insert(name);
        }
        if PRIVILEGED.contains(&name) && !self.privileged.contains(&(group.gid, name)) {
            self.privileged.push((group.gid, name));
        }
        for member in group.members() {
            let ids = self.of_member.entry(member).or_default();
            if ids.contains(&group.gid) {
                continue;
            }
            if self.memberships == MEMBERSHIPS || ids.len() == OF_ONE {
                self.left_out += 1;
            } else {
                self.memberships += 1;
                ids.push(group.gid);
            }
        }
    }

    /// The groups of the account with this name and this primary group.
    pub(super) fn of(&self, name: &str, primary: u32) -> Membership {
        let listed = self.of_member.get(name).map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<u32> =
            std::iter::once(primary).chain(listed.iter().copied().filter(|gid| *gid != primary)).collect();
        let texts: Vec<String> = ids.iter().map(u32::to_string).collect();
        let names: Vec<&str> =
            ids.iter().zip(&texts).map(|(gid, text)| self.names.get(gid).copied().unwrap_or(text)).collect();
        let privileged: Vec<&str> =
            self.privileged.iter().filter(|(gid, _)| ids.contains(gid)).map(|(_, name)| *name).collect();
        Membership { ids: texts.join(";"), names: names.join(";"), privileged: privileged.join(";") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::group;

    fn groups(text: &str) -> Groups<'_> {
        let mut groups = Groups::default();
        group::groups(text).for_each(|group| groups.add(group));
        groups
    }

    #[test]
    fn the_primary_group_comes_first_and_each_once() {
        let text = "adm:x:4:pi\nsudo:x:27:eve,pi,pi\npi:x:1000:pi\nalso:x:27:pi\nodd;name:x:50:pi\ndocker:x:60:\n";
        let groups = groups(text);
        let pi = groups.of("pi", 1000);
        assert_eq!((pi.ids.as_str(), pi.names.as_str()), ("1000;4;27;50", "pi;adm;sudo;50"));
        assert_eq!(pi.privileged, "adm;sudo");
        // By its primary group alone, and with an id that nobody named.
        assert_eq!(groups.of("worker", 60).privileged, "docker");
        assert_eq!(groups.of("ghost", 4_294_967_294).names, "4294967294");
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let lines: Vec<String> = (0..300).map(|gid| format!("g{gid}:x:{gid}:pi")).collect();
        let text = lines.join("\n");
        let groups = groups(&text);
        assert_eq!((groups.left_out, groups.of("pi", 0).ids.split(';').count()), (44, 256));
    }

    proptest! {
        #[test]
        fn ids_and_names_go_together(
            lines in prop::collection::vec("[a-c;]{1,3}:x:[0-9]:[a-c,]{0,6}", 0..20), primary in 0_u32..12,
        ) {
            let text = lines.join("\n");
            let of = groups(&text).of("a", primary);
            prop_assert_eq!(of.ids.split(';').count(), of.names.split(';').count());
            prop_assert!(of.ids.split(';').next() == Some(primary.to_string().as_str()) && !of.names.is_empty());
        }
    }
}

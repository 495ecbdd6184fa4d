//! How the kernel protects itself and the system. `securityfs` may be readable for root only, or not mounted: then what
//! stands there is not told.

use super::Facts;
use crate::sys::host::Host;
use crate::sys::sysfs::line;

/// Attributes (4 bytes) and the value, of the variable that the UEFI specification defines.
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// `SecureBoot`, `KernelLockdown`, `SecurityModules`, `AppArmor`, `SELinux`, `ModuleSignatures`, `ModuleLoading`.
pub(super) fn tell(host: &Host, facts: &mut Facts) {
    let secure = host.read(SECURE_BOOT, 16).ok().and_then(|variable| secure_boot(&variable));
    facts.tell("SecureBoot", secure.map(|on| if on { "enabled" } else { "disabled" }));
    let lockdown = line(host, "/sys/kernel/security/lockdown");
    facts.tell("KernelLockdown", lockdown.as_deref().and_then(chosen));
    facts.tell("SecurityModules", line(host, "/sys/kernel/security/lsm"));
    let app_armor = yes(host, "/sys/module/apparmor/parameters/enabled");
    facts.tell("AppArmor", app_armor.map(|on| if on { "enabled" } else { "disabled" }));
    let enforcing = yes(host, "/sys/fs/selinux/enforce");
    facts.tell("SELinux", enforcing.map(|on| if on { "enforcing" } else { "permissive" }));
    let signed = yes(host, "/sys/module/module/parameters/sig_enforce");
    facts.tell("ModuleSignatures", signed.map(|on| if on { "enforced" } else { "not enforced" }));
    let closed = yes(host, "/proc/sys/kernel/modules_disabled");
    facts.tell("ModuleLoading", closed.map(|on| if on { "disabled" } else { "enabled" }));
}

/// A switch of the kernel: `Y` or `N`, or a number.
fn yes(host: &Host, path: &str) -> Option<bool> {
    match line(host, path)?.as_str() {
        "Y" | "1" => Some(true),
        "N" | "0" => Some(false),
        _ => None,
    }
}

/// The variable's one byte, after its attributes.
fn secure_boot(variable: &[u8]) -> Option<bool> {
    match variable {
        [_, _, _, _, 1] => Some(true),
        [_, _, _, _, 0] => Some(false),
        _ => None,
    }
}

/// The word in brackets: `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_variable_has_attributes_before_its_byte() {
        assert_eq!((secure_boot(&[6, 0, 0, 0, 1]), secure_boot(&[6, 0, 0, 0, 0])), (Some(true), Some(false)));
        for strange in [&[][..], &[1], &[6, 0, 0, 0], &[6, 0, 0, 0, 2], &[6, 0, 0, 0, 1, 1]] {
            assert_eq!(secure_boot(strange), None);
        }
    }

    #[test]
    fn the_word_in_brackets_is_in_force() {
        assert_eq!(chosen("none [integrity] confidentiality"), Some("integrity"));
        assert_eq!(chosen("[none] integrity"), Some("none"));
        assert_eq!((chosen("none"), chosen("]["), chosen("[]")), (None, None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>(), bytes: Vec<u8>) {
            let _ = (chosen(&text), secure_boot(&bytes));
        }
    }
}

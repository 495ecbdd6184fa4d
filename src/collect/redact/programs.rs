//! Options that are secret in one program and something else in others.

use super::Value;

/// Where the secret of an option stands.
#[derive(Clone, Copy)]
enum Place {
    /// In the same argument, behind the option; never in the next one.
    Attached,
    /// In the next argument, or behind the option in the same one.
    Either,
}

/// Programs (names without directory), one option, and where its value stands.
type Row = (&'static [&'static str], &'static str, Place, Value);

const ROWS: &[Row] = &[
    (
        &["mysql", "mysqldump", "mysqladmin", "mysqlimport", "mariadb", "mariadb-dump", "mariadb-admin"],
        "-p",
        Place::Attached,
        Value::Secret,
    ),
    (&["7z", "7za", "7zr"], "-p", Place::Attached, Value::Secret),
    (&["sshpass", "useradd", "usermod"], "-p", Place::Either, Value::Secret),
    (&["curl"], "-u", Place::Either, Value::After(':')),
    (&["curl"], "--user", Place::Either, Value::After(':')),
    (&["curl"], "-U", Place::Either, Value::After(':')),
    (&["curl"], "--proxy-user", Place::Either, Value::After(':')),
    (&["smbclient", "rpcclient", "net"], "-U", Place::Either, Value::After('%')),
    (&["redis-cli"], "-a", Place::Either, Value::Secret),
    (&["mosquitto_pub", "mosquitto_sub", "mosquitto_rr"], "-P", Place::Either, Value::Secret),
    (&["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami"], "-w", Place::Either, Value::Secret),
    (&["zip", "unzip", "ipmitool"], "-P", Place::Either, Value::Secret),
    (&["snmpget", "snmpset", "snmpwalk", "snmpbulkwalk", "snmptrap"], "-A", Place::Either, Value::Secret),
    (&["snmpget", "snmpset", "snmpwalk", "snmpbulkwalk", "snmptrap"], "-X", Place::Either, Value::Secret),
    (&["snmpget", "snmpset", "snmpwalk", "snmpbulkwalk", "snmptrap"], "-c", Place::Either, Value::Secret),
    (&["openssl"], "-k", Place::Either, Value::Secret),
    (&["openssl"], "-K", Place::Either, Value::Secret),
    (&["nmcli"], "password", Place::Either, Value::Secret),
    (&["nmcli"], "wifi-sec.psk", Place::Either, Value::Secret),
];

/// Programs whose argument at this place is a secret; the program itself is at 0.
const POSITIONS: &[(&str, usize)] = &[("wpa_passphrase", 2)];

/// What the table says of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It holds a value from this byte on.
    Here((usize, Value)),
    /// The next argument is the value.
    Next(Value),
    /// Nothing.
    Nothing,
}

/// The name of a program without its directory, and without the dash of a login shell.
pub(super) fn name(first: &str) -> &str {
    let base = first.rsplit('/').next().unwrap_or(first);
    base.strip_prefix('-').unwrap_or(base)
}

/// Whether an argument of the program may be a command line.
pub(super) fn is_shell(program: &str) -> bool {
    matches!(program, "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "busybox" | "su" | "sudo" | "ssh")
}

/// What the table says of the argument at `position` of `program`.
pub(super) fn look(program: &str, position: usize, argument: &str) -> Look {
    if position == 0 {
        return Look::Nothing;
    }
    if POSITIONS.contains(&(program, position)) {
        return Look::Here((0, Value::Secret));
    }
    for (programs, option, place, value) in ROWS {
        let Some(rest) = argument.strip_prefix(option).filter(|_| programs.contains(&program)) else { continue };
        match place {
            Place::Either if rest.is_empty() => return Look::Next(*value),
            // A long option, or a word, has its value behind an equals sign.
            _ if option.starts_with("--") || !option.starts_with('-') => {
                let Some(_) = rest.strip_prefix('=') else { continue };
                return Look::Here((option.len() + 1, *value));
            }
            _ if !rest.is_empty() => return Look::Here((option.len(), *value)),
            _ => {}
        }
    }
    Look::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_count_for_their_programs_only() {
        assert_eq!(look("mysql", 1, "-psecret"), Look::Here((2, Value::Secret)));
        assert_eq!(look("mysql", 1, "-p"), Look::Nothing);
        assert_eq!(look("ssh", 1, "-p2222"), Look::Nothing);
        assert_eq!(look("curl", 1, "-u"), Look::Next(Value::After(':')));
        assert_eq!(look("curl", 1, "-uroot:x"), Look::Here((2, Value::After(':'))));
        assert_eq!(look("curl", 1, "--user=root:x"), Look::Here((7, Value::After(':'))));
        assert_eq!(look("curl", 1, "--user-agent"), Look::Nothing);
        assert_eq!(look("nmcli", 5, "password"), Look::Next(Value::Secret));
        assert_eq!(look("nmcli", 5, "passwords"), Look::Nothing);
        assert_eq!(look("wpa_passphrase", 2, "secret"), Look::Here((0, Value::Secret)));
        assert_eq!(look("wpa_passphrase", 1, "net"), Look::Nothing);
        assert_eq!((name("/usr/bin/curl"), name("-bash"), name("")), ("curl", "bash", ""));
    }
}

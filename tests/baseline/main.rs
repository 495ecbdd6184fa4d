//! The checks of `packaging/baseline`: each passes on a machine that is well, and fails on one that is not
//! (`tests/fixtures/baseline`), and all of them stand in `docs/baseline-checks.md`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "files of a test are no state of an agent")]

mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use serde::Deserialize;
use twinward::collect::baseline::{self, Outcome};
use twinward::model::payload::BaselineSeverity;
use twinward::settings::agent_config::BaselineCustomChecks;

use machine::{Side, build};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    base: Side,
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    check: String,
    pass: Side,
    fail: Side,
    #[serde(default)]
    pass_also: Vec<Side>,
    #[serde(default)]
    fail_also: Vec<Side>,
    /// What the finding on `fail` must have in it.
    error: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    title: String,
    severity: String,
    cis: Option<String>,
}

#[derive(Deserialize)]
struct Checks {
    check: Vec<Listed>,
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The files of a directory that end in `.toml`, by name.
fn files(directory: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(repository(directory)).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .map(|path| (name(&path), fs::read_to_string(&path).unwrap()))
        .collect()
}

/// The text of each check of a file, by id.
fn texts(file: &str) -> BTreeMap<String, String> {
    let ids = toml::from_str::<Checks>(file).unwrap().check.into_iter().map(|check| check.id);
    let texts = file.split("[[check]]\n").skip(1).map(|text| format!("[[check]]\n{text}"));
    ids.zip(texts).collect()
}

/// What became of the one check in `text`.
fn judge(text: &str, base: &Side, side: &Side) -> (Outcome, String) {
    let (_directory, host) = build(base, side);
    let report = baseline::run_file(&host, "builtin", text.as_bytes(), |_| true);
    match report.results.into_iter().next() {
        Some(judged) if report.problems.is_empty() => (judged.outcome, judged.found),
        _ => (Outcome::Unknown, report.problems.join("; ")),
    }
}

#[test]
fn each_check_passes_where_all_is_well_and_fails_where_it_is_not() {
    let (checks, cases) = (files("packaging/baseline"), files("tests/fixtures/baseline"));
    let mut wrong = String::new();
    for (name, text) in &cases {
        let group: Group = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let texts = checks.get(name).map(|file| texts(file)).unwrap_or_default();
        for case in &group.case {
            let Some(text) = texts.get(&case.check) else {
                writeln!(wrong, "{name}: {}: no such check", case.check).unwrap();
                continue;
            };
            let good = std::iter::once(&case.pass).chain(&case.pass_also).map(|side| (side, Outcome::Passed));
            let bad = std::iter::once(&case.fail).chain(&case.fail_also).map(|side| (side, Outcome::Failed));
            for (number, (side, wanted)) in good.enumerate().chain(bad.enumerate()) {
                let (outcome, found) = judge(text, &group.base, side);
                let told = number > 0 || wanted == Outcome::Passed;
                let told = told || case.error.as_ref().is_none_or(|error| found.contains(error.as_str()));
                if outcome != wanted || !told {
                    writeln!(wrong, "{name}: {}: {wanted:?} {number} is {outcome:?}: {found}", case.check).unwrap();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn each_check_has_a_case_and_there_are_enough_of_them() {
    let ids = |files: BTreeMap<String, String>| -> BTreeSet<String> {
        files.values().flat_map(|file| texts(file).into_keys()).collect()
    };
    let cases: Vec<String> = files("tests/fixtures/baseline")
        .values()
        .flat_map(|file| toml::from_str::<Group>(file).unwrap().case.into_iter().map(|case| case.check))
        .collect();
    let checks = ids(files("packaging/baseline"));
    assert_eq!(cases.iter().cloned().collect::<BTreeSet<_>>(), checks);
    assert_eq!(cases.len(), checks.len(), "a check has two cases");
    assert!(checks.len() >= 120, "{}", checks.len());
}

/// What all checks say of a machine of `tests/fixtures/baseline/images`, but for what is informational.
fn findings(name: &str) -> String {
    let text = fs::read_to_string(repository(&format!("tests/fixtures/baseline/images/{name}.toml"))).unwrap();
    let (_directory, host) = build(&Side::new(), &toml::from_str(&text).unwrap());
    let amiss = |outcome| matches!(outcome, Outcome::Failed | Outcome::Unknown);
    let report = baseline::run(&host, &BaselineCustomChecks::default(), amiss);
    let mut told = String::new();
    for judged in report.results.iter().filter(|judged| judged.check.severity != BaselineSeverity::Informational) {
        writeln!(told, "{:?} {:?}: {}", judged.outcome, judged.check.severity, judged.check.id).unwrap();
    }
    told
}

#[test]
fn an_image_without_systemd_and_pam_is_told_what_is_amiss_there() {
    assert_snapshot!(findings("buildroot"), @"
    Failed Critical: account-empty-password
    Failed Critical: dropbear-root-login
    Failed Important: boot-serial-login
    Failed Important: dropbear-password-authentication
    Failed Important: kernel-protected-links
    Failed Warning: kernel-kexec
    Failed Warning: kernel-log-hidden
    Failed Warning: kernel-pointers-hidden
    Failed Warning: kernel-protected-files
    Failed Warning: kernel-ptrace
    Failed Warning: kernel-sysrq
    Failed Warning: log-time
    Failed Warning: login-umask
    Failed Warning: mount-shm-noexec
    Failed Warning: mount-shm-nosuid
    Failed Warning: mount-tmp-noexec
    Failed Warning: mount-tmp-nosuid
    Failed Warning: net-redirects
    Failed Warning: net-redirects-ipv6
    Failed Warning: net-reverse-path
    Failed Warning: net-send-redirects
    ");
}

#[test]
fn an_image_of_a_board_is_told_what_is_amiss_there() {
    assert_snapshot!(findings("raspberry-pi-os"), @"
    Failed Critical: account-default-password
    Failed Critical: board-autologin
    Failed Important: boot-serial-login
    Failed Important: kernel-mac
    Failed Important: pam-no-nullok
    Failed Important: ssh-password-authentication
    Failed Important: sudo-nopasswd
    Failed Warning: account-home-closed
    Failed Warning: account-vendor-locked
    Failed Warning: boot-serial-console
    Failed Warning: kernel-kexec
    Failed Warning: kernel-log-hidden
    Failed Warning: kernel-module-signing
    Failed Warning: kernel-pointers-hidden
    Failed Warning: kernel-ptrace
    Failed Warning: kernel-sysrq
    Failed Warning: net-redirects
    Failed Warning: net-redirects-ipv6
    Failed Warning: net-reverse-path
    Failed Warning: net-send-redirects
    Failed Warning: pam-lockout
    Failed Warning: service-avahi
    Failed Warning: ssh-agent-forwarding
    Failed Warning: ssh-login-grace-time
    Failed Warning: ssh-max-auth-tries
    Failed Warning: ssh-tcp-forwarding
    Failed Warning: ssh-x11-forwarding
    ");
}

#[test]
fn the_table_in_the_documentation_is_that_of_the_checks() {
    let mut table = "# The checks of OSBaseline\n\nThose that come with the program, from `packaging/baseline`. CIS: number in the CIS \
                     Debian Linux 12 Benchmark v1.1.0. What each one looks at, and what to do, is in those files and in the \
                     output of `twinward baseline`.\n"
        .to_owned();
    for (name, text) in files("packaging/baseline") {
        let about = text.lines().next().unwrap().trim_start_matches("# ");
        write!(
            table,
            "\n## {}\n\n{about}\n\n| id | severity | holds if all is well | CIS |\n|---|---|---|---|\n",
            name.trim_end_matches(".toml")
        )
        .unwrap();
        for check in toml::from_str::<Checks>(&text).unwrap().check {
            let cis = check.cis.unwrap_or_default();
            writeln!(table, "| `{}` | {} | {} | {cis} |", check.id, check.severity, check.title).unwrap();
        }
    }
    let path = repository("docs/baseline-checks.md");
    if fs::read_to_string(&path).ok().as_deref() != Some(&*table) {
        let new = path.with_extension("md.pending-snap");
        fs::write(&new, table).unwrap();
        panic!("it is not; if the checks are right: mv {} {}", new.display(), path.display());
    }
}

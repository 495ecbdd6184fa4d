//! `twinward baseline`: what is amiss on a machine, here on trees of files.

use std::fs;
use std::path::Path;

use super::{Place, STRING, err, out};

const CHECKS: &str = r#"
[[check]]
id = "own-telnet"
title = "No telnet server is started"
why = "It sends passwords as they are."
remediation = "Take the line that begins with telnet out of /etc/inetd.conf, and restart inetd; nobody needs it any more."
severity = "critical"
cis = "2.1"
expect = [{ service = "telnet.socket", enabled = false }]

[[check]]
id = "own-banner"
title = "There is a banner"
why = "w"
remediation = "Write one into /etc/issue."
severity = "informational"
expect = [{ file = "/etc/issue", exists = true }]

[[check]]
id = "own-broken"
title = "The value is right"
why = "w"
remediation = "r"
severity = "warning"
expect = [{ value = "/etc", is = "x" }]

[[check]]
id = "own-other"
title = "Of another distribution"
why = "w"
remediation = "r"
severity = "warning"
applies = { distribution = ["other"] }
expect = [{ file = "/x", exists = true }]

[[check]]
id = "own-good"
title = "Nothing is there that should not be"
why = "w"
remediation = "r"
severity = "important"
expect = [{ file = "/x", exists = false }]

[[check]]
id = "own-skipped"
title = "s"
why = "w"
remediation = "r"
severity = "important"
expect = [{ file = "/x", exists = true }]

[[skip]]
id = "own-skipped"
reason = "not here"
"#;

/// A machine that starts a telnet server, and a file of checks.
fn place() -> Place {
    let place = Place::new(STRING, "");
    fs::create_dir_all(place.path("image/etc")).unwrap();
    place.write("image/etc/inetd.conf", "telnet stream tcp nowait root /usr/sbin/in.telnetd in.telnetd\n");
    place.write("own.toml", CHECKS);
    place
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_failed_is_shown_with_what_to_do() {
    let place = place();
    let (root, checks) = (place.path("image"), place.path("own.toml"));
    let arguments = ["baseline", "--root", text(&root), "--checks", text(&checks)];
    let output = place.run(&arguments);
    assert_eq!((output.status.code(), err(&output)), (Some(1), ""), "a critical one failed");
    insta::assert_snapshot!(out(&output), @"
    critical       fail     own-telnet
                            No telnet server is started
                            found: telnet.socket is started at boot; expected not to be
                            to do: Take the line that begins with telnet out of /etc/inetd.conf, and
                            restart inetd; nobody needs it any more.

    warning        err      own-broken
                            The value is right
                            because: /etc cannot be read: not a regular file

    informational  fail     own-banner
                            There is a banner
                            found: /etc/issue does not exist, expected to
                            to do: Write one into /etc/issue.

    1 passed, 2 failed, 1 could not be checked, 1 not applicable, 1 skipped
    ");
    let grave = place.run(&[&arguments[..], &["--severity", "important"]].concat());
    assert!(out(&grave).contains("own-telnet") && !out(&grave).contains("own-banner"), "{}", out(&grave));
    let all = place.run(&[&arguments[..], &["--all"]].concat());
    for row in ["pass     own-good", "n/a      own-other", "skipped  own-skipped", "because: not here"] {
        assert!(out(&all).contains(row), "{row}: {}", out(&all));
    }
    place.write("image/etc/inetd.conf", "");
    assert_eq!(place.run(&arguments).status.code(), Some(0), "what failed is not critical");
}

#[test]
fn json_has_a_line_for_each_check() {
    let place = place();
    let (root, checks) = (place.path("image"), place.path("own.toml"));
    let output = place.run(&["baseline", "--json", "--root", text(&root), "--checks", text(&checks)]);
    assert_eq!(output.status.code(), Some(1));
    let first = out(&output).lines().next().unwrap();
    insta::assert_snapshot!(first, @r#"{"cce":null,"cis":"2.1","found":"telnet.socket is started at boot; expected not to be","id":"own-telnet","remediation":"Take the line that begins with telnet out of /etc/inetd.conf, and restart inetd; nobody needs it any more.","result":"fail","severity":"critical","source":"own.toml","title":"No telnet server is started","why":"It sends passwords as they are."}"#);
    assert_eq!(out(&output).lines().count(), 3);
    let all = place.run(&["baseline", "--json", "--all", "--root", text(&root), "--checks", text(&checks)]);
    let results: Vec<String> = out(&all)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["result"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(results, ["fail", "pass", "skipped", "err", "not-applicable", "fail"], "the gravest first");
}

#[test]
fn an_image_is_checked_with_what_comes_with_the_program() {
    let place = place();
    place.write("image/etc/passwd", "root::0:0::/root:/bin/sh\n");
    let root = place.path("image");
    let output = place.run(&["baseline", "--json", "--root", text(&root)]);
    assert_eq!(output.status.code(), Some(1));
    let found = out(&output).lines().find(|line| line.contains("root has an empty password")).unwrap();
    assert!(found.contains("\"source\":\"builtin\""), "{found}");
}

#[test]
fn files_and_directories_that_are_none_are_told_apart() {
    let place = place();
    place.write("bad.toml", "[[check]]\nid = \"x\"\nfoo = 1\n");
    let bad = place.path("bad.toml");
    let output = place.run(&["baseline", "--checks", text(&bad)]);
    assert_eq!((output.status.code(), out(&output)), (Some(78), ""));
    let told = err(&output);
    assert!(told.contains("bad.toml has 7 problems:\n  bad.toml: x: id: is \"x\", expected 3 to 64"), "{told}");
    assert!(told.contains("bad.toml: x: foo: is unknown; expected one of id, title"), "{told}");
    let none = place.path("none");
    let output = place.run(&["baseline", "--root", text(&none)]);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    let output = place.run(&["baseline", "--checks", text(&none)]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert_eq!(place.run(&["baseline", "--severity", "grave"]).status.code(), Some(2));
}

#[test]
fn the_help_names_every_option() {
    let output = Place::new(STRING, "").run(&["baseline", "--help"]);
    insta::assert_snapshot!(out(&output), @"
    Check how this machine, or an image, is set up, and say what to do about each fault

    Usage: twinward baseline [OPTIONS]

    Options:
          --all               Show the checks that passed, do not apply or are skipped too
          --config <FILE>     Configuration file; drop-ins are read from `conf.d` beside it [default:
                              /etc/twinward/twinward.toml]
          --json              Print JSON lines instead of tables
          --root <DIR>        Check the files below this directory, such as those of an unpacked image,
                              instead of this machine
          --checks <FILE>     Make only the checks of this file, wherever it is: to try one before it
                              goes to /etc/twinward/baseline.d
          --severity <LEVEL>  Show no checks that are less severe [default: informational] [possible
                              values: critical, important, warning, informational]
      -h, --help              Print help
    ");
}

/// As systemd does it for a service: `/tmp` and the homes are others than the machine's. The first process of a namespace
/// of its own stands for that of the machine, so that its view may be asked for anywhere.
#[test]
#[ignore = "needs root: namespaces for mounts and processes"]
#[expect(clippy::disallowed_methods, reason = "the program is run in namespaces")]
fn a_service_that_is_shown_another_tmp_looks_at_the_machines() {
    let place = Place::new(STRING, "");
    let (open, link) = (place.path("open"), place.path("link"));
    assert!(open.starts_with("/tmp"), "the test is about /tmp: {}", open.display());
    place.write("open", "");
    // An absolute link leads to where the machine has it too.
    std::os::unix::fs::symlink(&open, &link).unwrap();
    let check = |id: &str, path: &Path| {
        format!(
            "[[check]]\nid = \"{id}\"\ntitle = \"t\"\nwhy = \"w\"\nremediation = \"r\"\nseverity = \"warning\"\n\
             expect = [{{ file = \"{}\", mode = \"0400\" }}]\n",
            path.display()
        )
    };
    // Program and checks must be seen from both sides, also if the project itself lies below /tmp.
    let seen = tempfile::tempdir_in("/var/lib").unwrap();
    let (program, checks) = (seen.path().join("twinward"), seen.path().join("checks.toml"));
    fs::copy(env!("CARGO_BIN_EXE_twinward"), &program).unwrap();
    fs::write(&checks, check("plain", &open) + &check("linked", &link)).unwrap();
    let script = format!(
        "unshare --mount sh -ec 'mount -t tmpfs tmpfs /tmp && {} baseline --checks {} --json'; exit $?",
        program.display(),
        checks.display()
    );
    let output = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "sh", "-c", &script])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let lines: Vec<serde_json::Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<(&str, &str)> =
        lines.iter().map(|line| (line["id"].as_str().unwrap(), line["result"].as_str().unwrap())).collect();
    assert_eq!(found, [("linked", "fail"), ("plain", "fail")], "{output:?}");
}

use std::fs::create_dir_all;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::sys::files::write_atomic;
use crate::sys::fixture::attributes;

fn machine(files: &[(&str, &str)], owners: &str) -> (TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("etc/twinward/baseline.d");
    create_dir_all(&directory).unwrap();
    for (name, text) in files {
        write_atomic(&directory.join(name), text.as_bytes(), 0o644).unwrap();
    }
    let host = Host::captured(root.path(), attributes(owners));
    (root, host)
}

fn check(id: &str) -> String {
    format!(
        "[[check]]\nid = \"{id}\"\ntitle = \"t\"\nwhy = \"w\"\nremediation = \"r\"\nseverity = \"warning\"\n\
         expect = [{{ file = \"/none\", exists = true }}]\n[[skip]]\nid = \"skip-{id}\"\nreason = \"so\"\n"
    )
}

fn wanted(path: Option<&str>, hash: Option<&str>) -> BaselineCustomChecks {
    let own = |text: Option<&str>| text.map(str::to_owned);
    BaselineCustomChecks { enabled: true, file_path: own(path), file_hash: own(hash) }
}

/// Ids of checks and of skips, and the problems.
fn read_all(host: &Host, wanted: &BaselineCustomChecks) -> (Vec<String>, Vec<String>, Vec<String>) {
    let local = read(host, wanted);
    let checks = local.files.iter().flat_map(|(_, parsed)| parsed.checks.iter().map(|c| c.id.to_string())).collect();
    let skips = local.files.iter().flat_map(|(_, parsed)| parsed.skips.iter().map(|s| s.id.to_string())).collect();
    (checks, skips, local.problems)
}

#[test]
fn the_twin_chooses_among_what_the_owner_has_put_there() {
    let (one, two) = (check("one"), check("two"));
    let (_root, host) = machine(&[("b.toml", &two), ("a.toml", &one), ("c.txt", "x"), (".d.toml", "x")], "");
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let skips = texts(&["skip-one", "skip-two"]);
    assert_eq!(read_all(&host, &BaselineCustomChecks::default()), (vec![], skips.clone(), vec![]));
    assert_eq!(read_all(&host, &wanted(None, None)), (texts(&["one", "two"]), skips.clone(), vec![]));
    assert_eq!(read_all(&host, &wanted(Some(""), Some(" "))).0, ["one", "two"]);
    let hash = hex(&Sha256::digest(&two));
    for path in ["b.toml", "/etc/twinward/baseline.d/b.toml"] {
        let all = read_all(&host, &wanted(Some(path), Some(&hash.to_uppercase())));
        assert_eq!(all, (texts(&["two"]), skips.clone(), vec![]), "{path}");
    }
}

#[test]
fn what_the_twin_may_not_is_refused_with_one_sentence() {
    let one = check("one");
    let (_root, host) = machine(&[("a.toml", &one)], "");
    let hash = hex(&Sha256::digest(&one));
    let only = |wanted: &BaselineCustomChecks| {
        let (checks, skips, problems) = read_all(&host, wanted);
        assert_eq!(checks, [""; 0]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        (skips.len(), problems[0].clone())
    };
    assert_eq!(
        only(&wanted(Some("a.toml"), None)),
        (
            1,
            "baselineCustomChecksFilePath is given without baselineCustomChecksFileHash: the SHA-256 of the file must be \
             given too"
                .to_owned()
        )
    );
    assert_eq!(
        only(&wanted(None, Some(&hash))).1,
        "baselineCustomChecksFileHash is given without baselineCustomChecksFilePath"
    );
    for path in
        ["../a.toml", "/etc/passwd", "/etc/twinward/baseline.d/../a.toml", "x/a.toml", "a", ".a.toml", "/bin/sh -c x"]
    {
        let told = only(&wanted(Some(path), Some(&hash))).1;
        assert_eq!(
            told,
            format!(
                "baselineCustomChecksFilePath is \"{path}\": expected the name of a .toml file directly in /etc/twinward/baseline.d"
            )
        );
    }
    assert_eq!(only(&wanted(Some("b.toml"), Some(&hash))).1, "/etc/twinward/baseline.d/b.toml does not exist");
    let (skips, told) = only(&wanted(Some("a.toml"), Some("; reboot")));
    assert_eq!(skips, 0, "nothing of it is taken");
    assert_eq!(
        told,
        format!(
            "/etc/twinward/baseline.d/a.toml has the SHA-256 {hash}, which is not baselineCustomChecksFileHash: nothing of it is taken"
        )
    );
}

#[test]
fn only_files_of_root_that_nobody_else_can_write_are_read() {
    let texts: Vec<String> = ["one", "two", "three"].map(check).to_vec();
    let (root, host) = machine(
        &[("a.toml", &texts[0]), ("b.toml", &texts[1]), ("c.toml", &texts[2])],
        "0644 5 0 /etc/twinward/baseline.d/a.toml\n0664 0 5 /etc/twinward/baseline.d/b.toml\n",
    );
    symlink("c.toml", root.path().join("etc/twinward/baseline.d/d.toml")).unwrap();
    create_dir_all(root.path().join("etc/twinward/baseline.d/e.toml")).unwrap();
    let (checks, _, problems) = read_all(&host, &wanted(None, None));
    assert_eq!(checks, ["three"]);
    insta::assert_snapshot!(problems.join("\n"), @r"
    /etc/twinward/baseline.d/a.toml is not read: it belongs to uid 5 with mode 0644; it must be root's, and writable by root only
    /etc/twinward/baseline.d/b.toml is not read: it belongs to uid 0 with mode 0664; it must be root's, and writable by root only
    /etc/twinward/baseline.d/d.toml is not read: it must be a regular file, and no link
    /etc/twinward/baseline.d/e.toml is not read: it must be a regular file, and no link
    ");
    let (_root, host) = machine(&[("a.toml", &texts[0])], "0777 0 0 /etc/twinward/baseline.d\n");
    let (checks, skips, problems) = read_all(&host, &wanted(None, None));
    assert_eq!((checks.len(), skips.len()), (0, 0));
    assert!(problems[0].starts_with("/etc/twinward/baseline.d is not read"), "{problems:?}");
}

#[test]
fn without_a_directory_there_is_nothing_and_no_problem() {
    let root = tempfile::tempdir().unwrap();
    let (checks, skips, problems) = read_all(&Host::rooted(root.path()), &wanted(None, None));
    assert_eq!((checks.len(), skips.len(), problems.len()), (0, 0, 0));
}

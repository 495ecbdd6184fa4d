use proptest::prelude::*;

use super::*;

const GOOD: &str = "[[check]]\nid = \"one-good\"\ntitle = \"t\"\nwhy = \"w\"\nremediation = \"r\"\nseverity = \"critical\"\n\
    expect = [{ file = \"/etc/passwd\", mode = \"0644\" }]\n";

fn problems(text: &str) -> Vec<String> {
    parse("x.toml", text.as_bytes(), true, &mut BTreeSet::new()).problems.iter().map(ToString::to_string).collect()
}

/// The one problem of a condition.
#[track_caller]
fn of_condition(condition: &str) -> String {
    let text = GOOD.replace("file = \"/etc/passwd\", mode = \"0644\"", condition);
    let problems = problems(&text);
    assert_eq!(problems.len(), 1, "{condition}: {problems:?}");
    problems[0].strip_prefix("x.toml: one-good: expect").unwrap().to_owned()
}

#[test]
fn all_problems_are_told_at_once_and_the_good_checks_stay() {
    let text = format!(
        "{GOOD}[[check]]\nid = \"Two\"\ntitle = 5\nwhy = \"\"\nseverity = \"high\"\nseverty = \"x\"\nexpect = []\n\
         [[check]]\nexpect = [{{ flie = \"/x\" }}]\n[[skip]]\nid = \"a-b\"\n[[check]]\nid = \"one-good\"\n[other]\n"
    );
    let parsed = parse("x.toml", text.as_bytes(), true, &mut BTreeSet::new());
    assert_eq!(parsed.checks.len(), 1);
    let told: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    x.toml: Two: id: is "Two", expected 3 to 64 of a-z, 0-9 and -
    x.toml: Two: title: is a whole number, expected a text
    x.toml: Two: why: is empty
    x.toml: Two: remediation: is missing
    x.toml: Two: severity: is "high", expected critical, important, warning, informational
    x.toml: Two: expect: expected a list of 1 to 64 conditions
    x.toml: Two: severty: is unknown; expected one of id, title, why, remediation, severity, cis, cce, applies, expect
    x.toml: check 3: id: is missing
    x.toml: check 3: title: is missing
    x.toml: check 3: why: is missing
    x.toml: check 3: remediation: is missing
    x.toml: check 3: severity: is missing
    x.toml: check 3: expect[1]: is no condition; expected one of any, all, not, file, key, text, value, sysctl, mount, module, service, package, account, group, sshd, pam, boot, port
    x.toml: one-good: title: is missing
    x.toml: one-good: why: is missing
    x.toml: one-good: remediation: is missing
    x.toml: one-good: severity: is missing
    x.toml: one-good: expect: is missing; expected a list of conditions
    x.toml: one-good: id: is the id of another check already; expected one of its own
    x.toml: other: unknown, expected [[check]] and [[skip]] only
    x.toml: skip 1: reason: is missing
    "#);
}

#[test]
fn a_file_that_is_none_is_told_with_its_line() {
    assert_eq!(problems("[[check]]\nid = 'a'\nb =\n").len(), 1);
    assert!(problems("[[check]]\nid = 'a'\nb =\n")[0].starts_with("x.toml: line 3: is not TOML: "));
    assert_eq!(problems("check = 5"), ["x.toml: check: expected [[check]], once for each check"]);
    assert_eq!(problems("check = [5]"), ["x.toml: check 1: is a whole number, expected a table"]);
    let large = parse("x", &vec![b'#'; FILE_LIMIT + 1], true, &mut BTreeSet::new());
    assert_eq!(large.problems[0].to_string(), "x: is larger than 256 KiB");
    let bytes = parse("x", b"\xff", true, &mut BTreeSet::new());
    assert_eq!(bytes.problems[0].to_string(), "x: is not UTF-8 text");
    let skip = parse("x", b"[[skip]]\nid='abc'\nreason='r'", false, &mut BTreeSet::new());
    assert_eq!(skip.problems[0].to_string(), "x: skip: unknown, expected [[check]] only");
    let many: String = (0..1001).map(|n| GOOD.replace("one-good", &format!("a-{n}"))).collect();
    assert_eq!(problems(&many), ["x.toml: has 1001 checks: all beyond 1000 are left out"]);
    assert_eq!(problems(&"[[check]]\n".repeat(20)).last().unwrap(), "x.toml: 70 more problems");
}

#[test]
fn each_problem_of_a_condition_has_its_place() {
    for (condition, told) in [
        ("file = '/x'", "[1]: expected at least one of exists, mode, owner, group, kind"),
        ("file = '/x', mode = '999'", "[1].mode: is \"999\", expected an octal mode such as \"0640\""),
        ("file = '/x', exists = 'yes'", "[1].exists: is a text, expected true or false"),
        ("file = '/x', owner = []", "[1].owner: has 0 entries, expected 1 to 64"),
        ("file = '/x', exists = true, text = '/y'", "[1]: has file and text; expected exactly one of them"),
        (
            "sysctl = 'a.b'",
            "[1]: has no comparison; expected one of is, is_not, one_of, none_of, at_least, at_most, contains, lacks",
        ),
        (
            "sysctl = 'a.b', is = 'x', at_most = 1",
            "[1]: has several comparisons; expected exactly one of is, is_not, one_of, none_of, at_least, at_most, contains, lacks",
        ),
        ("sysctl = '../x', is = 'x'", "[1].sysctl: is \"../x\", expected a name without blanks and without .."),
        (
            "pam = '/etc/shadow', closed = true",
            "[1].pam: is \"/etc/shadow\", expected a name without blanks and without /",
        ),
        ("pam = 'a', closed = false", "[1]: expected exactly one of requires, forbids and closed = true"),
        ("port = 0", "[1].port: expected a port from 1 to 65535, or a list of them"),
        ("module = 'a'", "[1]: expected loaded or loadable, or both"),
        ("service = 'a'", "[1].enabled: is missing; expected true or false"),
        ("group = 'a'", "[1].members: is missing; expected a list of names"),
        ("account = 'locked'", "[1].name: is missing"),
        (
            "account = 'lock'",
            "[1].account: is \"lock\", expected empty-password, only-root-is-zero, unique-uids, unique-names, system-shells, groups-exist, home-closed, home-owned, weak-hash, default-password, plain-password, locked, keys-closed, max-days",
        ),
        ("text = '/x', contains = 'a', lacks = 'b'", "[1]: expected either contains or lacks"),
        ("key = 'a', is = 'b'", "[1].in: is missing; expected a path or a list of paths"),
        ("boot = 'a'", "[1]: expected present, or a comparison"),
        (
            "not = { not = { not = { not = { not = { port = 1 } } } } }",
            "[1].not.not.not.not: is too deep; expected at most 4 of any, all and not within each other",
        ),
        ("any = [{ port = 70000 }]", "[1].any[1].port: expected a port from 1 to 65535, or a list of them"),
    ] {
        assert_eq!(of_condition(condition), told, "{condition}");
    }
}

#[test]
fn no_path_leads_elsewhere_or_to_what_must_not_be_read() {
    for path in ["etc", "/etc/../x", "/etc//x", "/etc/", "/a/./b", "/a/**/b", "", "/x\\u0007"] {
        assert!(!of_condition(&format!("file = \"{path}\", exists = true")).is_empty(), "{path}");
    }
    for path in
        ["/dev/mem", "/proc/1/environ", "/proc/self/maps", "/proc/*/cmdline", "/proc/kmsg", "/etc/shadow", "/etc/sh*"]
    {
        for probe in ["text = '@', lacks = 'a'", "key = 'a', in = '@', is = 'b'"] {
            let told = of_condition(&probe.replace('@', path));
            assert!(told.contains("are not read"), "{told}");
        }
    }
    assert!(problems(&GOOD.replace("/etc/passwd", "/proc/1/environ")).is_empty(), "who may read it can be checked");
}

#[test]
fn what_depends_on_the_machine_is_read() {
    let applies =
        "applies = { architecture = 'arm', distribution = ['debian'], container = false, if = [{ port = 1 }] }\n";
    let parsed = parse("x", format!("{GOOD}{applies}").as_bytes(), false, &mut BTreeSet::new());
    assert_eq!(parsed.problems, []);
    let read = &parsed.checks[0].applies;
    assert_eq!(
        (read.architecture.len(), read.container, read.systemd, read.conditions.len()),
        (1, Some(false), None, 1)
    );
    let unknown = format!("{GOOD}applies = {{ architecture = 'sparc', os = 'x' }}\n");
    assert_eq!(
        problems(&unknown),
        [
            "x.toml: one-good: applies.architecture: is \"sparc\", expected x86, x86_64, arm, aarch64, riscv64",
            "x.toml: one-good: applies.os: is unknown; expected one of architecture, distribution, container, systemd, if",
        ]
    );
}

#[test]
fn the_examples_of_the_manual_are_good() {
    let text = include_str!("../../../../docs/baseline.md");
    let block = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(problems(block), [""; 0]);
    let examples: Vec<&str> = text.split('`').filter(|code| code.starts_with("{ ") && code.ends_with(" }")).collect();
    for example in &examples {
        let text = GOOD.replace("{ file = \"/etc/passwd\", mode = \"0644\" }", example);
        assert_eq!(problems(&text), [""; 0], "{example}");
    }
    assert!(examples.len() > 25, "{examples:?}");
}

/// A condition of any depth, good or not.
fn condition() -> impl Strategy<Value = String> {
    let keys = "(file|key|in|text|value|sysctl|mode|is|at_least|exists|account|pam|closed|port|sshd|boot|zzz)";
    let values = prop_oneof![
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        "'[ -&(-~]{0,12}'",
        "'/[a-z*./]{0,12}'",
        Just("[]".to_owned()),
        Just("['a', 5]".to_owned()),
        Just("{}".to_owned()),
    ];
    let leaf = prop::collection::btree_map(keys, values, 0..4)
        .prop_map(|members| members.iter().map(|(k, v)| format!("{k} = {v}")).collect::<Vec<_>>().join(", "))
        .prop_map(|members| format!("{{ {members} }}"));
    leaf.prop_recursive(6, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|c| format!("{{ not = {c} }}")),
            prop::collection::vec(inner, 0..3).prop_map(|list| format!("{{ any = [{}] }}", list.join(", "))),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "(\\[\\[check\\]\\]|\\[\\[skip\\]\\]|id|expect|applies|[ =\n'\"{}\\[\\]a-z0-9.,/*-]){0,60}") {
        let _ = problems(&text);
    }

    #[test]
    fn any_condition_is_read_or_told(condition in condition()) {
        let text = GOOD.replace("{ file = \"/etc/passwd\", mode = \"0644\" }", &condition);
        let parsed = parse("x", text.as_bytes(), true, &mut BTreeSet::new());
        prop_assert_eq!(parsed.checks.is_empty(), !parsed.problems.is_empty());
        let host = crate::sys::host::Host::rooted("/nowhere");
        let _ = super::super::run_file(&host, "x", text.as_bytes(), |_| true);
    }
}

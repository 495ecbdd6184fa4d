//! `docs/wire-contract.md` against the sources: each row names a test that exists, and each number of a table here is a
//! row there.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Number, promise, tests.
fn rows() -> Vec<(String, String, Vec<String>)> {
    let text = fs::read_to_string(root().join("docs/wire-contract.md")).unwrap();
    text.lines()
        .filter(|line| line.starts_with("| W"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [number, promise, tests] = cells[..] else { panic!("three cells: {line}") };
            let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (number.to_owned(), promise.to_owned(), tests)
        })
        .collect()
}

/// Whether the file has a function of this name that runs as a test: the attributes above it say so. A test that is
/// ignored proves nothing here.
fn is_test(text: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    let (mut runs, mut ignored) = (false, false);
    for line in text.lines().map(str::trim) {
        if line.trim_start_matches("async ").starts_with(&function) {
            return runs && !ignored;
        } else if line.starts_with("#[") {
            runs |= line == "#[test]" || line.starts_with("#[tokio::test");
            ignored |= line.starts_with("#[ignore");
        } else if !line.starts_with("//") {
            (runs, ignored) = (false, false);
        }
    }
    false
}

#[test]
fn only_what_runs_as_a_test_counts() {
    let text = "
        fn helper() {}

        #[test]
        fn plain() {}

        #[tokio::test(start_paused = true)]
        async fn waits() {}

        proptest! {
            /// Each number.
            #[test]
            fn any_number(n in 0..3) {}
            fn no_test(n in 0..3) {}
        }

        #[test]
        #[ignore = \"needs root\"]
        fn ignored() {}
    ";
    let names = ["helper", "plain", "waits", "any_number", "no_test", "ignored", "absent"];
    assert_eq!(names.map(|name| is_test(text, name)), [false, true, true, true, false, false, false]);
}

#[test]
fn each_row_names_a_test_that_exists() {
    let rows = rows();
    assert!(rows.len() > 100, "{}", rows.len());
    for (number, promise, tests) in rows {
        assert!(!promise.is_empty() && !tests.is_empty(), "{number}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{number}: {test}"));
            let text = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{test}: {error}"));
            assert!(is_test(&text, name), "{number}: {test} is no test that runs");
        }
    }
}

#[test]
fn the_rows_are_numbered_in_order() {
    let parse = |number: &str| -> (u32, u32) {
        let (group, row) = number.trim_start_matches('W').split_once('-').unwrap();
        (group.parse().unwrap(), row.parse().unwrap())
    };
    let numbers: Vec<(u32, u32)> = rows().iter().map(|(number, ..)| parse(number)).collect();
    for pair in numbers.windows(2) {
        let ((group, row), next) = (pair[0], pair[1]);
        assert!(next == (group, row + 1) || next == (group + 1, 1), "W{group}-{row:02} and {next:?}");
    }
}

#[test]
fn each_number_in_the_tables_is_a_row() {
    let known: BTreeSet<String> = rows().into_iter().map(|(number, ..)| number).collect();
    let mut used = 0;
    for file in fs::read_dir(root().join("tests/wire_contract")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let quoted = text.split("(\"W").skip(1).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        for number in quoted.map(|rest| format!("W{}", rest.split('"').next().unwrap())) {
            assert!(known.contains(&number), "{number} is in no row");
            used += 1;
        }
    }
    assert!(used > 60, "{used}");
}

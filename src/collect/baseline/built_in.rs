//! The checks that come with the program, in the order in which they are made. The program has the files of
//! `packaging/baseline` compressed (`build.rs`): that is a fifth of their size.

use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// Longest text of a file.
const LIMIT: usize = 128 * 1024;

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".deflate")))),*]
    };
}

/// The files, each as raw DEFLATE.
const FILES: &[(&str, &[u8])] = files! {
    "accounts.toml"
    "auth.toml"
    "ssh.toml"
    "files.toml"
    "secrets.toml"
    "boot.toml"
    "board.toml"
    "services.toml"
    "ports.toml"
    "network.toml"
    "kernel.toml"
    "filesystem.toml"
    "packages.toml"
    "logging.toml"
};

/// The text of one file after the other.
pub(super) fn texts() -> impl Iterator<Item = (&'static str, String)> {
    FILES.iter().map(|(name, compressed)| (*name, inflate(compressed)))
}

#[expect(clippy::expect_used, reason = "the program's own data: each file is read by a test")]
fn inflate(compressed: &[u8]) -> String {
    let bytes = decompress_to_vec_with_limit(compressed, LIMIT).expect("built in whole");
    String::from_utf8(bytes).expect("built in from text")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::parse;
    use super::*;

    #[test]
    fn every_file_is_in_the_list_and_without_problems() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/baseline");
        let files =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let listed: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(
            files.filter(|name| Path::new(name).extension().is_some_and(|end| end == "toml")).collect::<BTreeSet<_>>(),
            listed
        );
        let mut taken = BTreeSet::new();
        for (name, text) in texts() {
            let source = std::fs::read_to_string(Path::new(directory).join(name)).unwrap();
            assert_eq!(text, source, "{name}");
            let parsed = parse(name, text.as_bytes(), false, &mut taken);
            let problems: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
            assert!(problems.is_empty(), "{}", problems.join("\n"));
            assert!(!parsed.checks.is_empty(), "{name}");
        }
    }
}

//! The checks that come with the program, in the order in which they are made.

/// Files of `packaging/baseline`, with their text.
pub(super) const BUILT_IN: &[(&str, &str)] = &[
    ("accounts.toml", include_str!("../../../packaging/baseline/accounts.toml")),
    ("auth.toml", include_str!("../../../packaging/baseline/auth.toml")),
    ("ssh.toml", include_str!("../../../packaging/baseline/ssh.toml")),
    ("files.toml", include_str!("../../../packaging/baseline/files.toml")),
    ("secrets.toml", include_str!("../../../packaging/baseline/secrets.toml")),
    ("boot.toml", include_str!("../../../packaging/baseline/boot.toml")),
    ("board.toml", include_str!("../../../packaging/baseline/board.toml")),
    ("services.toml", include_str!("../../../packaging/baseline/services.toml")),
    ("ports.toml", include_str!("../../../packaging/baseline/ports.toml")),
    ("network.toml", include_str!("../../../packaging/baseline/network.toml")),
    ("kernel.toml", include_str!("../../../packaging/baseline/kernel.toml")),
    ("filesystem.toml", include_str!("../../../packaging/baseline/filesystem.toml")),
    ("packages.toml", include_str!("../../../packaging/baseline/packages.toml")),
    ("logging.toml", include_str!("../../../packaging/baseline/logging.toml")),
];

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
        let listed: BTreeSet<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(
            files.filter(|name| Path::new(name).extension().is_some_and(|end| end == "toml")).collect::<BTreeSet<_>>(),
            listed
        );
        let mut taken = BTreeSet::new();
        for (name, text) in BUILT_IN {
            let parsed = parse(name, text.as_bytes(), false, &mut taken);
            let problems: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
            assert!(problems.is_empty(), "{}", problems.join("\n"));
            assert!(!parsed.checks.is_empty(), "{name}");
        }
    }
}

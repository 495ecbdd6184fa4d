//! twinward.toml(5): the table of keys that `twinward check --sample` prints, as a manual page.

use twinward::settings::keys::{KEYS, variable};

use crate::manual::escaped;
use crate::packaged;

/// Each section with its keys.
fn keys() -> String {
    let mut page = String::new();
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            page += &format!(".SS [{section}]\n");
        }
        let name = key.name.rsplit('.').next().unwrap();
        let (value, default) = match key.default {
            Some(default) => (default, "This is the default."),
            None => (key.example, "This is an example; there is no default."),
        };
        page += &format!(".TP\n\\fB{}\\fR = {}\n", escaped(name), escaped(value));
        for line in key.help {
            page += &format!("{}\n", escaped(line));
        }
        let variable = escaped(&variable(key));
        page += &format!("{default}\nForm: {}.\nVariable:\n.BR {variable} .\n", escaped(&key.form.expected()));
    }
    page
}

#[test]
fn the_page_of_the_configuration_has_every_key() {
    let source = include_str!("../../packaging/man/twinward.toml.5.in");
    let page = source.replace("@VERSION@", env!("CARGO_PKG_VERSION")).replace("@keys\n", &keys());
    packaged("man/twinward.toml.5", &crate::manual::made(&page));
}

//! The sample configuration file, written from the table of keys so that it cannot be out of date.

use super::keys::KEYS;

/// A `twinward.toml` in which every key is explained and commented out; loading it changes nothing. The package ships it
/// as `packaging/twinward.toml`, byte for byte.
#[must_use]
pub fn sample() -> String {
    let mut text = String::from(
        "# twinward: local configuration. A line such as `#port = 8883` shows a default; remove the # to set it. What is\n\
         # marked as an example has no default. What is collected, how often and how much is set in the module twin, not here.\n\
         # Later sources win: built-in, /usr/lib/twinward/twinward.toml, this file, conf.d/*.toml beside it in order,\n\
         # environment variables such as TWINWARD_HUB__PORT. After a change: twinward check && systemctl restart twinward\n\
         # This file is the output of `twinward check --sample`.\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        for line in key.help {
            text.push_str(&format!("# {line}\n"));
        }
        let name = key.name.rsplit('.').next().unwrap_or(key.name);
        match key.default {
            Some(default) => text.push_str(&format!("#{name} = {default}\n")),
            None => text.push_str(&format!("#{name} = {}   # an example\n", key.example)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packaged_file_is_the_sample() {
        let packaged = include_str!("../../packaging/twinward.toml");
        assert!(packaged == sample(), "run: cargo run -- check --sample > packaging/twinward.toml");
    }

    #[test]
    fn no_line_of_the_sample_is_a_surprise() {
        for line in sample().lines() {
            let fine = line.is_empty() || line.starts_with(['#', '[']);
            assert!(fine && line.chars().count() <= 120, "{line}");
        }
    }
}

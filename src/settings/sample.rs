//! The sample configuration file, written from the table of keys so that it cannot be out of date.

use super::keys::KEYS;

/// A `twinward.toml` in which every key is explained and commented out; loading it changes nothing.
#[must_use]
pub fn sample() -> String {
    let mut text = String::from(
        "# Configuration of twinward. Each commented line shows a default or an example; remove the # to
         # set it.\n\
         # Later sources win: /usr/lib/twinward/twinward.toml, this file, conf.d/*.toml beside it in order, environment\n\
         # variables such as TWINWARD_HUB__PORT. `twinward check` prints what is in force and everything that is wrong.\n",
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

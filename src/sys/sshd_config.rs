//! The options of the SSH server as it would take them from its files (`sshd_config(5)`).
//!
//! A line is a keyword, in any case, and its arguments, apart by blanks or one `=`; arguments may stand in quotes; `#`
//! begins a comment. The first value of a keyword wins. `Match` begins a block that is for some connections only, up to
//! the next one or the end of the file; what it sets wins over the rest there. `Include` takes files in place, with `*`
//! in their names, relative to `/etc/ssh`.

use super::glob;
use super::host::Host;
use super::text_file::{self, TEXT_LIMIT, Unreadable, present};

/// Where the server itself is.
const PROGRAMS: [&str; 3] = ["/usr/sbin/sshd", "/sbin/sshd", "/usr/local/sbin/sshd"];
/// The second one is where a distribution has its own defaults.
const FILES: [&str; 2] = ["/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config"];
/// As deep as the server goes.
const DEPTH: usize = 16;
/// More lines and files than anybody has.
const OPTIONS: usize = 4096;
const INCLUDED: usize = 256;

/// One keyword with its value, in the order in which the server reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// In lower case; older names of an option are replaced by the present one.
    pub keyword: String,
    /// The arguments with one blank between two.
    pub value: String,
    /// The criteria of the `Match` block that it is in.
    pub block: Option<String>,
}

/// All that is set.
#[derive(Clone, Debug, Default)]
pub struct Options(Vec<Setting>);

impl Options {
    /// Reads the files; `None` if there is no SSH server.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(host: &Host) -> Result<Option<Self>, Unreadable> {
        let mut there = false;
        for path in PROGRAMS {
            there |= present(path.as_ref(), host.facts(path))?.is_some();
        }
        if !there {
            return Ok(None);
        }
        let mut options = Self::default();
        let mut files = 0;
        for path in FILES {
            if options.file(host, path, None, DEPTH, &mut files)? {
                break;
            }
        }
        Ok(Some(options))
    }

    /// The value outside of blocks, if one is set.
    #[must_use]
    pub fn value(&self, keyword: &str) -> Option<&str> {
        let keyword = present_name(&keyword.to_ascii_lowercase()).to_owned();
        let mut all = self.0.iter().filter(|s| s.keyword == keyword && s.block.is_none());
        all.next().map(|setting| setting.value.as_str())
    }

    /// What blocks set it to, with their criteria.
    #[must_use]
    pub fn in_blocks(&self, keyword: &str) -> Vec<&Setting> {
        let keyword = present_name(&keyword.to_ascii_lowercase()).to_owned();
        self.0.iter().filter(|s| s.keyword == keyword && s.block.is_some()).collect()
    }

    fn file(
        &mut self,
        host: &Host,
        path: &str,
        block: Option<&str>,
        depth: usize,
        files: &mut usize,
    ) -> Result<bool, Unreadable> {
        let Some(text) = text_file::read(host, path, TEXT_LIMIT)? else { return Ok(false) };
        // A block of an included file ends with it.
        let mut block = block.map(str::to_owned);
        for (keyword, arguments) in text.lines().filter_map(words) {
            match &*keyword {
                "match" => block = Some(clipped(arguments.join(" "))),
                "include" => {
                    for pattern in &arguments {
                        if *files >= INCLUDED {
                            break;
                        }
                        *files += 1;
                        let pattern =
                            if pattern.starts_with('/') { pattern.clone() } else { format!("/etc/ssh/{pattern}") };
                        for included in glob::expand(host, &pattern, INCLUDED)?.paths {
                            *files += 1;
                            if depth > 0
                                && *files <= INCLUDED
                                && let Some(path) = included.to_str()
                            {
                                self.file(host, path, block.as_deref(), depth - 1, files)?;
                            }
                        }
                    }
                }
                _ if self.0.len() < OPTIONS => {
                    let keyword = present_name(&keyword).to_owned();
                    self.0.push(Setting { keyword, value: clipped(arguments.join(" ")), block: block.clone() });
                }
                _ => {}
            }
        }
        Ok(true)
    }
}

/// Longer criteria and values are cut: no list of ciphers has so many bytes.
fn clipped(mut text: String) -> String {
    const LONGEST: usize = 2048;
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

/// Some options had other names once, which the server still takes.
fn present_name(keyword: &str) -> &str {
    match keyword {
        "challengeresponseauthentication" | "skeyauthentication" => "kbdinteractiveauthentication",
        "dsaauthentication" => "pubkeyauthentication",
        "pubkeyacceptedkeytypes" => "pubkeyacceptedalgorithms",
        "hostbasedacceptedkeytypes" => "hostbasedacceptedalgorithms",
        "keepalive" => "tcpkeepalive",
        other => other,
    }
}

/// Keyword and arguments of a line; `None` for one without both.
fn words(line: &str) -> Option<(String, Vec<String>)> {
    let line = line.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{c}');
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_ascii_whitespace() || c == '=' || c == '"')?;
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let mut arguments = Vec::new();
    let mut letters = rest.chars().peekable();
    while let Some(first) = letters.next() {
        let mut word = String::new();
        match first {
            c if c.is_ascii_whitespace() => continue,
            '#' => break,
            quote @ ('"' | '\'') => word.extend(letters.by_ref().take_while(|c| *c != quote)),
            c => {
                word.push(c);
                while let Some(c) = letters.next_if(|c| !c.is_ascii_whitespace()) {
                    word.push(c);
                }
            }
        }
        arguments.push(word);
    }
    (!keyword.is_empty() && !arguments.is_empty()).then(|| (keyword.to_ascii_lowercase(), arguments))
}

/// Seconds of a time such as `2m`, `1h30m` or `600`; `None` if it is none.
#[must_use]
pub fn seconds(text: &str) -> Option<i64> {
    let (mut total, mut number) = (0_i64, None::<i64>);
    for letter in text.chars() {
        if let Some(digit) = letter.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(i64::from(digit))?);
            continue;
        }
        let unit = match letter.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    match number {
        Some(rest) => total.checked_add(rest),
        None => (!text.is_empty()).then_some(total),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;

    use proptest::prelude::*;

    use super::*;
    use crate::sys::files::write_atomic;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files.iter().chain(&[("usr/sbin/sshd", "")]) {
            let path = root.path().join(path);
            create_dir_all(path.parent().unwrap()).unwrap();
            write_atomic(&path, text.as_bytes(), 0o644).unwrap();
        }
        let host = Host::rooted(root.path());
        (root, host)
    }

    #[test]
    fn the_first_value_wins_and_blocks_are_kept_apart() {
        let main = "# PermitRootLogin no\nInclude sshd_config.d/*.conf\npermitrootlogin = yes\nPORT=22\n\
            PasswordAuthentication \"no\" # not here\nAllowUsers ann  \"b b\"\nMatch User pi\n  PasswordAuthentication yes\n\
            Include \"/etc/ssh/inner\"\n X11Forwarding yes\nMatch all\nLoginGraceTime 1m30\n";
        let (_root, host) = machine(&[
            ("etc/ssh/sshd_config", main),
            (
                "etc/ssh/sshd_config.d/10-a.conf",
                "PermitRootLogin prohibit-password\nMatch Address 10.0.0.0/8\nBanner none",
            ),
            ("etc/ssh/sshd_config.d/20-b.conf", "PermitRootLogin yes\nChallengeResponseAuthentication no\n"),
            ("etc/ssh/sshd_config.d/c.txt", "Port 23\n"),
            ("etc/ssh/inner", "MaxAuthTries 9\n"),
        ]);
        let options = Options::read(&host).unwrap().unwrap();
        assert_eq!(options.value("PermitRootLogin"), Some("prohibit-password"));
        assert_eq!((options.value("port"), options.value("PasswordAuthentication")), (Some("22"), Some("no")));
        assert_eq!(options.value("AllowUsers"), Some("ann b b"));
        assert_eq!(options.value("KbdInteractiveAuthentication"), Some("no"), "not in the block of the file before");
        assert_eq!((options.value("X11Forwarding"), options.value("Banner")), (None, None));
        let block = options.in_blocks("MaxAuthTries");
        assert_eq!((block[0].value.as_str(), block[0].block.as_deref()), ("9", Some("User pi")));
        assert_eq!(options.in_blocks("LoginGraceTime")[0].block.as_deref(), Some("all"));
    }

    #[test]
    fn files_that_include_themselves_end() {
        let (_root, host) = machine(&[("etc/ssh/sshd_config", "Include sshd_config\nInclude sshd_config\nPort 1\n")]);
        assert_eq!(Options::read(&host).unwrap().unwrap().value("Port"), Some("1"));
    }

    #[test]
    fn without_a_server_there_is_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert!(Options::read(&Host::rooted(root.path())).unwrap().is_none());
        let (_root, host) = machine(&[]);
        assert_eq!(Options::read(&host).unwrap().unwrap().value("Port"), None);
    }

    #[test]
    fn times_are_read() {
        for (text, is) in [("120", Some(120)), ("2m", Some(120)), ("1h30m", Some(5400)), ("x", None), ("", None)] {
            assert_eq!(seconds(text), is, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,200}") {
            let _ = words(&text);
            let _ = seconds(&text);
        }
    }
}

//! From source text to the paths that it names. Comments and literals are skipped; nothing is expanded.

/// A piece of source that matters here: an identifier, `::`, or one character of punctuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its text.
    pub text: String,
    /// Its line, from 1.
    pub line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Where a path leads, as seen from the crate root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Into this top-level module (or item).
    Room(String),
    /// The crate root itself, by a glob or another name: hides which room is meant.
    Root,
}

/// Reads past a literal that ends with `end`; a backslash keeps the next character from ending it.
fn skip_quoted(chars: &[char], mut at: usize, end: char) -> usize {
    while let Some(&c) = chars.get(at) {
        at += 1;
        match c {
            '\\' => at += 1,
            _ if c == end => return at,
            _ => {}
        }
    }
    at
}

/// If a raw string (`r"…"`, `r#"…"#`, also after `b` or `c`) starts at `at`, the place behind it.
fn skip_raw(chars: &[char], at: usize) -> Option<usize> {
    let mut here = at;
    if matches!(chars.get(here), Some('b' | 'c')) {
        here += 1;
    }
    if chars.get(here) != Some(&'r') {
        return None;
    }
    here += 1;
    let hashes = chars.iter().skip(here).take_while(|c| **c == '#').count();
    here += hashes;
    if chars.get(here) != Some(&'"') {
        return None;
    }
    here += 1;
    while here < chars.len() {
        if chars.get(here) == Some(&'"') && chars.iter().skip(here + 1).take_while(|c| **c == '#').count() >= hashes {
            return Some(here + 1 + hashes);
        }
        here += 1;
    }
    Some(here)
}

/// The place behind a comment that starts at `at`, if one does. Block comments nest.
fn skip_comment(chars: &[char], at: usize) -> Option<usize> {
    match (chars.get(at), chars.get(at + 1)) {
        (Some('/'), Some('/')) => Some(at + chars.iter().skip(at).take_while(|c| **c != '\n').count()),
        (Some('/'), Some('*')) => {
            let (mut here, mut depth) = (at + 2, 1);
            while depth > 0 && here < chars.len() {
                match (chars.get(here), chars.get(here + 1)) {
                    (Some('/'), Some('*')) => (here, depth) = (here + 2, depth + 1),
                    (Some('*'), Some('/')) => (here, depth) = (here + 2, depth - 1),
                    _ => here += 1,
                }
            }
            Some(here)
        }
        _ => None,
    }
}

/// Splits source text into tokens.
#[must_use]
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let (mut found, mut at, mut line, mut counted) = (Vec::new(), 0, 1, 0);
    while let Some(&c) = chars.get(at) {
        line += chars.iter().take(at).skip(counted).filter(|c| **c == '\n').count();
        counted = at;
        if c.is_whitespace() {
            at += 1;
        } else if let Some(behind) = skip_comment(&chars, at).or_else(|| skip_raw(&chars, at)) {
            at = behind;
        } else if c == '"' || (matches!(c, 'b' | 'c') && chars.get(at + 1) == Some(&'"')) {
            at = skip_quoted(&chars, at + if c == '"' { 1 } else { 2 }, '"');
        } else if c == '\'' {
            // `'x'` and `'\n'` are characters, `'x` is a lifetime.
            let is_char = chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'');
            at = if is_char { skip_quoted(&chars, at + 1, '\'') } else { at + 1 };
        } else if c.is_alphanumeric() || c == '_' {
            // `r#name` is the identifier `name`.
            let raw = c == 'r' && chars.get(at + 1) == Some(&'#');
            let start = if raw { at + 2 } else { at };
            let text: String = chars.iter().skip(start).take_while(|c| c.is_alphanumeric() || **c == '_').collect();
            at = start + text.chars().count();
            found.push(Token { text, line });
        } else {
            let text = if c == ':' && chars.get(at + 1) == Some(&':') { "::".to_owned() } else { c.to_string() };
            at += text.chars().count();
            found.push(Token { text, line });
        }
    }
    found
}

/// The paths that lead to the crate root or through it, with their lines.
///
/// `module` is the path of the file's module from the crate root, for example `["hub", "link"]`; modules written
/// inside the file are followed, so that their `super` is read right. `crate_names` are words for the root: `crate`,
/// and in a program that uses its own library, the library's name.
#[must_use]
pub fn paths(tokens: &[Token], module: &[String], crate_names: &[&str]) -> Vec<(usize, Target)> {
    let mut found = Vec::new();
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0_usize;
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    for (i, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => {
                depth += 1;
                if i >= 2 && text(i - 2) == "mod" {
                    inside.push((text(i - 1).to_owned(), depth));
                }
            }
            "}" => {
                if inside.last().is_some_and(|(_, d)| *d == depth) {
                    inside.pop();
                }
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        let after_path = i > 0 && text(i - 1) == "::" && i > 1 && tokens.get(i - 2).is_some_and(Token::is_word);
        if after_path {
            continue;
        }
        let here: Vec<String> = module.iter().cloned().chain(inside.iter().map(|(name, _)| name.clone())).collect();
        let base = match token.text.as_str() {
            name if crate_names.contains(&name) => Some(Vec::new()),
            "super" => Some(parent(&here)),
            "self" if text(i + 1) == "::" => Some(here),
            _ => None,
        };
        // `pub(crate)` and `pub(super)` give a right to see, they use nothing.
        let visibility = i > 1 && text(i - 1) == "(" && text(i - 2) == "pub" && text(i + 1) == ")";
        if let Some(base) = base.filter(|_| !visibility) {
            follow(tokens, i + 1, base, token.line, &mut found);
        }
    }
    found
}

fn parent(module: &[String]) -> Vec<String> {
    module.iter().take(module.len().saturating_sub(1)).cloned().collect()
}

/// Follows a path whose first part stands just before `at` and means the module `base`.
fn follow(tokens: &[Token], mut at: usize, mut base: Vec<String>, line: usize, found: &mut Vec<(usize, Target)>) {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    while text(at) == "::" && text(at + 1) == "super" {
        base = parent(&base);
        at += 2;
    }
    if let Some(room) = base.first() {
        found.push((line, Target::Room(room.clone())));
    } else if text(at) != "::" {
        found.push((line, Target::Root));
    } else if text(at + 1) == "{" {
        follow_group(tokens, at + 2, found);
    } else {
        found.push((line, member(text(at + 1))));
    }
}

/// What a word means directly below the crate root.
fn member(word: &str) -> Target {
    if matches!(word, "self" | "*") { Target::Root } else { Target::Room(word.to_owned()) }
}

/// The members of a group that hangs on the crate root: each one starts with a room.
fn follow_group(tokens: &[Token], at: usize, found: &mut Vec<(usize, Target)>) {
    let (mut depth, mut first) = (1_usize, true);
    for token in tokens.iter().skip(at) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => first = true,
            word if first => {
                found.push((token.line, member(word)));
                first = false;
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(module: &[&str], source: &str) -> Vec<String> {
        let module: Vec<String> = module.iter().map(|m| (*m).to_owned()).collect();
        paths(&tokens(source), &module, &["crate"])
            .into_iter()
            .map(|(line, target)| match target {
                Target::Room(room) => format!("{line}:{room}"),
                Target::Root => format!("{line}:the root"),
            })
            .collect()
    }

    #[test]
    fn plain_and_grouped_paths_are_found_with_their_lines() {
        let source = "use crate::model::ids::AgentId;\nuse crate::{\n  sys::{clock, files},\n  settings,\n};\nfn f() { crate::hub::go() }";
        assert_eq!(targets(&["spool"], source), ["1:model", "3:sys", "4:settings", "6:hub"]);
    }

    #[test]
    fn supers_are_counted_from_the_module_they_stand_in() {
        assert_eq!(targets(&["hub", "link"], "use super::twin;"), ["1:hub"]);
        assert_eq!(targets(&["hub", "link"], "use super::super::spool::Spool;"), ["1:spool"]);
        assert_eq!(targets(&["hub"], "use super::{spool, model};"), ["1:spool", "1:model"]);
        assert_eq!(
            targets(&["hub"], "mod tests { use super::super::spool; }\nuse super::model;"),
            ["1:spool", "2:model"]
        );
        assert_eq!(targets(&["hub"], "use self::super::spool;"), ["1:spool"]);
    }

    #[test]
    fn ways_to_hide_a_room_lead_to_the_root() {
        for source in ["use crate::*;", "use crate as house;", "use crate::{self as house};", "use super::*;"] {
            assert_eq!(targets(&["hub"], source), ["1:the root"], "{source}");
        }
    }

    #[test]
    fn visibility_comments_and_literals_are_no_paths() {
        let source = r##"
            pub(crate) fn a() {} pub(super) fn b() {}
            // use crate::hub;
            /* crate::hub /* crate::spool */ crate::hub */
            /// [`crate::hub`]
            const A: &str = "crate::hub \" crate::hub";
            const B: &str = r#"crate::hub " crate::hub"#;
            const C: (char, char, u8) = ('"', '\'', b'"');
            fn c<'a>(x: &'a str) -> &'a str { x }
            fn d() { crate::sys::go() }
        "##;
        assert_eq!(targets(&["model"], source), ["10:sys"]);
    }

    #[test]
    fn raw_identifiers_and_macros_are_read() {
        assert_eq!(
            targets(&["model"], "use crate::r#try::x; macro_rules! m { () => { $crate::sys::x() } }"),
            ["1:try", "1:sys"]
        );
    }
}

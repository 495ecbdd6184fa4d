//! Human tables and JSON lines on standard output.

use std::io::{self, Write};

use serde::Serialize;

/// Text from outside (command lines, names) with the characters made visible that steer a terminal or deceive its
/// reader: control characters, those that turn the direction of writing, and Unicode's own line breaks.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if steers(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// As [`printable`], with the line breaks kept: for our own texts that have several lines.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// The second group is all of Unicode's `Bidi_Control`.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Prints [`table_text`].
///
/// # Errors
/// Those of standard output; a closed pipe among them.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    io::stdout().lock().write_all(table_text(header, rows).as_bytes())
}

/// Rows under a header, one line each, columns aligned with two blanks between them; the last column is not padded.
/// Cells are made [`printable`].
#[must_use]
pub fn table_text(header: &[&str], rows: &[Vec<String>]) -> String {
    let cells: Vec<Vec<String>> = std::iter::once(header.iter().map(|h| (*h).to_owned()).collect())
        .chain(rows.iter().map(|row| row.iter().map(|c| printable(c)).collect()))
        .collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|i| cells.iter().filter_map(|row| row.get(i)).map(|c| c.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &cells {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if i + 1 < row.len() {
                let pad = widths.get(i).copied().unwrap_or(0).saturating_sub(cell.chars().count()) + 2;
                line.extend(std::iter::repeat_n(' ', pad));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Prints one value as one line of JSON.
///
/// # Errors
/// Those of standard output; a closed pipe among them.
pub fn json_line<T: Serialize>(value: &T) -> io::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("größe"), "größe");
    }

    #[test]
    fn characters_that_turn_or_break_the_line_are_shown() {
        assert_eq!(printable("a\u{202e}gpj.sh"), "a\\u{202e}gpj.sh");
        let turning = ['\u{61c}', '\u{200e}', '\u{200f}'].into_iter();
        let turning = turning.chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        for c in turning.chain(['\u{2028}', '\u{2029}', '\u{85}']) {
            assert_eq!(printable(&c.to_string()), format!("\\u{{{:x}}}", u32::from(c)));
        }
        // Letters that are written from right to left are text, and so are their neighbours in the tables.
        for text in ["שלום", "سلام", "\u{200d}\u{2027}\u{202f}\u{2065}\u{206a}"] {
            assert_eq!(printable(text), text);
        }
    }

    #[test]
    fn only_line_breaks_are_kept_in_a_text_of_several_lines() {
        assert_eq!(printable_lines("a\n\x1b[2Jb\r\n\u{2028}"), "a\n\\u{1b}[2Jb\\r\n\\u{2028}");
    }
}

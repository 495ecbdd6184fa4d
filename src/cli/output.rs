//! Human tables and JSON lines on standard output.

use std::io::{self, Write};

use serde::Serialize;

/// Text from outside (command lines, names) with control characters made visible, so that it cannot steer a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
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
}

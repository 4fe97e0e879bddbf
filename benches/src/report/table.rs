//! The table on stdout, a line as soon as its row is known.

use std::io::{IsTerminal, Write};

use crate::harness::{Row, amount};

/// Prints the heading.
pub fn heading() {
    println!(
        "{:<44} {:>8} {:<9} {:<34} {:>7} {:>9}  met",
        "name", "figure", "unit", "against", "ratio", "aim"
    );
}

/// Prints one row.
pub fn row(row: &Row) {
    progress("");
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let met = row.met.map(|met| if met { "yes" } else { "NO" }.to_owned());
    println!(
        "{:<44} {:>8} {:<9} {:<34} {:>7} {:>9}  {}{}",
        row.name,
        or_dash(row.figure.map(amount)),
        row.unit,
        or_dash(row.against.clone()),
        or_dash(row.ratio.map(amount)),
        or_dash(row.aim.map(|aim| aim.to_string())),
        or_dash(met),
        row.note.as_ref().map(|note| format!("  ({note})")).unwrap_or_default(),
    );
}

/// Shows what is being measured, on a terminal only; the next row overwrites it.
pub fn progress(text: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[2K{text}");
        let _ = stderr.flush();
    }
}

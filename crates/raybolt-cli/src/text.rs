//! Numbers as people read them, and tables.

use comfy_table::Table;
use comfy_table::presets::NOTHING;

/// A time, in its two largest units.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1_000 / 100),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A number of bytes, with three digits.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = count as f64;
    let mut unit = 0;
    while amount >= 1_000.0 && unit + 1 < units.len() {
        amount /= 1_024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ if amount < 10.0 => format!("{amount:.2} {}", units[unit]),
        _ if amount < 100.0 => format!("{amount:.1} {}", units[unit]),
        _ => format!("{amount:.0} {}", units[unit]),
    }
}

/// Rows under a line of headers; two columns without headers if there are none.
pub(crate) fn table<const N: usize>(headers: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if headers.iter().any(|header| !header.is_empty()) {
        table.set_header(headers);
    }
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // The padding of the last column is nobody's.
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_a_unit_that_fits() {
        assert_eq!(
            [0, 999, 1_000, 104_858, 5 << 30].map(bytes),
            ["0 B", "999 B", "0.98 KiB", "102 KiB", "5.00 GiB"]
        );
        assert_eq!([5, 61_000, 90_000_000].map(duration), ["5 ms", "1 min 1 s", "1 d 1 h"]);
    }

    #[test]
    fn tables_are_columns_and_nothing_else() {
        let rows = vec![["task-1".into(), "f".into()], ["task-1f.2".into(), "long name".into()]];
        let expected = "ID         NAME\ntask-1     f\ntask-1f.2  long name";
        assert_eq!(table(["ID", "NAME"], rows), expected);
    }
}

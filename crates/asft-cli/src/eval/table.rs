//! Tables on a terminal.

/// Rows under a header, columns aligned: the first to the left, the others to the right.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(|name| name.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let mut text = String::new();
        for (column, (cell, width)) in cells.into_iter().zip(widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            text += &if column == 0 { format!("{cell}{pad}") } else { format!("  {pad}{cell}") };
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut text = line(header);
    for row in rows {
        text += &line(std::array::from_fn(|column| row[column].as_str()));
    }
    text
}

/// A number with so many decimals, or a dash.
pub fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.decimals$}"))
}

/// An interval, or a dash.
pub fn interval(interval: Option<[f64; 2]>, decimals: usize) -> String {
    interval.map_or("–".to_owned(), |[low, high]| format!("{low:.decimals$}–{high:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a".to_owned(), number(Some(1.25), 1)], ["long".to_owned(), number(None, 1)]];
        assert_eq!(table(["name", "x"], &rows), "name    x\na     1.2\nlong    –\n");
        assert_eq!(interval(Some([1.0, 2.5]), 1), "1.0–2.5");
    }
}

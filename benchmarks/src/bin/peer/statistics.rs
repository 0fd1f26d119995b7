//! Repeated measurements.

use std::fmt;

/// The middle, the least and the most of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// Of at least one value; the median of an even number is the mean of the middle two.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (values.first(), values.last()) else {
            return Self { median: f64::NAN, least: f64::NAN, most: f64::NAN };
        };
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Self { median, least, most }
    }
}

impl fmt::Display for Spread {
    /// With as many digits as tell three figures of the median.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = (2 - self.median.abs().log10().floor() as i64).clamp(0, 6) as usize;
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.least, self.most)
    }
}

/// A Markdown table whose columns line up; all but the first to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0).max(3)).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, width) in widths.iter().enumerate() {
            let cell = row.get(column).map_or("", String::as_str);
            match column {
                0 => text += &format!("| {cell:<width$} |"),
                _ => text += &format!(" {cell:>width$} |"),
            }
        }
        text.push('\n');
        if index == 0 {
            let rule = |(column, width): (usize, &usize)| match column {
                0 => format!("|{}|", "-".repeat(width + 2)),
                _ => format!("{}:|", "-".repeat(width + 1)),
            };
            text += &widths.iter().enumerate().map(rule).collect::<String>();
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        for (values, shown) in [
            (vec![3.0, 1.0, 2.0], "2.00 (1.00–3.00)"),
            (vec![10.0, 11.0], "10.5 (10.0–11.0)"),
            (vec![125.94], "126 (126–126)"),
            (vec![0.012345], "0.0123 (0.0123–0.0123)"),
        ] {
            assert_eq!(Spread::of(values).to_string(), shown);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["".into(), "TRL".into()], vec!["pairs/s".into(), "1–2".into()]];
        assert_eq!(table(&rows), "|         | TRL |\n|---------|----:|\n| pairs/s | 1–2 |\n");
    }
}

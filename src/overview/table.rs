//! Tables for people: columns as wide as their cells, or as there is room for.

use ::console::measure_text_width;

use super::text::cut;

/// Between two columns.
pub const GAP: usize = 2;

/// What a column keeps at least of its cells where all of them have to be cut.
const LEAST: usize = 8;

/// These rows, of which the first is the head, in lines of at most `columns`, if there is a limit. Where they are too long the
/// last columns of the names `expendable` go, in that order, as far as need be; if that is not enough the widest ones are cut.
pub fn table(
    mut rows: Vec<Vec<String>>,
    expendable: &[&str],
    columns: Option<usize>,
) -> Vec<String> {
    let limit = columns.unwrap_or(usize::MAX);
    let mut widths = widths(&rows);
    for name in expendable {
        if total(&widths) <= limit {
            break;
        }
        let head = rows
            .first()
            .map(|head| head.iter().rposition(|cell| cell == name));
        if let Some(column) = head.flatten() {
            for row in &mut rows {
                row.remove(column);
            }
            widths.remove(column);
        }
    }
    // The lines are cut where even the least is too much.
    while total(&widths) > limit
        && let Some(widest) = widths.iter_mut().max().filter(|it| **it > LEAST)
    {
        *widest -= 1;
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| pad(&cut(cell, *width), *width));
        let line = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
        cut(line.trim_end(), limit)
    };
    rows.iter().map(line).collect()
}

/// The width of each column.
pub fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().map(|row| measure_text_width(&row[column]));
        cells.max().unwrap_or(0)
    };
    (0..columns).map(width).collect()
}

/// The cell with spaces behind it.
pub fn pad(cell: &str, width: usize) -> String {
    let missing = width.saturating_sub(measure_text_width(cell));
    format!("{cell}{}", " ".repeat(missing))
}

/// The width of a line.
fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let rows = [
            ["POINT", "STATE", "SCORE", "RESTARTS"],
            [
                "001-learning_rate=0.05-momentum=0.9",
                "finished",
                "0.5",
                "-",
            ],
            ["002-learning_rate=0.1-momentum=0.9", "waiting", "-", "3"],
        ];
        rows.map(|row| row.map(str::to_owned).into()).into()
    }

    #[test]
    fn table_has_columns_as_wide_as_their_cells() {
        let want = "\
POINT                                STATE     SCORE  RESTARTS
001-learning_rate=0.05-momentum=0.9  finished  0.5    -
002-learning_rate=0.1-momentum=0.9   waiting   -      3";
        assert_eq!(table(rows(), &["RESTARTS"], None).join("\n"), want);
        assert_eq!(table(rows(), &["RESTARTS"], Some(62)).join("\n"), want);
    }

    #[test]
    fn table_that_is_too_wide_loses_what_is_expendable_and_then_ends_of_its_widest_cells() {
        let want = "\
POINT                                STATE     SCORE
001-learning_rate=0.05-momentum=0.9  finished  0.5
002-learning_rate=0.1-momentum=0.9   waiting   -";
        assert_eq!(table(rows(), &["RESTARTS"], Some(61)).join("\n"), want);
        let want = "\
POINT                STATE     SCORE
001-learning_rate=…  finished  0.5
002-learning_rate=…  waiting   -";
        assert_eq!(table(rows(), &["RESTARTS"], Some(36)).join("\n"), want);
    }

    #[test]
    fn table_fits_every_width() {
        for columns in 1..70 {
            for line in table(rows(), &["RESTARTS", "SCORE"], Some(columns)) {
                assert!(measure_text_width(&line) <= columns, "{columns}: {line:?}");
            }
        }
    }
}

//! Curves in a terminal, of braille dots: two by four in each letter.

#[cfg(test)]
use ::console::measure_text_width;

use super::text::{Paint, number};

/// Dots of a letter, by column and row. U+2800 is the letter without any.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
const BLANK: u32 = 0x2800;

/// Colours of curves, as codes of ECMA-48, in turns.
const COLOURS: [&str; 6] = ["36", "33", "32", "35", "34", "31"];

/// A curve to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// In the order of x. Those with a y that is not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Curves over each other, in lines of `width` columns and `height` rows beside axis and legend. Without colours each has a
/// plot of its own, all with the same axes.
pub fn plot(series: &[Series], width: usize, height: usize, paint: Paint) -> Vec<String> {
    let finite: Vec<Series> = series
        .iter()
        .map(|series| Series {
            name: series.name.clone(),
            points: series
                .points
                .iter()
                .copied()
                .filter(|(_, y)| y.is_finite())
                .collect(),
        })
        .collect();
    let Some(axes) = Axes::of(&finite, width, height) else {
        return vec!["no point to draw".to_owned()];
    };
    match paint.colour || finite.len() == 1 {
        true => axes.plot(&finite, paint),
        false => finite
            .chunks(1)
            .flat_map(|one| axes.plot(one, paint))
            .collect(),
    }
}

/// What the edges of a plot stand for.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    /// Columns and rows of letters that the curves take.
    columns: usize,
    rows: usize,
    /// Columns of the numbers on the left.
    margin: usize,
}

impl Axes {
    /// None without any point.
    fn of(series: &[Series], width: usize, height: usize) -> Option<Self> {
        let points = || series.iter().flat_map(|series| series.points.iter());
        let range = |of: fn(&(f64, f64)) -> f64| {
            let least = points().map(of).reduce(f64::min)?;
            let most = points().map(of).reduce(f64::max)?;
            Some((least, most))
        };
        let (x, mut y) = (range(|point| point.0)?, range(|point| point.1)?);
        if y.0 == y.1 {
            // A level curve, in the middle.
            let room = if y.0 == 0.0 { 1.0 } else { 0.1 * y.0.abs() };
            y = (y.0 - room, y.1 + room);
        }
        let rows = height.max(3);
        let labels = [number(y.0), number(y.1)];
        let margin = labels.iter().map(|label| label.len()).max().unwrap_or(0);
        Some(Axes {
            x,
            y,
            columns: width.saturating_sub(margin + 2).max(10),
            rows,
            margin,
        })
    }

    fn plot(&self, series: &[Series], paint: Paint) -> Vec<String> {
        let mut canvas = Canvas::new(self.columns, self.rows);
        for (index, series) in series.iter().enumerate() {
            let dots: Vec<(i64, i64)> =
                series.points.iter().map(|point| self.dot(*point)).collect();
            canvas.line(&dots, index);
        }
        let mut lines: Vec<String> = Vec::new();
        let painted = |text: &str, index: usize| paint.with(COLOURS[index % COLOURS.len()], text);
        for row in 0..self.rows {
            let label = match row {
                0 => number(self.y.1),
                row if row == self.rows - 1 => number(self.y.0),
                row if row == self.rows / 2 && self.rows > 4 => {
                    let share = (row as f64 + 0.5) / self.rows as f64;
                    number(self.y.1 - share * (self.y.1 - self.y.0))
                }
                _ => String::new(),
            };
            let mut line = paint.dim(&format!("{label:>0$} │", self.margin));
            for column in 0..self.columns {
                let (dots, owner) = canvas.cells[row * self.columns + column];
                match dots {
                    0 => line.push(' '),
                    _ => line += &painted(&letter(dots).to_string(), owner),
                }
            }
            lines.push(line.trim_end().to_owned());
        }
        let (first, last) = (format!("{}", self.x.0), format!("{}", self.x.1));
        let axis = format!("{:1$} └{2}", "", self.margin, "─".repeat(self.columns));
        let room = self.columns.saturating_sub(first.len() + last.len());
        let steps = format!(
            "{:1$}{first}{2}{last}",
            "",
            self.margin + 2,
            " ".repeat(room)
        );
        lines.extend([paint.dim(&axis), paint.dim(&steps)]);
        lines.extend(series.iter().enumerate().map(|(index, series)| {
            format!(
                "{:1$}{2} {name}",
                "",
                self.margin + 2,
                painted("━", index),
                name = series.name
            )
        }));
        lines
    }

    /// The dot of a point, from the top left.
    fn dot(&self, (x, y): (f64, f64)) -> (i64, i64) {
        let share = |value: f64, (least, most): (f64, f64)| match most > least {
            true => (value - least) / (most - least),
            false => 0.0,
        };
        let (width, height) = (2 * self.columns - 1, 4 * self.rows - 1);
        let column = share(x, self.x) * width as f64;
        let row = (1.0 - share(y, self.y)) * height as f64;
        (column.round() as i64, row.round() as i64)
    }
}

/// Letters, each with its dots and with the curve that drew them last.
struct Canvas {
    columns: usize,
    rows: usize,
    cells: Vec<(u8, usize)>,
}

impl Canvas {
    fn new(columns: usize, rows: usize) -> Self {
        Canvas {
            columns,
            rows,
            cells: vec![(0, 0); columns * rows],
        }
    }

    /// Dots, and what joins each with the next.
    fn line(&mut self, dots: &[(i64, i64)], owner: usize) {
        if let [(x, y)] = dots {
            self.set(*x, *y, owner);
        }
        for pair in dots.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let steps = (x1 - x0).abs().max((y1 - y0).abs()).max(1);
            for step in 0..=steps {
                let at =
                    |from: i64, to: i64| from + ((to - from) * step + steps / 2).div_euclid(steps);
                self.set(at(x0, x1), at(y0, y1), owner);
            }
        }
    }

    fn set(&mut self, x: i64, y: i64, owner: usize) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
            return;
        };
        if x < 2 * self.columns && y < 4 * self.rows {
            let cell = &mut self.cells[y / 4 * self.columns + x / 2];
            *cell = (cell.0 | DOTS[x % 2][y % 4], owner);
        }
    }
}

fn letter(dots: u8) -> char {
    char::from_u32(BLANK + u32::from(dots)).unwrap_or(' ')
}

/// The width of a plot's widest line.
#[cfg(test)]
fn widest(lines: &[String]) -> usize {
    lines
        .iter()
        .map(|line| measure_text_width(line))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Paint = Paint { colour: false };

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series {
            name: name.to_owned(),
            points: points.to_vec(),
        }
    }

    #[test]
    fn plot_goes_from_the_first_point_to_the_last() {
        let rising = series("a", &[(0.0, 0.0), (100.0, 1.0)]);
        let lines = plot(&[rising], 27, 5, PLAIN);
        assert_eq!(
            lines,
            [
                "1.000 │                ⣀⠤⠒⠉",
                "      │            ⣀⠤⠒⠉",
                "0.500 │        ⣀⠤⠒⠉",
                "      │    ⣀⠤⠒⠉",
                "0.000 │⣀⠤⠒⠉",
                "      └────────────────────",
                "       0                100",
                "       ━ a",
            ]
            .map(|line| line.to_owned())
        );
    }

    #[test]
    fn plot_fits_its_width_whatever_the_points_are() {
        let odd = series(
            "odd",
            &[
                (0.0, f64::NAN),
                (1.0, -1e30),
                (2.0, 1e-30),
                (2.0, f64::INFINITY),
            ],
        );
        let level = series("level", &[(0.0, 0.5), (9.0, 0.5)]);
        let single = series("one", &[(7.0, 0.0)]);
        for all in [
            vec![odd.clone()],
            vec![level.clone()],
            vec![single.clone()],
            vec![odd, level, single],
        ] {
            for colour in [false, true] {
                for width in [20, 40, 80, 200] {
                    let lines = plot(&all, width, 8, Paint { colour });
                    assert!(widest(&lines) <= width.max(24), "{width}: {lines:#?}");
                    assert!(lines.iter().any(|line| line.contains('─')));
                }
            }
        }
        assert_eq!(
            plot(&[series("a", &[])], 80, 8, PLAIN),
            ["no point to draw"]
        );
    }

    #[test]
    fn curves_share_a_plot_where_colours_tell_them_apart() {
        let all = [
            series("a", &[(0.0, 1.0), (1.0, 2.0)]),
            series("b", &[(0.0, 3.0)]),
        ];
        let apart = plot(&all, 40, 4, PLAIN);
        assert_eq!(apart.iter().filter(|line| line.contains('└')).count(), 2);
        // With the same axes.
        assert!(
            apart[0].starts_with("3.000 ") && apart[7].starts_with("3.000 "),
            "{apart:#?}"
        );
        let together = plot(&all, 40, 4, Paint { colour: true });
        assert_eq!(together.iter().filter(|line| line.contains('└')).count(), 1);
        assert!(together.last().unwrap().contains("\x1b[33m━\x1b[0m b"));
    }
}

//! A table of runs in the forms in which it is written: for a terminal, as Markdown, as CSV and as JSON.

use ::console::measure_text_width;
use serde_json::{Map, Value as Json};

use super::{Entry, Key, Value, parallel};
use crate::catalog::column::Kind;
use crate::overview::Paint;
use crate::overview::table::{GAP, widths};
use crate::overview::text::cut;
use crate::sweep::csv_line;

/// What a column of words is cut to, where the terminal has no room for all of it.
const LEAST: usize = 12;

/// What a table is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people. In so many columns, where it is for a terminal.
    Text(Option<usize>, Paint),
    Markdown,
    Csv,
    Json,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// In JSON and CSV.
    pub name: String,
    /// For people.
    pub heading: String,
    /// What its values are.
    pub kind: Kind,
    /// On a terminal that is too narrow the columns with the highest numbers are left out first; those with 0 stay.
    pub spare: u8,
}

impl Head {
    /// A column that stays on a narrow terminal.
    pub fn new(name: &str, heading: &str, kind: Kind) -> Self {
        Head {
            name: name.to_owned(),
            heading: heading.to_owned(),
            kind,
            spare: 0,
        }
    }

    /// That of a column of runs.
    pub fn of(key: Key) -> Self {
        Head {
            name: key.name().to_owned(),
            heading: key.heading(),
            kind: key.kind(),
            spare: 0,
        }
    }

    fn is_right(&self) -> bool {
        let numbers = [Kind::Number, Kind::Bytes, Kind::Duration];
        numbers.contains(&self.kind)
    }

    /// Whether its cells may be cut.
    fn is_flexible(&self) -> bool {
        [Kind::Text, Kind::List, Kind::Fields].contains(&self.kind)
            && !["run", "state"].contains(&&*self.name)
    }
}

/// What a row of a table is of.
pub trait Row: Sync {
    /// What it has in a column; none where it has nothing there.
    fn value(&self, key: Key) -> Option<Value>;
}

impl Row for Entry {
    fn value(&self, key: Key) -> Option<Value> {
        key.value(self)
    }
}

/// A table of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub heads: Vec<Head>,
    /// As many values in each as there are heads.
    pub rows: Vec<Vec<Option<Value>>>,
}

impl Table {
    /// What these have in these columns.
    pub fn of(rows: &[impl Row], keys: &[Key]) -> Self {
        let values = |row: &_| keys.iter().map(|key| Row::value(row, *key)).collect();
        Table {
            heads: keys.iter().map(|key| Head::of(*key)).collect(),
            rows: parallel::map(rows, values),
        }
    }

    /// Inserts a column behind so many of those that there are.
    pub fn insert(
        &mut self,
        place: usize,
        head: Head,
        values: impl IntoIterator<Item = Option<Value>>,
    ) {
        self.heads.insert(place, head);
        for (row, value) in self.rows.iter_mut().zip(values) {
            row.insert(place, value);
        }
    }

    /// Removes the columns of these names that no row has a value in, or none but a count of 0.
    pub fn remove_empty(&mut self, names: &[&str]) {
        let has_value = |value: &Option<Value>| !matches!(value, None | Some(Value::Count(0)));
        let kept: Vec<bool> = (0..self.heads.len())
            .map(|column| {
                let may_go = names.contains(&&*self.heads[column].name);
                !may_go || self.rows.iter().any(|row| has_value(&row[column]))
            })
            .collect();
        self.keep(&kept);
    }

    /// Removes the columns of these names.
    pub fn remove(&mut self, names: &[&str]) {
        let kept: Vec<bool> = self
            .heads
            .iter()
            .map(|head| !names.contains(&&*head.name))
            .collect();
        self.keep(&kept);
    }

    fn keep(&mut self, kept: &[bool]) {
        let mut flags = kept.iter();
        self.heads
            .retain(|_| flags.next().is_some_and(|kept| *kept));
        for row in &mut self.rows {
            let mut flags = kept.iter();
            row.retain(|_| flags.next().is_some_and(|kept| *kept));
        }
    }

    /// The table in this form, without a line break at its end.
    pub fn write(&self, form: Form) -> String {
        match form {
            Form::Text(width, paint) => self.text(width, paint),
            Form::Markdown => self.markdown(),
            Form::Csv => self.csv(),
            Form::Json => self.json(),
        }
    }

    /// How many columns have no room on a terminal of this width.
    pub fn left_out(&self, form: Form) -> usize {
        match form {
            Form::Text(width @ Some(_), _) => {
                self.heads.len() - self.columns(&self.lines(), width).len()
            }
            _ => 0,
        }
    }

    /// The cells as people read them, the headings first.
    fn lines(&self) -> Vec<Vec<String>> {
        let cell = |(value, head): (&Option<Value>, &Head)| match value {
            Some(value) => visible(value.text()),
            None if head.name.ends_with("change") => String::new(),
            None => "-".to_owned(),
        };
        let head = self.heads.iter().map(|it| it.heading.clone()).collect();
        let rows = self.rows.iter();
        let rows = rows.map(|row| row.iter().zip(&self.heads).map(cell).collect());
        [head].into_iter().chain(rows).collect()
    }

    /// The columns that have room, each with its width.
    fn columns(&self, lines: &[Vec<String>], width: Option<usize>) -> Vec<(usize, usize)> {
        let mut columns: Vec<(usize, usize)> = widths(lines).into_iter().enumerate().collect();
        if let Some(width) = width {
            self.fit(&mut columns, width);
        }
        columns
    }

    fn text(&self, width: Option<usize>, paint: Paint) -> String {
        let lines = self.lines();
        let columns = self.columns(&lines, width);
        let last = columns.len().saturating_sub(1);
        let line = |(row, line): (usize, &Vec<String>)| {
            let cells = columns.iter().enumerate().map(|(place, &(column, width))| {
                let head = &self.heads[column];
                let text = cut(&line[column], width);
                let space = " ".repeat(width - measure_text_width(&text));
                let painted = match row {
                    0 => paint.dim(&text),
                    _ if head.name == "state" => state(paint, &text),
                    _ => text,
                };
                match head.is_right() {
                    true => space + &painted,
                    false if place == last => painted,
                    false => painted + &space,
                }
            });
            let cells: Vec<String> = cells.collect();
            cells.join(&" ".repeat(GAP)).trim_end().to_owned()
        };
        let lines: Vec<String> = lines.iter().enumerate().map(line).collect();
        lines.join("\n")
    }

    /// Leaves columns out, and cuts others, until a line fits.
    fn fit(&self, columns: &mut Vec<(usize, usize)>, width: usize) {
        let least = |&(column, width): &(usize, usize)| match self.heads[column].is_flexible() {
            true => width.min(LEAST),
            false => width,
        };
        let gaps = |columns: &[(usize, usize)]| GAP * columns.len().saturating_sub(1);
        while columns.iter().map(least).sum::<usize>() + gaps(columns) > width {
            let spare = |(_, (column, _)): &(usize, &(usize, usize))| self.heads[*column].spare;
            let most = columns.iter().enumerate().max_by_key(spare);
            match most.map(|(place, (column, _))| (place, self.heads[*column].spare)) {
                Some((place, 1..)) => drop(columns.remove(place)),
                _ => break, // wider than the terminal, and all of it asked for
            }
        }
        let mut all = columns.iter().map(|it| it.1).sum::<usize>() + gaps(columns);
        let flexible = columns.iter_mut().rev();
        for column in flexible.filter(|it| self.heads[it.0].is_flexible()) {
            let cut = all.saturating_sub(width).min(column.1 - least(column));
            column.1 -= cut;
            all -= cut;
        }
    }

    fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
        let rule = |head: &Head| if head.is_right() { "--:" } else { "---" }.to_owned();
        let cell = |value: &Option<Value>| {
            let text = value.as_ref().map_or_else(String::new, Value::text);
            visible(text).replace('\\', "\\\\").replace('|', "\\|")
        };
        let mut lines = vec![
            line(
                self.heads
                    .iter()
                    .map(|it| it.heading.to_lowercase())
                    .collect(),
            ),
            line(self.heads.iter().map(rule).collect()),
        ];
        lines.extend(
            self.rows
                .iter()
                .map(|row| line(row.iter().map(cell).collect())),
        );
        lines.join("\n")
    }

    fn csv(&self) -> String {
        let head = csv_line(self.heads.iter().map(|head| head.name.clone()));
        let cell = |value: &Option<Value>| value.as_ref().map_or_else(String::new, Value::plain);
        let rows = self.rows.iter().map(|row| csv_line(row.iter().map(cell)));
        let text: String = [head].into_iter().chain(rows).collect();
        // Not of a row whose only cell is empty.
        text.strip_suffix("\r\n").unwrap_or(&text).to_owned()
    }

    fn json(&self) -> String {
        let object = |row: &Vec<Option<Value>>| {
            let json = |value: &Option<Value>| value.as_ref().map_or(Json::Null, Value::json);
            let fields = self.heads.iter().zip(row);
            let fields = fields.map(|(head, value)| (head.name.clone(), json(value)));
            Json::Object(Map::from_iter(fields))
        };
        let rows: Vec<Json> = self.rows.iter().map(object).collect();
        // A line for each run, for line by line tools as well.
        let lines: Vec<String> = rows.iter().map(|row| format!("  {row}")).collect();
        match lines.is_empty() {
            true => "[]".to_owned(),
            false => format!("[\n{}\n]", lines.join(",\n")),
        }
    }
}

/// A cell without what would command a terminal.
fn visible(text: String) -> String {
    match text.contains(char::is_control) {
        true => text.chars().filter(|it| !it.is_control()).collect(),
        false => text,
    }
}

fn state(paint: Paint, text: &str) -> String {
    match text {
        "running" | "finished" | "stopped early" | "target reached" => paint.green(text),
        "starting" | "evaluating" => paint.cyan(text),
        "failed" | "diverged" | "damaged" => paint.red(text),
        "paused" | "stopping" | "stopped" | "interrupted" => paint.yellow(text),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLAIN: Paint = Paint { colour: false };

    #[test]
    fn csv_has_a_line_for_a_row_that_is_empty() {
        let mut table = table();
        table.heads.truncate(1);
        table.rows = vec![vec![None], vec![None]];
        assert_eq!(table.csv(), "run\r\n\r\n");
    }

    fn table() -> Table {
        let head = |name: &str, kind, spare| Head {
            name: name.to_owned(),
            heading: name.to_uppercase(),
            kind,
            spare,
        };
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        Table {
            heads: vec![
                head("run", Kind::Text, 0),
                head("state", Kind::Text, 0),
                head("best", Kind::Number, 0),
                head("size", Kind::Bytes, 2),
                head("restarts", Kind::Number, 3),
                head("notes", Kind::Text, 1),
            ],
            rows: vec![
                vec![
                    text("a/20261126-040758"),
                    text("finished"),
                    Some(Value::Accuracy(0.7)),
                    Some(Value::Bytes(7_000_000)),
                    Some(Value::Count(0)),
                    text("a | \"long\", note of many words"),
                ],
                vec![text("b/20261126-040758"), None, None, None, None, None],
            ],
        }
    }

    #[test]
    fn text_fits_the_terminal_by_cutting_words_and_leaving_columns_out() {
        let table = table();
        let text = |width| table.write(Form::Text(width, PLAIN));
        assert_eq!(
            text(None),
            "RUN                STATE      BEST    SIZE  RESTARTS  NOTES\n\
             a/20261126-040758  finished  0.700  7.0 MB         0  a | \"long\", note of many words\n\
             b/20261126-040758  -             -       -         -  -"
        );
        assert_eq!(
            text(Some(70)),
            "RUN                STATE      BEST    SIZE  RESTARTS  NOTES\n\
             a/20261126-040758  finished  0.700  7.0 MB         0  a | \"long\", not…\n\
             b/20261126-040758  -             -       -         -  -"
        );
        assert_eq!(
            text(Some(60)).lines().next().unwrap(),
            "RUN                STATE      BEST    SIZE  NOTES"
        );
        assert_eq!(
            text(Some(10)).lines().next().unwrap(),
            "RUN                STATE      BEST"
        );
        let left_out = |form| table.left_out(form);
        let widths = [None, Some(70), Some(60), Some(10)];
        assert_eq!(
            widths.map(|it| left_out(Form::Text(it, PLAIN))),
            [0, 0, 1, 3]
        );
        assert_eq!(left_out(Form::Csv), 0);
        for width in 36..120 {
            let lines = text(Some(width));
            assert!(
                lines.lines().all(|line| measure_text_width(line) <= width),
                "{width}"
            );
        }
    }

    #[test]
    fn columns_that_no_row_needs_are_removed() {
        let mut table = table();
        table.remove_empty(&["restarts", "notes"]);
        let names: Vec<&str> = table.heads.iter().map(|head| &*head.name).collect();
        assert_eq!(names, ["run", "state", "best", "size", "notes"]);
        assert!(table.rows.iter().all(|row| row.len() == 5));
    }

    #[test]
    fn programs_get_every_value_in_full() {
        let table = table();
        assert_eq!(
            table.write(Form::Csv).replace('\r', ""),
            "run,state,best,size,restarts,notes\n\
             a/20261126-040758,finished,0.7,7000000,0,\"a | \"\"long\"\", note of many words\"\n\
             b/20261126-040758,,,,,"
        );
        let rows: Json = serde_json::from_str(&table.write(Form::Json)).unwrap();
        assert_eq!(rows[0]["best"], json!(0.7));
        assert_eq!(rows[1]["best"], json!(null));
        assert_eq!(
            table.write(Form::Markdown),
            "| run | state | best | size | restarts | notes |\n\
             | --- | --- | --: | --: | --: | --- |\n\
             | a/20261126-040758 | finished | 0.700 | 7.0 MB | 0 | a \\| \"long\", note of many words |\n\
             | b/20261126-040758 |  |  |  |  |  |"
        );
        let none = Table {
            rows: Vec::new(),
            ..table
        };
        assert_eq!(none.write(Form::Json), "[]");
    }
}

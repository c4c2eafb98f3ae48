//! The settings of a sweep from the best to the worst, for people: `results.md` and what a terminal shows at the end.

use super::definition::MetricName;
use super::point::labels;
use super::progress::Progress;
use super::results::{self, Results};
use crate::overview;
use crate::overview::table::{pad, widths};

/// What goes first where there is no room for all columns.
const EXPENDABLE: &[&str] = &["points", "minutes", "steps", "test accuracy", "state"];

/// The table in lines of at most `columns`, if there is a limit, with the `most` best settings.
pub fn table(results: &Results, most: usize, columns: Option<usize>) -> Vec<String> {
    overview::table(rows(results, most), EXPENDABLE, columns)
}

/// `results.md`.
pub fn markdown(results: &Results) -> String {
    let mut text = format!(
        "# {}\n\n{}. {}\n",
        results.id,
        results.counts(),
        results.judge()
    );
    if results.sweep.definition.seeds.len() > 1 {
        text += &format!(
            "Mean ± standard deviation over {} seeds.\n",
            results.sweep.definition.seeds.len()
        );
    }
    text.push('\n');
    let mut rows = rows(results, usize::MAX);
    for row in &mut rows {
        for cell in row {
            *cell = cell.replace('|', "\\|");
        }
    }
    let widths = widths(&rows);
    rows.insert(
        1,
        widths
            .iter()
            .map(|width| "-".repeat((*width).max(3)))
            .collect(),
    );
    for row in &rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| pad(cell, *width));
        text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    }
    let failures = results.failures();
    if !failures.is_empty() {
        text += "\nFailed:\n\n";
        failures
            .iter()
            .for_each(|line| text += &format!("- {line}\n"));
    }
    text
}

/// The table of settings: its head, and as many rows as there may be.
pub fn rows(results: &Results, most: usize) -> Vec<Vec<String>> {
    let fields = results.sweep.definition.fields();
    let labels = labels(&fields);
    let name = results.metric();
    let mut head = vec!["rank".to_owned()];
    head.extend(labels.into_iter().map(|(_, label)| label));
    head.push(match results.has_validation() {
        true => format!("validation {name}"),
        false => name.to_owned(),
    });
    if has_test_column(results) {
        head.push("test accuracy".to_owned());
    }
    head.extend(["steps", "minutes", "state", "points"].map(str::to_owned));
    let mut rows = vec![head];
    for setting in results.settings().iter().take(most) {
        let mut row = vec![setting.rank.map_or_else(none, |rank| rank.to_string())];
        let values = results::values(&fields, setting.values, setting.spec);
        row.extend(values.into_iter().map(|value| value.unwrap_or_else(none)));
        row.push(match setting.so_far.mean() {
            Some(_) if setting.rank.is_none() => {
                format!("{} so far", results::spread(&setting.so_far))
            }
            _ => results::spread(&setting.judged),
        });
        if has_test_column(results) {
            row.push(results::spread(&setting.tested));
        }
        let begun: Vec<&Progress> = setting
            .points
            .iter()
            .map(|(_, it)| *it)
            .filter(|it| it.state.is_some())
            .collect();
        row.push(range(begun.iter().map(|it| it.counted)));
        let minutes = begun.iter().map(|it| it.seconds / 60.0).sum::<f64>();
        row.push(match begun.len() {
            0 => none(),
            points => format!("{:.1}", minutes / points as f64),
        });
        row.push(match &results.tally(setting.points.iter().copied())[..] {
            [(word, _)] => word.clone(),
            words => {
                let parts: Vec<String> = words
                    .iter()
                    .map(|(word, count)| format!("{count} {word}"))
                    .collect();
                parts.join(", ")
            }
        });
        let numbers = setting
            .points
            .iter()
            .map(|(point, _)| point.number.to_string());
        row.push(numbers.collect::<Vec<_>>().join(" "));
        rows.push(row);
    }
    rows
}

/// Whether the test images' accuracy is something else than what is ranked by.
fn has_test_column(results: &Results) -> bool {
    results.has_validation() || results.sweep.definition.metric.name != MetricName::Accuracy
}

fn none() -> String {
    "-".to_owned()
}

/// `1000`, or `250-1000` where they differ.
fn range(numbers: impl Iterator<Item = u64> + Clone) -> String {
    let (least, most) = (numbers.clone().min(), numbers.max());
    match (least, most) {
        (Some(least), Some(most)) if least < most => format!("{least}-{most}"),
        (Some(least), _) => least.to_string(),
        (None, _) => none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::RunState;
    use crate::sweep::csv::csv;
    use crate::sweep::results::tests::{Case, failed, finished};
    use std::collections::BTreeMap;

    #[test]
    fn markdown_says_what_ranks_and_what_failed() {
        let mut case = Case::new(vec![
            finished(&[(0.5, None), (0.4, None)]),
            finished(&[(0.6, None)]),
            finished(&[(0.8, None)]),
            failed(),
            Progress::default(),
            Progress::default(),
        ]);
        case.progress[5].state = Some(RunState::Running);
        let want = "\
# rates/20261126-050000

6 points: 3 finished, 1 running, 1 waiting, 1 diverged. Ranked by the best accuracy of a run, the highest first, on the test \
images: they choose, which flatters the best one. `data.validation_images` holds training images back to rank by.
Mean ± standard deviation over 2 seeds.

| rank | learning_rate       | type   | accuracy      | steps | minutes | state                  | points |
| ---- | ------------------- | ------ | ------------- | ----- | ------- | ---------------------- | ------ |
| 1    | 0.1                 | a, \"b\" | 0.550 ± 0.071 | 10-20 | 1.5     | finished               | 1 2    |
| 2    | 0.2                 | a, \"b\" | 0.800         | 10    | 1.5     | 1 finished, 1 diverged | 3 4    |
| -    | 0.30000000000000004 | a, \"b\" | -             | 0     | 0.0     | 1 running, 1 waiting   | 5 6    |

Failed:

- 004 diverged: the loss at step 5 is inf
";
        assert_eq!(markdown(&case.results()), want);
        let table = table(&case.results(), 1, None);
        assert_eq!(table.len(), 2);
        let row = "1     0.1            a, \"b\"  0.550 ± 0.071  10-20  1.5      finished  1 2";
        assert_eq!(table[1], row);
    }

    #[test]
    fn table_has_the_scores_of_validation_and_test_images_and_those_so_far() {
        let mut case = Case::new(vec![finished(&[(0.9, Some(0.5)), (0.4, Some(0.6))]); 4]);
        for progress in &mut case.progress[2..] {
            (progress.state, progress.end) = (Some(RunState::Stopped), None);
        }
        case.sweep.base.data.validation_images = 500;
        let want = "\
rank  learning_rate  type    validation accuracy   test accuracy  steps  minutes  state     points
1     0.1            a, \"b\"  0.600 ± 0.000         0.400 ± 0.000  20     1.5      finished  1 2
-     0.2            a, \"b\"  0.600 ± 0.000 so far  -              20     1.5      stopped   3 4";
        assert_eq!(table(&case.results(), 9, None).join("\n"), want);
        let want = "\
rank  learning_rate  type    validation accuracy   test accuracy  state
1     0.1            a, \"b\"  0.600 ± 0.000         0.400 ± 0.000  finished
-     0.2            a, \"b\"  0.600 ± 0.000 so far  -              stopped";
        assert_eq!(table(&case.results(), 9, Some(79)).join("\n"), want);
    }

    #[test]
    fn field_that_a_point_does_not_set_has_its_value_of_the_base() {
        let mut case = Case::new(vec![finished(&[(0.5, None)]); 4]);
        for spec in &mut case.sweep.specs {
            spec.optimizer.learning_rate = 0.125;
        }
        for point in &mut case.sweep.points {
            point.set.clear();
        }
        case.sweep.points[2].set =
            BTreeMap::from([("optimizer.learning_rate".to_owned(), 0.5.into())]);
        let table = table(&case.results(), 9, None);
        // There is no field optimizer.type.
        assert!(
            table[1].starts_with("1     0.125          - "),
            "{table:#?}"
        );
        assert!(
            table[2].starts_with("2     0.5            - "),
            "{table:#?}"
        );
        let csv = csv(&case.results());
        assert!(csv.contains(",1,0.125,,1,finished"), "{csv}");
    }
}

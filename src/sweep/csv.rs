//! The points of a sweep for other programs: `results.csv`.

use std::collections::BTreeMap;

use super::results::{self, Results};
use crate::run::Evaluation;

/// `results.csv` (RFC 4180): a row for each point, in the order of their numbers. The scores are those of the
/// checkpoint that the point is judged by, the last step that of its checkpoint.
pub fn csv(results: &Results) -> String {
    let fields = results.sweep.definition.fields();
    let mut head = vec!["point", "id", "name", "setting", "rank"];
    head.extend(&fields);
    head.extend([
        "seed",
        "state",
        "steps",
        "minutes",
        "step",
        "accuracy",
        "loss",
        "validation_accuracy",
        "validation_loss",
        "error",
    ]);
    let word = results.word();
    let mut ranks: BTreeMap<usize, usize> = BTreeMap::new();
    for setting in results.settings() {
        let numbers = setting.points.iter().map(|(point, _)| point.number);
        ranks.extend(numbers.filter_map(|number| Some((number, setting.rank?))));
    }
    let mut lines = vec![csv_line(head.iter().map(|name| (*name).to_owned()))];
    let all = results.sweep.points.iter().zip(&results.sweep.specs);
    let judged = results.judged();
    for ((point, spec), progress) in all.zip(results.progress) {
        let judged = judged(point, progress).map(|(evaluation, _)| evaluation);
        let of = |number: fn(&Evaluation) -> Option<f64>| {
            let number = judged.and_then(number);
            number.map_or_else(String::new, |number| number.to_string())
        };
        let rank = ranks.get(&point.number);
        let mut row = vec![
            point.number.to_string(),
            point.id.clone(),
            point.name.clone(),
            point.setting.clone(),
            rank.map_or_else(String::new, usize::to_string),
        ];
        let values = results::values(&fields, &point.set, spec);
        row.extend(values.into_iter().map(Option::unwrap_or_default));
        row.extend([
            point.seed.to_string(),
            word(point, progress),
            progress.counted.to_string(),
            format!("{:.2}", progress.seconds / 60.0),
            judged.map_or_else(String::new, |it| it.step.to_string()),
            of(|it| it.accuracy),
            of(|it| it.loss),
            of(|it| it.validation_accuracy),
            of(|it| it.validation_loss),
            progress.error.clone().unwrap_or_default(),
        ]);
        lines.push(csv_line(row.into_iter()));
    }
    lines.concat()
}

/// A line of a CSV file; what has commas, quotes or line breaks is quoted.
pub fn csv_line(cells: impl Iterator<Item = String>) -> String {
    let quoted = cells.map(|cell| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell,
    });
    quoted.collect::<Vec<_>>().join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::results::tests::{Case, failed, finished};

    #[test]
    fn csv_has_a_row_for_each_point_and_quotes_what_needs_it() {
        let mut case = Case::new(vec![finished(&[(0.25, Some(0.5))]), failed()]);
        case.progress[1].error = Some("a, b\nc".to_owned());
        let csv = csv(&case.results());
        let want = "point,id,name,setting,rank,optimizer.learning_rate,optimizer.type,seed,state,steps,minutes,step,accuracy,\
                    loss,validation_accuracy,validation_loss,error\r\n\
                    1,1,001,000,1,0.1,\"a, \"\"b\"\"\",1,finished,10,1.50,9,0.25,0.5,0.5,0.5,\r\n\
                    2,2,002,000,1,0.1,\"a, \"\"b\"\"\",2,diverged,10,1.50,9,0.9,0.5,0.9,0.09999999999999998,\"a, b\nc\"\r\n";
        assert_eq!(csv, want);
    }
}

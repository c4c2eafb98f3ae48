//! All points of a sweep, in order.

use super::definition::{Case, Choice, Definition, Method, Parameter};
use super::point::{self, Point};
use crate::spec::{Base, Node};
use anyhow::Result;
use serde_yaml::Value;
use std::collections::{BTreeMap, HashMap};

/// What a directory and TensorBoard's page still show.
pub(super) const MAX_POINTS: usize = 10_000;

/// The values of a setting, and the case that it is of.
struct Setting {
    case: Option<usize>,
    values: BTreeMap<String, Value>,
}

/// The points of a sweep whose section this is: all settings with the first seed, then with the next. So a sweep that is
/// stopped early has seen the whole space.
pub(super) fn points(definition: &Definition, base: &Base, section: &Node) -> Result<Vec<Point>> {
    check_number(definition, section)?;
    let settings = settings(definition);
    let varied: Vec<&str> = varied(definition);
    let labels = point::labels(&varied);
    let mut sets = Vec::new();
    let mut known: HashMap<String, String> = HashMap::new();
    for setting in settings {
        let paths = setting
            .values
            .keys()
            .map(|field| (field.clone(), path(definition, setting.case, field)));
        let shown = shown(&setting.values);
        let label = format!("the point {shown}");
        let paths: BTreeMap<String, Vec<String>> = paths.collect();
        let first = paths.values().next().cloned().unwrap_or_default();
        let spec = base.with(&setting.values, paths, label)?;
        let json = spec.to_json()?;
        // As the spec has them: an f32 in few digits, true for what it stands for.
        let value = |field: &String| {
            let found = field
                .split('.')
                .try_fold(&json, |value, key| value.get(key));
            (field.clone(), found.cloned().unwrap_or_default())
        };
        sets.push(setting.values.keys().map(value).collect::<BTreeMap<_, _>>());
        if let Some(other) = known.insert(json.to_string(), shown.clone()) {
            let message = match other == shown {
                true => format!("got {shown} twice, want it once"),
                false => {
                    format!("got {other} and {shown}, which are the same run, want one of them")
                }
            };
            return Err(section.at(&first).error(message));
        }
    }
    let tells_seed = definition.seeds.len() > 1;
    let runs = definition
        .seeds
        .iter()
        .flat_map(|seed| sets.iter().map(move |set| (*seed, set.clone())));
    let points = (1..).zip(runs);
    Ok(points
        .map(|(number, (seed, set))| Point::new(number, seed, set, &labels, tells_seed))
        .collect())
}

fn check_number(definition: &Definition, section: &Node) -> Result<()> {
    let size = |parameters: &[Parameter]| {
        let sizes = parameters.iter().map(|it| {
            let Choice::Values(values) = &it.choice;
            values.len()
        });
        sizes.fold(1usize, usize::saturating_mul)
    };
    let cases: Vec<usize> = definition.cases.iter().map(|case| size(case)).collect();
    let of_cases = match cases.is_empty() {
        true => 1,
        false => cases
            .iter()
            .fold(0usize, |sum, &size| sum.saturating_add(size)),
    };
    let settings = match definition.method {
        Method::Grid | Method::Points => of_cases.saturating_mul(size(&definition.parameters)),
        Method::Random { runs, .. } => runs,
    };
    let points = settings.saturating_mul(definition.seeds.len());
    if points <= MAX_POINTS {
        return Ok(());
    }
    let key = match definition.method {
        Method::Grid => "parameters",
        Method::Random { .. } => "runs",
        Method::Points => "points",
    };
    let seeds = match definition.seeds.len() {
        1 => String::new(),
        many => format!(" ({settings} settings, {many} seeds)"),
    };
    Err(section.error_at(
        key,
        format!("got {points} points{seeds}, want at most {MAX_POINTS}"),
    ))
}

/// The fields of which there is more than one value.
fn varied(definition: &Definition) -> Vec<&str> {
    let has_one = |parameter: &&Parameter| {
        let Choice::Values(values) = &parameter.choice;
        values.len() == 1
    };
    let constant = |field: &str| {
        let found = definition.parameters.iter().find(|it| it.field == field);
        found.as_ref().is_some_and(has_one)
    };
    let fields = definition.fields().into_iter();
    fields.filter(|field| !constant(field)).collect()
}

/// The path of a field's values in the section.
fn path(definition: &Definition, case: Option<usize>, field: &str) -> Vec<String> {
    let of_case = case.filter(|&case| {
        let mut fields = definition.cases[case].iter();
        fields.any(|parameter| parameter.field == field)
    });
    let keys = match (of_case, definition.method) {
        (Some(case), Method::Points) => vec!["points".to_owned(), case.to_string()],
        (Some(case), _) => vec!["cases".to_owned(), case.to_string()],
        (None, _) => vec!["parameters".to_owned()],
    };
    keys.into_iter().chain([field.to_owned()]).collect()
}

/// The values of a setting for people.
fn shown(values: &BTreeMap<String, Value>) -> String {
    let shown: Vec<String> = values
        .iter()
        .map(|(field, value)| format!("{field}={}", crate::spec::text(value)))
        .collect();
    shown.join(" ")
}

fn settings(definition: &Definition) -> Vec<Setting> {
    let none = Case::new();
    let cases: Vec<(Option<usize>, &Case)> = match definition.cases.is_empty() {
        true => vec![(None, &none)],
        false => (0..).map(Some).zip(&definition.cases).collect(),
    };
    let of_case = |(index, case): (Option<usize>, &Case)| {
        let all: Vec<&Parameter> = case.iter().chain(&definition.parameters).collect();
        let combinations = combinations(&all).into_iter();
        let settings = combinations.map(move |values| Setting {
            case: index,
            values,
        });
        settings.collect::<Vec<_>>()
    };
    cases.into_iter().flat_map(of_case).collect()
}

/// All combinations of the parameters' values, the last parameter's changing fastest.
fn combinations(parameters: &[&Parameter]) -> Vec<BTreeMap<String, Value>> {
    let mut found = vec![BTreeMap::new()];
    for parameter in parameters {
        let Choice::Values(values) = &parameter.choice;
        let mut longer = Vec::with_capacity(found.len() * values.len());
        for before in &found {
            for value in values {
                let mut setting: BTreeMap<String, Value> = before.clone();
                setting.insert(parameter.field.clone(), value.clone());
                longer.push(setting);
            }
        }
        found = longer;
    }
    found
}

//! All points of a sweep, in order.

use super::definition::{Case, Choice, Definition, Method, Parameter};
use super::point::{self, Point};
use super::random::Draws;
use crate::spec::{self, Base, Node, Seed, Spec};
use anyhow::Result;
use serde_json::Value as Json;
use serde_yaml::Value;
use std::collections::{BTreeMap, HashMap};

/// What directories and TensorBoard's page still show.
pub(super) const MAX_POINTS: usize = 10_000;

/// How often a draw that repeats an earlier one is made again.
const MAX_DRAWS: usize = 1_000;

/// The values of a setting, and the case that it is of.
struct Combination {
    case: Option<usize>,
    values: BTreeMap<String, Value>,
}

/// The points of a sweep whose section this is, each with its spec: all settings with the first seed, then with the next. So
/// a sweep that ends early has seen the whole space.
pub(super) fn points(
    definition: &Definition,
    base: &Base,
    section: &Node,
) -> Result<Vec<(Point, Spec)>> {
    check_number(definition, section)?;
    let mut settings = Combinations {
        definition,
        base,
        section,
        known: HashMap::new(),
        found: Vec::new(),
    };
    match definition.method {
        Method::Random { runs, seed } => settings.draw(runs, seed)?,
        Method::Grid | Method::Points => {
            for setting in combinations(definition) {
                if let Some(twin) = settings.add(&setting)? {
                    return Err(settings.twice(&setting, &twin));
                }
            }
        }
    }
    let settings = settings.found;
    let mut labels = point::labels(&definition.fields());
    labels.retain(|(field, _)| {
        let mut values = settings.iter().map(|(set, _)| set.get(field));
        let first = values.next();
        values.any(|value| Some(value) != first)
    });
    let tells_seed = definition.seeds.len() > 1;
    let seeds = definition.seeds.iter();
    let runs = seeds.flat_map(|seed| settings.iter().map(move |setting| (*seed, setting)));
    let points = (1..).zip(runs).map(|(number, (seed, (set, spec)))| {
        let point = Point::new(number, seed, set.clone(), &labels, tells_seed);
        let mut spec = spec.clone();
        spec.seed = Seed(seed);
        (point, spec)
    });
    Ok(points.collect())
}

/// The settings of a sweep, each of which is valid and there once.
struct Combinations<'a> {
    definition: &'a Definition,
    base: &'a Base,
    section: &'a Node<'a>,
    /// Those that there are, by all fields of their specs.
    known: HashMap<String, String>,
    /// The fields of each, as its spec has them, and its spec.
    found: Vec<(BTreeMap<String, Json>, Spec)>,
}

impl Combinations<'_> {
    /// Adds a setting; returns the one that is the same run, if there is one already.
    fn add(&mut self, setting: &Combination) -> Result<Option<String>> {
        let fields = setting.values.keys();
        let paths = fields.map(|field| (field.clone(), self.path(setting, field)));
        let shown = shown(&setting.values);
        let label = format!("the point {shown}");
        let spec = self.base.with(&setting.values, paths.collect(), label)?;
        let json = spec.to_json()?;
        let text = json.to_string();
        if let Some(twin) = self.known.get(&text) {
            return Ok(Some(twin.clone()));
        }
        self.known.insert(text, shown);
        // As the spec has them: an f32 in few digits, `random` for true.
        let value = |field: &String| {
            let found = field
                .split('.')
                .try_fold(&json, |value, key| value.get(key));
            (field.clone(), found.cloned().unwrap_or_default())
        };
        let set = setting.values.keys().map(value).collect();
        self.found.push((set, spec));
        Ok(None)
    }

    /// Adds so many random settings. One that is there already is drawn again.
    fn draw(&mut self, runs: usize, seed: u64) -> Result<()> {
        for index in 0..runs {
            let mut draws = Draws::new(seed, index as u64);
            let mut is_new = false;
            for _ in 0..MAX_DRAWS {
                let setting = draw(self.definition, &mut draws);
                is_new = self.add(&setting)?.is_none();
                if is_new {
                    break;
                }
            }
            if !is_new {
                return Err(self.section.error_at(
                    "runs",
                    format!(
                        "got {runs}, but after {index} different points {MAX_DRAWS} draws in a row were none of another; want \
                         at most {index}, or method: grid"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The path of a field's values in the section.
    fn path(&self, setting: &Combination, field: &str) -> Vec<String> {
        let is_of_case = |case: &usize| {
            let case = &self.definition.cases[*case];
            case.iter().any(|parameter| parameter.field == field)
        };
        let keys = match (setting.case.filter(is_of_case), self.definition.method) {
            (Some(case), Method::Points) => vec!["points".to_owned(), case.to_string()],
            (Some(case), _) => vec!["cases".to_owned(), case.to_string()],
            (None, _) => vec!["parameters".to_owned()],
        };
        keys.into_iter().chain([field.to_owned()]).collect()
    }

    /// The error of a setting that is the same run as another.
    fn twice(&self, setting: &Combination, twin: &str) -> anyhow::Error {
        let shown = shown(&setting.values);
        let message = match shown == twin {
            true => format!("got {shown} twice, want it once"),
            false => format!("got {twin} and {shown}, which are the same run; want one of them"),
        };
        // Where the last of the fields is: of a case, if it has any.
        let field = match setting.case {
            Some(case) => self.definition.cases[case].last(),
            None => self.definition.parameters.last(),
        };
        let path = field.map_or(Vec::new(), |it| self.path(setting, &it.field));
        self.section.at(&path).error(message)
    }
}

fn check_number(definition: &Definition, section: &Node) -> Result<()> {
    let size = |parameters: &[Parameter]| {
        let sizes = parameters.iter().map(|it| match &it.choice {
            Choice::Values(values) => values.len(),
            Choice::Distribution(_) => 1,
        });
        sizes.fold(1, usize::saturating_mul)
    };
    let cases = definition.cases.iter().map(|case| size(case));
    let cases = match definition.cases.is_empty() {
        true => 1,
        false => cases.fold(0, usize::saturating_add),
    };
    let (settings, key) = match definition.method {
        Method::Grid => (
            usize::saturating_mul(cases, size(&definition.parameters)),
            "parameters",
        ),
        Method::Random { runs, .. } => (runs, "runs"),
        Method::Points => (cases, "points"),
    };
    let seeds = definition.seeds.len();
    let points = settings.saturating_mul(seeds);
    if points <= MAX_POINTS {
        return Ok(());
    }
    let of = match seeds {
        1 => String::new(),
        _ => format!(": {settings} settings with {seeds} seeds"),
    };
    let message = format!("got {points} points{of}; want at most {MAX_POINTS}");
    Err(section.error_at(key, message))
}

/// The values of a setting for people.
fn shown(values: &BTreeMap<String, Value>) -> String {
    if values.is_empty() {
        return "without a value".to_owned();
    }
    let shown = values
        .iter()
        .map(|(field, value)| format!("{field}={}", spec::text(value)));
    shown.collect::<Vec<_>>().join(" ")
}

/// All combinations of values, of one case after the other, the last parameter's changing fastest.
fn combinations(definition: &Definition) -> Vec<Combination> {
    let of_case = |case: Option<usize>| {
        let none = Case::new();
        let own = case.map_or(&none, |case| &definition.cases[case]);
        let mut found = vec![BTreeMap::new()];
        for parameter in own.iter().chain(&definition.parameters) {
            // The reader lets distributions be random's alone.
            let Choice::Values(values) = &parameter.choice else {
                continue;
            };
            let longer = found.iter().flat_map(|before: &BTreeMap<String, Value>| {
                values.iter().map(|value| {
                    let mut setting = before.clone();
                    setting.insert(parameter.field.clone(), value.clone());
                    setting
                })
            });
            found = longer.collect();
        }
        let settings = found.into_iter();
        settings
            .map(|values| Combination { case, values })
            .collect::<Vec<_>>()
    };
    match definition.cases.len() {
        0 => of_case(None),
        count => (0..count).map(Some).flat_map(of_case).collect(),
    }
}

/// One case, and a value of each parameter of it and of those that all have.
fn draw(definition: &Definition, draws: &mut Draws) -> Combination {
    let case = match definition.cases.len() {
        0 => None,
        count => Some(draws.index(count)),
    };
    let own = case.map_or(&[][..], |case| &definition.cases[case]);
    let parameters = own.iter().chain(&definition.parameters);
    let values = parameters.map(|it| (it.field.clone(), draws.value(it)));
    Combination {
        case,
        values: values.collect(),
    }
}

//! Names: of the experiments in a directory, and the nearest one to a misspelt name.

use super::rule::describe;
use crate::files::dir_of;
use crate::{bail_user, user_error};
use anyhow::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The names of the experiments in a directory, sorted.
///
/// # Errors
/// A user error if the directory cannot be read.
pub fn available(experiments: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in walkdir::WalkDir::new(experiments).min_depth(1).max_depth(1) {
        let entry = entry.map_err(|error| {
            let error = error
                .into_io_error()
                .unwrap_or(std::io::ErrorKind::Other.into());
            user_error!(
                "failed to list the directory {}: {error}",
                experiments.display()
            )
        })?;
        if let Some(name) = entry
            .file_name()
            .to_str()
            .and_then(|file| file.strip_suffix(".yaml"))
            && valid(name)
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Of an experiment's name, in characters.
const LONGEST: usize = 100;

/// Whether a text can name an experiment: it becomes part of file names and of `make` variables.
pub(super) fn valid(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= LONGEST
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
}

/// The name and the file of an experiment, given by its name or by the path of its file.
pub(super) fn resolve(path: &Path, experiments: &Path) -> Result<(String, PathBuf)> {
    let is_path = path
        .extension()
        .is_some_and(|kind| kind == "yaml" || kind == "yml");
    let name = match path.file_stem() {
        Some(stem) if is_path => stem,
        _ => path.as_os_str(),
    };
    let name = &*name.to_string_lossy();
    if !valid(name) {
        let file = PathBuf::from(format!("{name}.yaml"));
        if !is_path && file.is_file() {
            bail_user!(
                "no experiment '{name}'; did you mean the file '{}'?",
                file.display()
            );
        }
        bail_user!(
            "got {} for an experiment's name, want at most {LONGEST} letters of a to z, digits, '-', '_' and '.', \
             or the path of a file NAME.yaml",
            describe(&name.into())
        );
    }
    if !is_path {
        return Ok((name.to_owned(), find(name, experiments)?));
    }
    let same = path.file_name().map(|file| experiments.join(file));
    let same = same.filter(|file| !path.exists() && file.is_file());
    if !path.exists() && find(name, experiments).is_ok() {
        bail_user!(
            "no file '{}'; did you mean the experiment '{name}'?",
            path.display()
        );
    }
    if let Some(file) = same {
        let (path, file) = (path.display(), file.display());
        bail_user!("no file '{path}'; did you mean '{file}'?");
    }
    Ok((name.to_owned(), path.to_owned()))
}

/// The file of the experiment with this name, which must be [`valid`]: so it lies in the directory.
pub(super) fn find(name: &str, experiments: &Path) -> Result<PathBuf> {
    let path = experiments.join(format!("{name}.yaml"));
    if is_there(&path) {
        return Ok(path);
    }
    Err(not_found(name, None, experiments, &available(experiments)?))
}

/// The file of the experiment that `file` extends by this [`valid`] name: one beside it, or else one of the experiments.
pub(super) fn find_base(name: &str, file: &Path, experiments: &Path) -> Result<PathBuf> {
    let base = format!("{name}.yaml");
    let mut places = [file.with_file_name(&base), experiments.join(&base)];
    // One that is called as the experiment that it extends does not mean itself.
    if places[0] == file {
        places.reverse();
    }
    if let Some(found) = places.into_iter().find(|path| is_there(path)) {
        return Ok(found);
    }
    let directory = dir_of(file);
    let same = |a: &Path, b: &Path| Some(a.canonicalize().ok()? == b.canonicalize().ok()?);
    if directory == experiments || same(directory, experiments) == Some(true) {
        return find(name, experiments);
    }
    // A directory that is not there has none.
    let names = [directory, experiments].map(|it| available(it).unwrap_or_default());
    let names: BTreeSet<String> = names.into_iter().flatten().collect();
    Err(not_found(
        name,
        Some(directory),
        experiments,
        &Vec::from_iter(names),
    ))
}

/// Any kind of entry counts: what is wrong with it, reading it will say.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// That no experiment has this name in `experiments`, nor in `beside`, and what is near it of those that there are, `names`.
fn not_found(name: &str, beside: Option<&Path>, experiments: &Path, names: &[String]) -> Error {
    let misnamed = ["yml", "YAML", "YML"].map(|kind| format!("{name}.{kind}"));
    let mut files = beside
        .into_iter()
        .chain([experiments])
        .flat_map(|directory| misnamed.iter().map(move |file| (directory, file)));
    let misnamed = files.find(|(directory, file)| directory.join(file).is_file());
    let bare = name.strip_suffix(".yaml").or(name.strip_suffix(".yml"));
    let place = |directory: &Path| directory.join("").display().to_string();
    let mut message = match beside {
        Some(beside) => format!(
            "no experiment '{name}' beside this file, in {}, nor in {}; ",
            place(beside),
            place(experiments)
        ),
        None => format!("no experiment '{name}' in {}; ", place(experiments)),
    };
    if let Some((directory, file)) = misnamed {
        let file = match beside {
            Some(_) => directory.join(file).display().to_string(),
            None => file.clone(),
        };
        message += &format!("there is {file}: rename it to {name}.yaml");
        return user_error!("{message}");
    }
    if let Some(bare) = bare.filter(|bare| names.iter().any(|name| name == bare)) {
        message += &format!("want its bare name: {bare}");
        return user_error!("{message}");
    }
    if let Some(near) = nearest(name, names.iter().map(String::as_str)) {
        message += &format!("did you mean '{near}'? ");
    }
    message += &match names.is_empty() {
        true => "there are none".to_owned(),
        false => format!("there are: {}", names.join(", ")),
    };
    user_error!("{message}")
}

/// The candidate within a few typing errors of a word, whatever its case: one for every three letters.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).max(1);
    let distance = |to: &str| strsim::damerau_levenshtein(&word, &to.to_lowercase());
    candidates
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The end of a message: `; did you mean 'one' or 'other'?`, or nothing.
pub(crate) fn did_you_mean<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.is_empty() {
        true => String::new(),
        false => format!("; did you mean '{}'?", names.join("' or '")),
    }
}

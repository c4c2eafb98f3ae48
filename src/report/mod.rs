//! A page that tells all of a run, a sweep or several runs, for somebody who has neither runboard nor the runs.
//!
//! It is one HTML file: style, drawings and pictures are in it, nothing is fetched. It says everything without its few lines of
//! script, which show the values under the pointer and open what is folded when the page is printed. Whatever comes from specs,
//! notes and names is escaped by maud.

mod axis;
mod chart;
mod curves;
mod evaluation;
mod parts;
mod run;
mod settings;
mod several;
mod sweep;

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Error, Result};
use chrono::{DateTime, Local};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::bail_user;
use crate::catalog::{Entry, Table};
use crate::files::{dir_of, open_regular, replace};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What a page begins with that this program wrote: only such a file is replaced.
const MARK: &str =
    r#"<!DOCTYPE html><html lang="en"><head><meta name="generator" content="runboard report"#;

/// A page in parts.
struct Page {
    title: String,
    state: Option<String>,
    lead: Markup,
    /// Each with its place in the address, its title and what it says.
    sections: Vec<(&'static str, &'static str, Markup)>,
}

impl Page {
    fn new(title: &str, state: Option<String>) -> Self {
        Page {
            title: title.to_owned(),
            state,
            lead: html! {},
            sections: Vec::new(),
        }
    }

    fn add(&mut self, id: &'static str, title: &'static str, text: Markup) {
        self.sections.push((id, title, text));
    }

    fn html(&self, now: DateTime<Local>) -> String {
        let markup = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta name="generator" content=(format!("runboard report {}", env!("CARGO_PKG_VERSION")));
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · runboard" }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { (broken(&self.title)) @if let Some(state) = &self.state { " " span.state { (state) } } }
                        (self.lead)
                        nav { @for (id, title, _) in &self.sections { a href=(format!("#{id}")) { (title) } " " } }
                    }
                    main {
                        @for (id, title, text) in &self.sections {
                            section id=(id) { h2 { (title) } (text) }
                        }
                    }
                    footer {
                        p {
                            "runboard trains image classifiers and keeps what it did. A step is one change of the weights, by one batch of images; a "
                            "checkpoint is what was saved after a step, steps being counted from 0; the evaluator scores checkpoints on images that "
                            "training does not see. Scores are of averaged weights where the spec averages them."
                        }
                        p { "Written by runboard " (env!("CARGO_PKG_VERSION")) " at " (parts::time(&now)) "." }
                    }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        markup.into_string()
    }
}

/// A name that may be broken at its slashes, where the page is narrow.
fn broken(name: &str) -> Markup {
    html! { @for (index, part) in name.split('/').enumerate() { @if index > 0 { "/" wbr; } (part) } }
}

/// The page of a run or a sweep as it is now.
pub fn of_one(entry: &Entry) -> String {
    let now = Local::now();
    let page = match entry.standing() {
        Some(standing) => {
            let points = entry.points().unwrap_or_default();
            sweep::page(entry, standing, &points, now)
        }
        None => run::page(entry, now),
    };
    page.html(now)
}

/// The page of several runs as they are now; `comparison` has a row for each. Of a sweep that cannot be read, `whole`, they are
/// the points that are there.
pub fn of_several(whole: Option<&Entry>, entries: &[Entry], comparison: &Table) -> String {
    let now = Local::now();
    several::page(whole, entries, comparison, now).html(now)
}

/// Writes a page as a file, which has all of it or is what it was before. Another file than a page of ours is replaced only if
/// `force` says so.
///
/// # Errors
/// A user error if there is such a file, or if the place cannot be written; else if the disk refuses it.
pub fn write(path: &Path, page: &str, force: bool) -> Result<()> {
    // A link stays, and what it leads to is replaced.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => bail_user!(
            "{} is a directory; want a file, such as {}",
            path.display(),
            path.join("report.html").display()
        ),
        Ok(found) if !found.is_file() => {
            bail_user!(
                "{} is no file; want one, or - for the standard output",
                path.display()
            )
        }
        Ok(_) if !force && !is_ours(path) => bail_user!(
            "{} is there and no page of `runboard report`; want another name, or --force to replace it",
            path.display()
        ),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => bail_user!(
            "{}: {error}; want a place that can be written",
            path.display()
        ),
    }
    let directory = dir_of(path);
    if !directory.is_dir() {
        bail_user!(
            "there is no directory {}; want one that is there",
            directory.display()
        );
    }
    replace(path, page.as_bytes()).map_err(|error| match is_refused(&error) {
        true => crate::user_error!("{error:#}; want another place: -o FILE"),
        false => error,
    })
}

/// Whether this user may not write there.
fn is_refused(error: &Error) -> bool {
    let kinds = [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem];
    let io = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| kinds.contains(&error.kind()))
}

fn is_ours(path: &Path) -> bool {
    let mut beginning = vec![0; MARK.len()];
    let read = open_regular(path).and_then(|mut file| file.read_exact(&mut beginning));
    read.is_ok() && beginning == MARK.as_bytes()
}

/// Where a page is written by default: in the directory of the run or sweep that it is of, or that of several in that of all
/// runs.
pub fn default_path(runs: &Path, entries: &[Entry]) -> PathBuf {
    let directory = match entries {
        [one] => one.directory().map(|it| it.path()),
        _ => None,
    };
    directory.unwrap_or(runs).join("report.html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_begins_with_the_mark_by_which_it_is_known() {
        let now = Local::now();
        let page = Page::new("<a>", Some("b&c".to_owned())).html(now);
        assert!(page.starts_with(MARK), "{}", &page[..200]);
        assert!(
            page.contains("<h1>&lt;a&gt; <span class=\"state\">b&amp;c</span></h1>"),
            "{page}"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.html");
        write(&path, &page, false).unwrap();
        write(&path, &page, false).unwrap();
        fs::write(&path, "my thesis").unwrap();
        let error = write(&path, &page, false).unwrap_err().to_string();
        assert!(
            error.contains("is there and no page of `runboard report`"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "my thesis");
        write(&path, &page, true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), page);
    }

    #[test]
    fn page_is_not_written_over_a_device_or_a_directory_and_a_link_stays() {
        let dir = tempfile::tempdir().unwrap();
        for (path, want) in [
            (dir.path(), "is a directory; want a file, such as "),
            (
                Path::new("/dev/null"),
                "/dev/null is no file; want one, or - for the standard output",
            ),
            (&dir.path().join("none/page.html"), "there is no directory "),
        ] {
            let error = write(path, "page", true).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, MARK).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, "page", false).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "page");
    }

    #[test]
    fn style_and_script_end_where_they_should_and_name_no_other_place() {
        for text in [STYLE, SCRIPT] {
            assert!(!text.contains("</") && !text.contains("http") && !text.contains("url("));
        }
    }
}

//! The terminal that a display has: what stays above, and lines below it that are drawn again in place.

use std::env;
use std::io::{self, IsTerminal, Stderr};

use ::console::Term;
use chrono::Local;

use super::screen::{Screen, Size};
use crate::overview::{Paint, wrap};
use crate::shutdown::has_lost_the_terminal;

/// The terminal of stderr. What cannot be shown is dropped.
pub struct Terminal {
    screen: Screen<Stderr>,
    term: Term,
    /// Whether the terminal was another job's when the lines were drawn last.
    is_lost: bool,
    /// The colours that it is to have.
    pub paint: Paint,
}

impl Terminal {
    /// None unless stderr and stdout are terminals that can draw in place.
    pub fn detect() -> Option<Self> {
        let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let terminals = io::stderr().is_terminal() && io::stdout().is_terminal();
        if is_dumb || !terminals {
            return None;
        }
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Some(Terminal {
            screen: Screen::new(io::stderr()),
            term: Term::stderr(),
            is_lost: false,
            paint: Paint { colour: !no_colour },
        })
    }

    /// The columns that a line may take. One is left: some terminals go to the next line after the last one.
    pub fn columns(&self) -> usize {
        self.size().columns.saturating_sub(1).clamp(20, 200)
    }

    /// The rows that lines below may take.
    pub fn rows(&self) -> usize {
        self.size().rows.saturating_sub(1)
    }

    /// Draws these lines, of at most [`Terminal::columns`], in the place of those before.
    pub fn draw(&mut self, lines: Vec<String>) {
        let size = self.size();
        // The shell has written below them where it has taken it, as after a `kill -STOP`, or given it back (`fg`).
        let is_lost = has_lost_the_terminal();
        if is_lost != self.is_lost {
            self.screen.forget();
        }
        self.is_lost = is_lost;
        self.screen.draw(lines, size);
    }

    /// Prints, with the time, what is worth keeping.
    pub fn event(&mut self, text: &str) {
        let time = Local::now().format("%H:%M:%S");
        self.print(&wrap(&format!("{time} {text}"), self.columns()));
    }

    /// Prints what stays.
    pub fn print(&mut self, text: &str) {
        let size = self.size();
        // What a log quotes of a file must not command the terminal.
        let safe = |letter: &char| *letter == '\n' || !letter.is_control();
        let text: String = text.chars().filter(safe).collect();
        self.screen.print(&text, size);
    }

    /// Removes the lines below.
    pub fn clear(&mut self) {
        let size = self.size();
        self.screen.clear(size);
    }

    /// Leaves the terminal to the shell, as this process is paused. If the shell has it already, it has said so itself, and the
    /// cursor is where its prompt is.
    pub fn pause(&mut self, text: &str) {
        if has_lost_the_terminal() {
            self.screen.forget();
        } else {
            self.clear();
            self.event(text);
        }
    }

    fn size(&self) -> Size {
        let (rows, columns) = self.term.size_checked().unwrap_or((24, 80));
        Size {
            rows: usize::from(rows),
            columns: usize::from(columns),
        }
    }
}

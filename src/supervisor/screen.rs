//! Lines at the bottom of a terminal that are drawn again in place, below what stays.
//!
//! The cursor is kept at the beginning of the line below them, and is moved relative to that: nothing is read from the
//! terminal, which may be in the background. After its width has changed, the terminal has broken the lines anew that
//! are wider than it, as all but a few do; so the rows to go up follow from the lines as they were drawn.

use std::io::Write;

use ::console::measure_text_width;

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub rows: usize,
    pub columns: usize,
}

/// A terminal with lines that are drawn again. What cannot be written is dropped.
pub(super) struct Screen<W> {
    out: W,
    /// As they were drawn last.
    lines: Vec<String>,
    /// The size then.
    size: Option<Size>,
}

impl<W: Write> Screen<W> {
    pub fn new(out: W) -> Self {
        Screen {
            out,
            lines: Vec::new(),
            size: None,
        }
    }

    /// Draws these lines, none of which is wider than the terminal, in the place of those before. Of more than the
    /// terminal has room for, the first are drawn.
    pub fn draw(&mut self, mut lines: Vec<String>, size: Size) {
        lines.truncate(size.rows.saturating_sub(1));
        let resized = self.size.is_some_and(|before| before != size);
        if lines == self.lines && !resized {
            return;
        }
        let mut text = self.home(size);
        if resized {
            text += "\x1b[J"; // what was broken into several rows
        }
        for line in &lines {
            text += line;
            text += "\x1b[K\n";
        }
        text += "\x1b[J";
        self.write(&text);
        self.lines = lines;
        self.size = Some(size);
    }

    /// Writes what stays, above the lines that are drawn again.
    pub fn print(&mut self, text: &str, size: Size) {
        let lines = self.lines.clone();
        let home = self.home(size);
        self.write(&format!("{home}\x1b[J{text}\n"));
        self.lines.clear();
        self.draw(lines, size);
    }

    /// Removes the lines. Those drawn next are below whatever is written meanwhile.
    pub fn clear(&mut self, size: Size) {
        if !self.lines.is_empty() {
            let home = self.home(size);
            self.write(&format!("{home}\x1b[J"));
            self.lines.clear();
        }
    }

    /// Leaves the lines where they are: others have written below them. Those drawn next are below that.
    pub fn forget(&mut self) {
        self.lines.clear();
    }

    /// What moves the cursor to the beginning of the lines, on a terminal that has this size by now.
    fn home(&self, size: Size) -> String {
        let columns = size.columns.max(1);
        let rows = |line: &String| measure_text_width(line).div_ceil(columns).max(1);
        match self.lines.iter().map(rows).sum::<usize>() {
            0 => "\r".to_owned(),
            rows => format!("\r\x1b[{rows}A"),
        }
    }

    fn write(&mut self, text: &str) {
        let _ = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// A terminal that knows what is written here, and that breaks its lines anew when its width changes.
    #[derive(Default)]
    struct Terminal {
        lines: Vec<Vec<char>>,
        line: usize,
        column: usize,
        columns: usize,
    }

    impl Terminal {
        fn new(columns: usize) -> Self {
            Terminal {
                lines: vec![Vec::new()],
                columns,
                ..Terminal::default()
            }
        }

        fn rows(&self, line: usize) -> usize {
            self.lines[line].len().div_ceil(self.columns).max(1)
        }

        /// Up by rows of the screen, of which a long line takes several.
        fn up(&mut self, rows: usize) {
            let mut row = self.column / self.columns;
            for _ in 0..rows {
                if row > 0 {
                    row -= 1;
                } else if self.line > 0 {
                    self.line -= 1;
                    row = self.rows(self.line) - 1;
                }
            }
            self.column = row * self.columns;
        }

        fn put(&mut self, letter: char) {
            let line = &mut self.lines[self.line];
            line.resize(line.len().max(self.column + 1), ' ');
            line[self.column] = letter;
            self.column += 1;
        }

        fn text(&self) -> String {
            let lines = self.lines.iter().map(|line| line.iter().collect());
            lines.collect::<Vec<String>>().join("\n")
        }
    }

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = std::str::from_utf8(bytes).unwrap();
            let mut letters = text.chars();
            while let Some(letter) = letters.next() {
                match letter {
                    '\r' => self.column = 0,
                    '\n' => {
                        (self.line, self.column) = (self.line + 1, 0);
                        if self.line == self.lines.len() {
                            self.lines.push(Vec::new());
                        }
                    }
                    '\x1b' => {
                        assert_eq!(letters.next(), Some('['));
                        let mut number = String::new();
                        let command = loop {
                            match letters.next().unwrap() {
                                digit if digit.is_ascii_digit() => number.push(digit),
                                command => break command,
                            }
                        };
                        match command {
                            'A' => self.up(number.parse().unwrap()),
                            'K' => self.lines[self.line].truncate(self.column),
                            'J' => {
                                self.lines[self.line].truncate(self.column);
                                self.lines.truncate(self.line + 1);
                            }
                            other => panic!("{other}"),
                        }
                    }
                    letter => self.put(letter),
                }
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn size(columns: usize) -> Size {
        Size { rows: 24, columns }
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| line.to_string()).collect()
    }

    #[test]
    fn lines_are_drawn_in_place_below_what_stays() {
        let mut screen = Screen::new(Terminal::new(80));
        screen.draw(lines(&["one", "two", "three"]), size(80));
        screen.print("an event", size(80));
        screen.draw(lines(&["1", "2"]), size(80));
        assert_eq!(screen.out.text(), "an event\n1\n2\n");
        screen.print("another\nof two lines", size(80));
        assert_eq!(screen.out.text(), "an event\nanother\nof two lines\n1\n2\n");
        screen.clear(size(80));
        assert_eq!(screen.out.text(), "an event\nanother\nof two lines\n");
        screen.out.write_all(b"a shell's line\n").unwrap();
        screen.draw(lines(&["3"]), size(80));
        assert!(
            screen
                .out
                .text()
                .ends_with("two lines\na shell's line\n3\n")
        );
    }

    #[test]
    fn lines_leave_nothing_behind_when_the_terminal_is_resized() {
        let wide = "a line of 33 columns, which is long";
        for (before, after) in [(40, 10), (10, 40), (40, 39), (40, 3)] {
            let mut screen = Screen::new(Terminal::new(before));
            screen.print("what stays", size(before));
            screen.draw(lines(&[&wide[..before.min(33)], "", "short"]), size(before));
            screen.out.columns = after;
            let drawn = lines(&[&wide[..after.min(33)], "end"]);
            screen.draw(drawn.clone(), size(after));
            let want = format!("what stays\n{}\nend\n", drawn[0]);
            assert_eq!(screen.out.text(), want, "{before} to {after}");
        }
    }

    #[test]
    fn lines_that_there_is_no_room_for_are_left_out() {
        let mut screen = Screen::new(Terminal::new(80));
        let few = Size {
            rows: 3,
            columns: 80,
        };
        screen.draw(lines(&["1", "2", "3"]), few);
        assert_eq!(screen.out.text(), "1\n2\n");
    }

    #[test]
    fn what_the_terminal_echoes_is_removed() {
        let mut screen = Screen::new(Terminal::new(80));
        screen.draw(lines(&["one"]), size(80));
        screen.out.write_all(b"^C").unwrap();
        screen.draw(lines(&["two"]), size(80));
        assert_eq!(screen.out.text(), "two\n");
    }
}

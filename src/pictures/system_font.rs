//! A font that is installed on the machine, for letters that the built-in one lacks.
//!
//! Letters are drawn one after the other, from left to right. Scripts that are written otherwise, whose letters join or
//! stand above each other, are not drawn at all.

use super::text::HEIGHT;
use crate::files::read_small;
use ab_glyph::{Font, FontVec, OutlinedGlyph, PxScale, point};
use std::collections::BTreeSet;
use std::env;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use walkdir::WalkDir;

/// Pixels per em: the side of a Chinese character.
const EM: f32 = 14.0;
/// The baseline's distance from the line's top, in pixels.
const BASELINE: f32 = 13.0;
/// The largest font file that is read, in bytes. Noto's fonts of all Chinese characters have 20 to 120 MB.
const MAX_BYTES: u64 = 128 << 20;
/// In the names of files whose letters are not upright or of another weight than the built-in font's.
const STYLES: [&str; 8] = [
    "Black", "Bold", "Heavy", "Italic", "Light", "Medium", "Oblique", "Thin",
];
/// Letters of scripts that are written one letter after the other, from left to right.
const SCRIPTS: [RangeInclusive<char>; 11] = [
    '\u{a0}'..='\u{24f}',      // Latin
    '\u{370}'..='\u{482}',     // Greek, Cyrillic
    '\u{48a}'..='\u{58f}',     // Cyrillic, Armenian
    '\u{1e00}'..='\u{1fff}',   // Latin and Greek with accents
    '\u{2010}'..='\u{2027}',   // punctuation
    '\u{2e80}'..='\u{3029}',   // Chinese
    '\u{3030}'..='\u{3098}',   // Japanese; then its accents, which stand above other letters
    '\u{309b}'..='\u{a4cf}',   // Japanese, Chinese
    '\u{ac00}'..='\u{d7a3}',   // Korean
    '\u{f900}'..='\u{faff}',   // Chinese
    '\u{20000}'..='\u{323af}', // Chinese
];

/// The font, at the size in which it stands beside the built-in one.
pub(super) struct SystemFont {
    font: FontVec,
    scale: PxScale,
}

impl SystemFont {
    /// The first font on this machine that has all of `letters`. None if there is no such font, or if a letter belongs
    /// to a script that cannot be drawn letter by letter.
    pub fn covering(letters: &BTreeSet<char>) -> Option<Self> {
        let data_home = env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        let home = env::home_dir();
        let data_home = data_home.or_else(|| Some(home.as_ref()?.join(".local/share")));
        let directories = ["/usr/share", "/usr/local/share"].map(PathBuf::from);
        let directories = directories.into_iter().chain(data_home);
        let directories = directories.map(|directory| directory.join("fonts"));
        let directories = directories.chain(home.map(|home| home.join(".fonts")));
        Self::covering_in(&directories.collect::<Vec<_>>(), letters)
    }

    /// As [`SystemFont::covering`], in these directories: upright fonts of regular weight first, in the order of their
    /// paths, so that the same fonts make the same picture.
    pub fn covering_in(directories: &[PathBuf], letters: &BTreeSet<char>) -> Option<Self> {
        let is_drawable = |letter| SCRIPTS.iter().any(|script| script.contains(letter));
        if !letters.iter().all(is_drawable) {
            return None;
        }
        let mut paths = Vec::new();
        for directory in directories {
            let entries = WalkDir::new(directory)
                .follow_links(true)
                .sort_by_file_name();
            // Directories that cannot be read have no fonts for us.
            let files = entries.into_iter().flatten().map(|entry| entry.into_path());
            paths.extend(files.filter(|path| {
                let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
                ["otf", "ttc", "ttf"]
                    .iter()
                    .any(|known| extension == *known)
            }));
        }
        paths.sort_by_key(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            STYLES.iter().any(|style| name.contains(style))
        });
        let mut fonts = paths.iter().filter_map(|path| {
            let font = FontVec::try_from_vec(read_small(path, MAX_BYTES).ok()?).ok()?;
            let scale = EM * font.height_unscaled() / font.units_per_em()?;
            let scale = PxScale::from(scale);
            Some(SystemFont { font, scale })
        });
        fonts.find(|font| letters.iter().all(|&letter| font.has(letter)))
    }

    /// Whether the letter can be drawn. Some fonts have pictures in place of outlines, or nothing.
    fn has(&self, letter: char) -> bool {
        let fits = |outline: OutlinedGlyph| {
            let bounds = outline.px_bounds();
            bounds.width().max(bounds.height()) <= 4.0 * EM
        };
        self.font.glyph_id(letter).0 != 0
            && self.width(letter) > 0
            && (letter.is_whitespace() || self.outline(letter).is_some_and(fits))
    }

    fn outline(&self, letter: char) -> Option<OutlinedGlyph> {
        let glyph = self.font.glyph_id(letter);
        let glyph = glyph.with_scale_and_position(self.scale, point(0.0, BASELINE));
        self.font.outline_glyph(glyph)
    }

    /// Width of a letter in pixels.
    pub fn width(&self, letter: char) -> u32 {
        let advance = self.font.h_advance_unscaled(self.font.glyph_id(letter));
        let pixels = advance * self.scale.x / self.font.height_unscaled();
        pixels.ceil().clamp(0.0, 4.0 * EM) as u32
    }

    /// Calls `put` with column, row and share of ink (0 to 1) of the letter's pixels, within its width and the height
    /// of a line.
    pub fn draw(&self, letter: char, mut put: impl FnMut(u32, u32, f32)) {
        let Some(outline) = self.outline(letter) else {
            return;
        };
        let (left, top) = (outline.px_bounds().min.x, outline.px_bounds().min.y);
        let width = self.width(letter);
        outline.draw(|x, y, cover| {
            let (x, y) = (x as f32 + left, y as f32 + top);
            if (0.0..width as f32).contains(&x) && (0.0..HEIGHT as f32).contains(&y) {
                put(x as u32, y as u32, cover.min(1.0));
            }
        });
    }
}

/// A font with the letters 飞 (a square) and Ж (two em wide), made by tests/reference/make_font.py.
#[cfg(test)]
pub(super) fn test_font() -> SystemFont {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    SystemFont::covering_in(&[directory], &BTreeSet::from(['飞', 'Ж'])).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn found(directories: &[PathBuf], letters: &str) -> Option<SystemFont> {
        SystemFont::covering_in(directories, &letters.chars().collect())
    }

    #[test]
    fn font_has_all_letters_or_is_not_taken() {
        let directories = [PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference")];
        assert_eq!(found(&directories, "飞Ж").unwrap().width('Ж'), 28);
        assert!(found(&directories, "飞机").is_none());
        assert!(found(&[directories[0].join("absent")], "飞").is_none());
    }

    #[test]
    fn letters_of_scripts_that_join_or_stack_are_not_drawn() {
        for letters in ["ط", "ह", "e\u{301}", "カ\u{3099}", "\u{1f600}"] {
            let letters = letters.chars().collect();
            assert!(SystemFont::covering(&letters).is_none(), "{letters:?}");
        }
    }

    #[test]
    fn fonts_are_tried_in_one_order_and_files_that_are_none_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let font = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let font = fs::read(font.join("tests/reference/squares.ttf")).unwrap();
        // The same font with letters of half the size: units of an em stand at byte 18 of the table `head`.
        let mut half = font.clone();
        let head = half.windows(4).position(|tag| tag == b"head").unwrap();
        let offset = half[head + 8..head + 12].try_into().unwrap();
        let units = u32::from_be_bytes(offset) as usize + 18;
        half[units..units + 2].copy_from_slice(&2800u16.to_be_bytes());
        for (name, bytes) in [
            ("a/a.ttf", &b"no font"[..]),
            ("a/notes.txt", &font),
            ("a/b-Bold.ttf", &half),
            ("a/c.ttf", &font),
            ("b/a.TTF", &half),
        ] {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        std::os::unix::fs::symlink(home.path(), home.path().join("a/loop")).unwrap();
        let [a, b] = ["a", "b"].map(|name| home.path().join(name));
        assert_eq!(
            found(&[a.clone(), b.clone()], "飞").unwrap().width('飞'),
            14
        );
        assert_eq!(found(&[b, a.clone()], "飞").unwrap().width('飞'), 7);
        fs::remove_file(a.join("c.ttf")).unwrap();
        fs::remove_file(a.join("loop")).unwrap();
        assert_eq!(found(&[a], "飞").unwrap().width('飞'), 7, "a bold one");
    }
}

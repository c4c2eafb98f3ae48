//! The confusion matrix as a picture.

use super::text::{self, Font, mix};
use super::{BLACK, ClassLabels, WHITE, centre, tile};
use image::imageops::{replace, rotate270};
use image::{Rgb, RgbImage};

/// Least side of a cell, in pixels.
const CELL: u32 = 40;
/// Lines between cells, and their colour.
const GAP: u32 = 1;
const LINE: Rgb<u8> = Rgb([221; 3]);
/// The shade of a cell that holds all images of its class.
const FULL: Rgb<u8> = Rgb([8, 48, 107]);
/// White ink above this share, black below: here both have a contrast of 4.5 to 1 to the shade.
const DARK: f64 = 0.65;
/// Ink of the count 0, which is there but does not ask to be read.
const FAINT: Rgb<u8> = Rgb([190; 3]);
/// Around titles and names.
const SPACE: u32 = 6;

/// `counts` [label, prediction] of images as a matrix with `labels` beside its rows
/// (labels) and above its columns (predictions). A cell's shade, and its second line, is its share of its row, from
/// white for none to dark blue for all.
pub fn confusion(counts: &[u64], labels: &ClassLabels) -> RgbImage {
    let (font, names) = (&labels.font, labels.texts());
    let classes = names.len();
    let widest = counts.iter().map(|count| font.width(&count.to_string()));
    let side = widest.max().unwrap_or(0).max(CELL - SPACE) + SPACE;
    let rows = counts.chunks(classes.max(1));
    let cells: Vec<RgbImage> = rows.flat_map(|row| draw(row, side, font)).collect();
    let matrix = tile(&cells, classes, GAP, LINE);

    let longest = names.iter().map(|name| font.width(name));
    let longest = longest.max().unwrap_or(0);
    // A title, the names, the matrix, each after a space.
    let title = SPACE + text::HEIGHT / 2;
    let first = SPACE + text::HEIGHT + SPACE + longest + SPACE;
    let size = |side: u32| first + side + SPACE;
    let (width, height) = (size(matrix.width()), size(matrix.height()));
    let mut picture = RgbImage::from_pixel(width, height, WHITE);
    replace(&mut picture, &matrix, first.into(), first.into());
    let line = |text: &str| font.line(text, BLACK, WHITE);
    let upright = |text: &str| rotate270(&line(text));
    let middle = first + matrix.width() / 2;
    centre(&mut picture, &line("prediction"), middle, title);
    let middle = first + matrix.height() / 2;
    centre(&mut picture, &upright("label"), title, middle);
    for (class, name) in names.iter().enumerate() {
        let middle = first + GAP + side / 2 + class as u32 * (side + GAP);
        // Both end at the matrix.
        let end = first - SPACE - font.width(name) / 2;
        centre(&mut picture, &line(name), end, middle);
        centre(&mut picture, &upright(name), middle, end);
    }
    picture
}

/// The cells of one row.
fn draw(row: &[u64], side: u32, font: &Font) -> impl Iterator<Item = RgbImage> {
    let images = row.iter().sum::<u64>().max(1);
    row.iter().map(move |&count| {
        let share = count as f64 / images as f64;
        let shade = mix(WHITE, FULL, share);
        let ink = match count {
            0 => FAINT,
            _ if share > DARK => WHITE,
            _ => BLACK,
        };
        let mut cell = RgbImage::from_pixel(side, side, shade);
        let line = |text: &str| font.line(text, ink, shade);
        let text = line(&count.to_string());
        if count == 0 {
            centre(&mut cell, &text, side / 2, side / 2);
        } else {
            let percent = line(&percent(share));
            centre(&mut cell, &text, side / 2, side / 2 - text::HEIGHT / 2);
            centre(&mut cell, &percent, side / 2, side / 2 + text::HEIGHT / 2);
        }
        cell
    })
}

/// A share above 0 as whole percent.
fn percent(share: f64) -> String {
    match (100.0 * share).round() {
        0.0 => "<1%".to_owned(),
        percent => format!("{percent}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> ClassLabels {
        let names: Vec<String> = names.iter().copied().map(String::from).collect();
        ClassLabels::new(&names)
    }

    /// Where the matrix of classes begins whose longest name has `letters`.
    fn first(letters: u32) -> u32 {
        6 + 16 + 6 + 7 * letters + 6
    }

    #[test]
    fn cells_are_shaded_by_their_share_of_the_row() {
        let counts = [3, 1, 0, 0, 0, 8, 0, 0, 0];
        let picture = confusion(&counts, &labels(&["a", "bb", "c"]));
        let side = first(2) + 1 + 3 * 41 + 6;
        assert_eq!(picture.dimensions(), (side, side));
        let corner = |row: u32, column: u32| {
            let at = |cell: u32| first(2) + 1 + cell * 41;
            *picture.get_pixel(at(column), at(row))
        };
        assert_eq!(corner(0, 0), mix(WHITE, FULL, 0.75));
        assert_eq!(corner(0, 1), mix(WHITE, FULL, 0.25));
        assert_eq!(corner(0, 2), WHITE);
        assert_eq!(corner(1, 2), FULL);
        assert_eq!(
            [0, 1, 2].map(|column| corner(2, column)),
            [WHITE; 3],
            "no images"
        );
        assert_eq!(picture.get_pixel(first(2), first(2)), &LINE);
    }

    #[test]
    fn counts_and_names_are_drawn_in_their_places() {
        let picture = confusion(&[1, 0, 0, 12345678], &labels(&["first", "second"]));
        let cell = 8 * 7 + 6;
        let start = first(6);
        let cut = |x: u32, y: u32, like: &RgbImage| {
            image::imageops::crop_imm(&picture, x, y, like.width(), like.height()).to_image()
        };
        let font = Font::default();
        let count = font.line("12345678", WHITE, FULL);
        let at = start + 1 + cell + 1;
        assert_eq!(cut(at + 3, at + cell / 2 - 16, &count), count);
        let percent = font.line("100%", WHITE, FULL);
        assert_eq!(cut(at + cell / 2 - 14, at + cell / 2, &percent), percent);
        let name = font.line("second", BLACK, WHITE);
        let middle = start + 1 + cell + 1 + cell / 2;
        assert_eq!(cut(start - 6 - 42, middle - 8, &name), name);
        let name = rotate270(&name);
        assert_eq!(cut(middle - 8, start - 6 - 42, &name), name);
        let title = font.line("prediction", BLACK, WHITE);
        assert_eq!(cut(start + cell + 1 - 35, 6, &title), title);
    }

    #[test]
    fn share_is_whole_percent() {
        let found = [0.001, 0.0049, 0.005, 0.126, 0.999, 1.0].map(percent);
        assert_eq!(found, ["<1%", "<1%", "1%", "13%", "100%", "100%"]);
    }

    #[test]
    fn matrix_of_no_class_and_of_one_class_can_be_drawn() {
        assert_eq!(confusion(&[], &labels(&[])).width(), first(0) + 2 + 6);
        let one = confusion(&[u64::from(u32::MAX)], &labels(&["only"]));
        assert_eq!(one.get_pixel(first(4) + 1, first(4) + 1), &FULL);
    }
}

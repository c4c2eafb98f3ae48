//! The surface that synthetic images are painted on.

use super::figures::length;
use crate::data::format::{CHANNELS, SIDE};
use std::ops::Range;

/// Red, green and blue on the 0..255 scale; painting may leave it.
pub(in crate::data) type Colour = [f32; CHANNELS];

/// A straight line with round ends. Lengths in pixels.
pub(in crate::data) struct Stroke {
    pub(in crate::data) ink: Colour,
    pub(in crate::data) opacity: f32,
    pub(in crate::data) from: [f32; 2],
    /// Unit vector.
    pub(in crate::data) along: [f32; 2],
    pub(in crate::data) length: f32,
    /// Half the width.
    pub(in crate::data) radius: f32,
}

/// An image being painted.
pub(in crate::data) struct Canvas {
    /// [row * SIDE + column].
    pub(in crate::data) pixels: Vec<Colour>,
}

impl Canvas {
    /// `middle`, plus `slope` for each half side along the unit vector `along`.
    pub(in crate::data) fn gradient(middle: Colour, slope: Colour, along: [f32; 2]) -> Canvas {
        let half = SIDE as f32 / 2.0;
        let at = |place: usize| (place as f32 + 0.5) / half - 1.0;
        let pixels = (0..SIDE * SIDE).map(|pixel| {
            let distance = along[0] * at(pixel % SIDE) + along[1] * at(pixel / SIDE);
            std::array::from_fn(|c| middle[c] + distance * slope[c])
        });
        Canvas {
            pixels: pixels.collect(),
        }
    }

    /// Blends `ink` in where `distance`, in pixels, is negative, with edges one pixel soft.
    pub(in crate::data) fn fill(&mut self, ink: Colour, distance: impl Fn(f32, f32) -> f32) {
        self.paint(ink, 1.0, 0..SIDE, 0..SIDE, distance);
    }

    pub(in crate::data) fn stroke(&mut self, stroke: &Stroke) {
        let [columns, rows] = std::array::from_fn(|axis| {
            let from = stroke.from[axis];
            let to = from + stroke.along[axis] * stroke.length;
            let low = from.min(to) - stroke.radius - 1.0;
            let high = from.max(to) + stroke.radius + 2.0;
            // Conversion saturates at 0.
            low as usize..(high as usize).min(SIDE)
        });
        self.paint(stroke.ink, stroke.opacity, columns, rows, |x, y| {
            let (x, y) = (x - stroke.from[0], y - stroke.from[1]);
            let [along_x, along_y] = stroke.along;
            let nearest = (x * along_x + y * along_y).clamp(0.0, stroke.length);
            length(x - nearest * along_x, y - nearest * along_y) - stroke.radius
        });
    }

    fn paint(
        &mut self,
        ink: Colour,
        opacity: f32,
        columns: Range<usize>,
        rows: Range<usize>,
        distance: impl Fn(f32, f32) -> f32,
    ) {
        for row in rows {
            for column in columns.clone() {
                let distance = distance(column as f32 + 0.5, row as f32 + 0.5);
                let cover = opacity * (0.5 - distance).clamp(0.0, 1.0);
                for (value, ink) in self.pixels[row * SIDE + column].iter_mut().zip(ink) {
                    *value += cover * (ink - *value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strokes_cover_their_line_and_nothing_else() {
        let mut canvas = Canvas::gradient([0.0; 3], [0.0; 3], [1.0, 0.0]);
        canvas.stroke(&Stroke {
            ink: [200.0, 0.0, 100.0],
            opacity: 0.5,
            from: [28.0, 10.5],
            along: [1.0, 0.0],
            length: 18.0,
            radius: 1.0,
        });
        let at = |x: usize, y: usize| canvas.pixels[y * SIDE + x];
        assert_eq!(at(31, 10), [100.0, 0.0, 50.0]);
        assert_eq!(at(31, 9), [50.0, 0.0, 25.0], "half covered");
        assert_eq!((at(31, 8), at(31, 12)), ([0.0; 3], [0.0; 3]));
        assert_eq!(at(25, 10), [0.0; 3]);
    }

    #[test]
    fn gradients_pass_their_middle_colour() {
        let canvas = Canvas::gradient([100.0; 3], [32.0, 0.0, -32.0], [0.0, 1.0]);
        assert_eq!(canvas.pixels[0], [69.0, 100.0, 131.0]);
        assert_eq!(canvas.pixels[SIDE * SIDE - 1], [131.0, 100.0, 69.0]);
    }
}

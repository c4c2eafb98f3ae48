//! Shapes and textures of the synthetic classes, as signed distances.

use rand::Rng;

/// What an image shows. In the order of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) enum Figure {
    Disc,
    Ring,
    Square,
    Frame,
    Triangle,
    Cross,
    HorizontalStripes,
    VerticalStripes,
    Checkerboard,
    Dots,
}

impl Figure {
    /// All of them. Each is its own mirror image, up to the turns in which it is drawn anyway.
    pub(in crate::data) const ALL: [Figure; 10] = [
        Figure::Disc,
        Figure::Ring,
        Figure::Square,
        Figure::Frame,
        Figure::Triangle,
        Figure::Cross,
        Figure::HorizontalStripes,
        Figure::VerticalStripes,
        Figure::Checkerboard,
        Figure::Dots,
    ];

    /// Class name for people.
    pub(in crate::data) fn name(self) -> &'static str {
        match self {
            Figure::Disc => "disc",
            Figure::Ring => "ring",
            Figure::Square => "square",
            Figure::Frame => "frame",
            Figure::Triangle => "triangle",
            Figure::Cross => "cross",
            Figure::HorizontalStripes => "horizontal stripes",
            Figure::VerticalStripes => "vertical stripes",
            Figure::Checkerboard => "checkerboard",
            Figure::Dots => "dots",
        }
    }

    /// Whether its direction is what tells it from another figure.
    pub(in crate::data) fn is_directed(self) -> bool {
        matches!(self, Figure::HorizontalStripes | Figure::VerticalStripes)
    }

    /// Whether it is a pattern within a window, as opposed to an outline.
    pub(in crate::data) fn is_texture(self) -> bool {
        self.is_directed() || matches!(self, Figure::Checkerboard | Figure::Dots)
    }
}

/// A pattern's window and grid. Lengths in units of the figure's radius.
#[derive(Clone, Copy, Debug)]
pub(in crate::data) struct Texture {
    pub(in crate::data) square_window: bool,
    pub(in crate::data) period: f32,
    pub(in crate::data) phase: [f32; 2],
}

impl Texture {
    pub(in crate::data) fn sample(period: f32, rng: &mut impl Rng) -> Texture {
        Texture {
            square_window: rng.random(),
            period,
            phase: [rng.random(), rng.random()],
        }
    }

    fn window(&self, x: f32, y: f32) -> f32 {
        if self.square_window {
            x.abs().max(y.abs()) - 0.9
        } else {
            length(x, y) - 1.0
        }
    }

    /// Place within the period along one axis, in -0.5..0.5.
    fn wave(&self, value: f32, axis: usize) -> f32 {
        let place = value / self.period + self.phase[axis];
        place - place.floor() - 0.5
    }

    /// Distance to the stripes that cross one axis.
    fn stripes(&self, value: f32, axis: usize) -> f32 {
        (self.wave(value, axis).abs() - 0.25) * self.period
    }
}

/// Signed distance from (x, y) to the figure's edge, in units of its radius; negative inside. Close to
/// the edge it is exact but for corners, which is all that smooth edges need.
pub(in crate::data) fn distance(figure: Figure, texture: &Texture, x: f32, y: f32) -> f32 {
    let chebyshev = x.abs().max(y.abs());
    match figure {
        Figure::Disc => length(x, y) - 0.95,
        Figure::Ring => (length(x, y) - 0.75).abs() - 0.22,
        Figure::Square => chebyshev - 0.82,
        Figure::Frame => (chebyshev - 0.66).abs() - 0.2,
        // Equilateral; the centre of gravity is the origin, sqrt(3)/2 the slope's normal.
        Figure::Triangle => (0.866_025_4 * x.abs() + 0.5 * y).max(-y) - 0.56,
        Figure::Cross => {
            let arm = |along: f32, across: f32| (along.abs() - 1.0).max(across.abs() - 0.28);
            arm(x, y).min(arm(y, x))
        }
        Figure::HorizontalStripes => texture.window(x, y).max(texture.stripes(y, 1)),
        Figure::VerticalStripes => texture.window(x, y).max(texture.stripes(x, 0)),
        Figure::Checkerboard => {
            let (a, b) = (texture.stripes(x, 0), texture.stripes(y, 1));
            let nearest = a.abs().min(b.abs());
            let squares = if (a < 0.0) == (b < 0.0) {
                -nearest
            } else {
                nearest
            };
            texture.window(x, y).max(squares)
        }
        Figure::Dots => {
            let dot = length(texture.wave(x, 0), texture.wave(y, 1)) - 0.3;
            texture.window(x, y).max(dot * texture.period)
        }
    }
}

/// Square roots are exact in IEEE arithmetic, unlike `hypot`, sines and logarithms: the drawn bytes are
/// the same on every machine.
pub(in crate::data) fn length(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Share of the figure's bounding square that it covers.
    fn area(figure: Figure, texture: &Texture, turn: impl Fn(f32, f32) -> (f32, f32)) -> Vec<bool> {
        let mut inside = Vec::new();
        for row in -12..=12 {
            for column in -12..=12 {
                let (x, y) = turn(column as f32 / 10.0, row as f32 / 10.0);
                inside.push(distance(figure, texture, x, y) < 0.0);
            }
        }
        inside
    }

    fn texture() -> Texture {
        Texture {
            square_window: false,
            period: 0.55,
            phase: [0.5, 0.5],
        }
    }

    #[test]
    fn figures_differ_and_cover_a_fair_part() {
        let areas = Figure::ALL.map(|figure| area(figure, &texture(), |x, y| (x, y)));
        for (place, one) in areas.iter().enumerate() {
            let share = one.iter().filter(|&&inside| inside).count() as f32 / one.len() as f32;
            assert!(
                (0.1..0.7).contains(&share),
                "{:?}: {share}",
                Figure::ALL[place]
            );
            for other in &areas[place + 1..] {
                let differs = one.iter().zip(other).filter(|(a, b)| a != b).count();
                assert!(differs > one.len() / 20);
            }
        }
    }

    #[test]
    fn every_figure_is_its_own_mirror_image() {
        for figure in Figure::ALL {
            let plain = area(figure, &texture(), |x, y| (x, y));
            assert_eq!(
                plain,
                area(figure, &texture(), |x, y| (-x, y)),
                "{figure:?}"
            );
        }
    }
}

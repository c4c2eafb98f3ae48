//! A chart of curves as inline SVG.
//!
//! The drawing is stretched to the width that there is, with lines and dots that are not; all letters are HTML beside it, so
//! that they have their size on a phone as on a wide screen. Colours are classes of the page's style, which has others in the
//! dark. (The SVG backend of plotters writes colours, sizes and letters in pixels into the drawing: it would be one picture
//! for all screens, in one of the two colour schemes.)

use maud::{Markup, html};

use super::axis::{Axis, grouped, shown};

/// Units of the drawing. Coordinates are whole numbers, which take few bytes.
pub const WIDTH: f64 = 1500.0;
const HEIGHT: f64 = 600.0;

/// Points that all curves of a chart have together at most, and one curve. With six charts, a page of a hundred curves
/// stays below 3 MB, and that of one far below 1 MB.
const POINTS: usize = 60_000;
const POINTS_OF_CURVE: usize = 1200;

/// A curve of so few points shows each as a dot, in a chart of so few curves.
const DOTS: usize = 40;
const DOTTED: usize = 15;

/// Classes of the colours that curves have.
pub const COLOURS: usize = 8;

/// The colour of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// One of [`COLOURS`].
    Number(usize),
    /// Grey, of those that have none of their own.
    Grey,
}

impl Colour {
    /// That of the curve with this number.
    pub fn of(index: usize) -> Self {
        match index {
            0..COLOURS => Colour::Number(index),
            _ => Colour::Grey,
        }
    }

    /// The class of the page's style.
    pub fn class(self) -> String {
        match self {
            Colour::Number(index) => format!("c{index}"),
            Colour::Grey => "grey".to_owned(),
        }
    }
}

/// A curve.
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    pub colour: Colour,
    /// x and y in the order of x; a y that is not finite is a gap.
    pub points: Vec<(f64, f64)>,
}

/// Which value of a curve is worth naming beside the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    Highest,
    Lowest,
    None,
}

/// A chart of curves over the steps of training.
pub struct Chart<'a> {
    pub title: &'a str,
    /// What it shows, in a sentence or two.
    pub text: String,
    pub extreme: Extreme,
    pub lines: Vec<Line>,
    /// Steps at which training was resumed.
    pub resumed: Vec<f64>,
}

impl Chart<'_> {
    /// The chart as HTML; none if no curve has a point.
    pub fn html(&self) -> Option<Markup> {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        points().next()?;
        let x = Axis::of(points().map(|point| point.0), false)?;
        let y = Axis::of(points().map(|point| point.1), true).map(|axis| axis.with_room(0.04));
        let lost = points().filter(|point| !point.1.is_finite());
        let (count, first) = (
            lost.clone().count(),
            lost.map(|point| point.0).reduce(f64::min),
        );
        Some(html! {
            figure.chart {
                figcaption {
                    h3 { (self.title) }
                    p {
                        (self.text)
                        @if y.as_ref().is_some_and(Axis::is_logarithmic) { " The scale is logarithmic." }
                        @if !self.resumed.is_empty() { " Dashed: where training was resumed." }
                    }
                }
                @match &y {
                    Some(y) => (self.plot(&x, y)),
                    None => p.note { "No value is finite, so there is nothing to draw." },
                }
                @if let (1.., Some(first)) = (count, first) {
                    p.note { (grouped(count as f64)) " of the values are NaN or infinite and not drawn, the first at step " (grouped(first)) "." }
                }
                (self.legend())
            }
        })
    }

    fn plot(&self, x: &Axis, y: &Axis) -> Markup {
        let budget = POINTS / self.lines.len().max(1);
        let budget = budget.clamp(60, POINTS_OF_CURVE);
        // The first is the most important and comes last, over the others.
        let lines = self.lines.iter().rev();
        let paths = lines.map(|line| {
            (
                line.colour,
                path(line, x, y, budget, self.lines.len() <= DOTTED),
            )
        });
        let within = |step: &&f64| (0.0..=1.0).contains(&x.place(**step));
        let resumed = self.resumed.iter().filter(within);
        let ends = [0.0, 1.0].map(|place| format!("{} {}", x.value(place), y.value(place)));
        let inner = html! {
            @for step in resumed { (vertical(x.place(*step), "resumed")) }
            @for (colour, path) in paths {
                @if !path.line.is_empty() { path class=(format!("line {}", colour.class())) d=(path.line) {} }
                @if !path.dots.is_empty() { path class=(format!("dot {}", colour.class())) d=(path.dots) {} }
            }
        };
        html! {
            div.plot data-from=(ends[0]) data-to=(ends[1]) data-log=[y.is_logarithmic().then_some("")] {
                (frame(&x.ticks(), &y.ticks(), &format!("{}: curves over the steps of training", self.title), &inner))
            }
        }
    }

    /// The curves by name with what they come to: those with a colour, and how many others there are.
    fn legend(&self) -> Markup {
        let mut named: Vec<&Line> = Vec::new();
        for line in self.lines.iter().filter(|line| line.colour != Colour::Grey) {
            let has_name = |it: &&Line| it.name == line.name;
            if !line.points.is_empty() && !named.iter().any(has_name) {
                named.push(line);
            }
        }
        let same = |line: &Line| self.lines.iter().filter(|it| it.name == line.name).count();
        let grey = self
            .lines
            .iter()
            .filter(|line| line.colour == Colour::Grey && !line.points.is_empty());
        let grey = grey.count();
        html! {
            ul.legend {
                @for line in named {
                    li class=(line.colour.class()) {
                        span.key {}
                        @if !line.name.is_empty() { (line.name) " " }
                        small {
                            @match same(line) {
                                1 => (self.values(line)),
                                curves => { (curves) " curves" (self.range(line)) },
                            }
                        }
                    }
                }
                @if grey > 0 { li.grey { span.key {} (grey) @if grey == 1 { " other" } @else { " others" } } }
            }
        }
    }

    /// Between what the last values of all curves with the name of this one lie.
    fn range(&self, line: &Line) -> String {
        let same = self.lines.iter().filter(|it| it.name == line.name);
        let values = |line: &Line| {
            line.points
                .iter()
                .rev()
                .map(|point| point.1)
                .find(|it| it.is_finite())
        };
        let last: Vec<f64> = same.filter_map(values).collect();
        match (
            last.iter().copied().reduce(f64::min),
            last.iter().copied().reduce(f64::max),
        ) {
            (Some(least), Some(most)) => format!(", at last {} to {}", shown(least), shown(most)),
            _ => String::new(),
        }
    }

    /// The last value of a curve, and its best.
    fn values(&self, line: &Line) -> String {
        let finite = || line.points.iter().filter(|point| point.1.is_finite());
        let best = match self.extreme {
            Extreme::Highest => finite().max_by(|a, b| a.1.total_cmp(&b.1)),
            Extreme::Lowest => finite().min_by(|a, b| a.1.total_cmp(&b.1)),
            Extreme::None => None,
        };
        let at = |point: &(f64, f64)| format!("{} at step {}", shown(point.1), grouped(point.0));
        let word = match self.extreme {
            Extreme::Highest => "highest",
            _ => "lowest",
        };
        match (line.points.last(), best) {
            (None, _) => "no value".to_owned(),
            (Some(last), Some(best)) if best.0 != last.0 => {
                format!("{word} {}, last {}", at(best), at(last))
            }
            (Some(last), Some(_)) if line.points.len() > 1 => format!("{}, the {word}", at(last)),
            (Some(last), _) => at(last),
        }
    }
}

/// A drawing of [`WIDTH`] x [`HEIGHT`] between its axes, each with the places and texts of its ticks.
pub fn frame(x: &[(f64, String)], y: &[(f64, String)], label: &str, inner: &Markup) -> Markup {
    let widest = y
        .iter()
        .map(|(_, text)| text.chars().count())
        .max()
        .unwrap_or(1);
    html! {
        div.frame style=(format!("--y:{widest}ch")) {
            div.y {
                @for (place, text) in y { span style=(format!("bottom:{:.1}%", 100.0 * place)) { (text) } }
            }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
                @for (place, _) in y { path.grid d=(format!("M0 {:.0}H{WIDTH}", HEIGHT * (1.0 - place))) {} }
                @for (place, _) in x { (vertical(*place, "grid")) }
                (inner)
            }
            div.x {
                @for (place, text) in x {
                    span class=[(*place > 0.97).then_some("last")] style=(format!("left:{:.1}%", 100.0 * place)) { (text) }
                }
            }
        }
    }
}

/// Where a point is in a drawing that is at these places of its axes.
pub fn drawn(x: f64, y: f64) -> (i64, i64) {
    (
        (WIDTH * x).round() as i64,
        (HEIGHT * (1.0 - y)).round() as i64,
    )
}

/// The data of a path from each of these points to the next; empty without any.
pub fn joined(points: &[(i64, i64)]) -> String {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x} {y}")).collect();
    match points.is_empty() {
        true => String::new(),
        false => format!("M{}", points.join("L")),
    }
}

fn vertical(place: f64, class: &str) -> Markup {
    html! { path class=(class) d=(format!("M{:.0} 0V{HEIGHT}", WIDTH * place)) {} }
}

/// The data of two paths.
#[derive(Debug, Default, PartialEq)]
struct Path {
    line: String,
    dots: String,
}

fn path(line: &Line, x: &Axis, y: &Axis, budget: usize, may_have_dots: bool) -> Path {
    let place = |point: &(f64, f64)| {
        let (x, y) = (x.place(point.0), y.place(point.1));
        y.is_finite().then(|| drawn(x, y))
    };
    let places: Vec<Option<(i64, i64)>> = line.points.iter().map(place).collect();
    let dots = match line.points.len() {
        // A line of one point cannot be seen.
        ..=1 => places.iter().flatten().map(dot).collect(),
        ..=DOTS if may_have_dots => places.iter().flatten().map(dot).collect(),
        _ => String::new(),
    };
    let mut data = String::new();
    let mut before: Option<(i64, i64)> = None;
    for place in thinned(&places, budget) {
        match (before, place) {
            (_, None) => {}
            (None, Some((x, y))) => data += &format!("M{x} {y}l0 0"),
            (Some((x, y)), Some(next)) if (x, y) == next => {}
            (Some((x, y)), Some(next)) => {
                let (right, down) = (next.0 - x, next.1 - y);
                let space = if down < 0 { "" } else { " " };
                data += &format!(" {right}{space}{down}");
            }
        }
        before = place;
    }
    Path { line: data, dots }
}

/// A dot of the width of a line's ends.
pub fn dot((x, y): &(i64, i64)) -> String {
    format!("M{x} {y}h0")
}

/// Of points in the order of x at most about so many, that look the same: of each part of the width the first, the lowest, the
/// highest and the last. None is a gap; it stays where a part has no point.
fn thinned(places: &[Option<(i64, i64)>], budget: usize) -> Vec<Option<(i64, i64)>> {
    if places.len() <= budget {
        return places.to_vec();
    }
    let parts = (budget / 4).max(1);
    let mut thinned = Vec::with_capacity(4 * parts);
    for part in 0..parts {
        let part = &places[part * places.len() / parts..(part + 1) * places.len() / parts];
        let finite = || {
            part.iter()
                .enumerate()
                .filter_map(|(at, place)| Some((at, (*place)?)))
        };
        let chosen = [
            finite().next(),
            finite().min_by_key(|(_, place)| place.1),
            finite().max_by_key(|(_, place)| place.1),
            finite().next_back(),
        ];
        let mut chosen: Vec<(usize, (i64, i64))> = chosen.into_iter().flatten().collect();
        chosen.sort_unstable();
        chosen.dedup();
        match chosen.is_empty() {
            true => thinned.push(None),
            false => thinned.extend(chosen.into_iter().map(|(_, place)| Some(place))),
        }
    }
    thinned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart<'static> {
        Chart {
            title: "loss",
            text: String::new(),
            extreme: Extreme::Lowest,
            lines: vec![Line {
                name: "<run>".to_owned(),
                colour: Colour::of(0),
                points,
            }],
            resumed: vec![1.0],
        }
    }

    fn html(points: Vec<(f64, f64)>) -> String {
        chart(points).html().unwrap().into_string()
    }

    #[test]
    fn chart_has_a_line_a_dot_for_each_of_few_points_and_a_legend() {
        let html = html(vec![(0.0, 2.0), (1.0, 1.0), (2.0, 1.5)]);
        // Edges of 4 % above and below.
        assert!(html.contains(r#"d="M0 22l0 0 750 556 750-278""#), "{html}");
        assert!(
            html.contains(r#"d="M0 22h0M750 578h0M1500 300h0""#),
            "{html}"
        );
        assert!(
            html.contains("&lt;run&gt; <small>lowest 1.000 at step 1, last 1.500 at step 2"),
            "{html}"
        );
        assert!(html.contains(r#"class="resumed" d="M750 0V600""#), "{html}");
    }

    #[test]
    fn chart_of_no_point_is_none_and_of_one_is_a_dot() {
        assert!(chart(Vec::new()).html().is_none());
        let html = html(vec![(7.0, 0.5)]);
        assert!(html.contains(r#"d="M750 300h0""#), "{html}");
        assert!(html.contains("0.500 at step 7<"), "{html}");
    }

    #[test]
    fn values_that_are_not_finite_are_gaps_and_counted() {
        let points = [1.0, f64::NAN, 2.0, f64::INFINITY, 1.0];
        let points = (0..).map(f64::from).zip(points).collect();
        let html = html(points);
        assert_eq!(html.matches("l0 0").count(), 3, "{html}");
        assert!(
            html.contains(
                "2 of the values are NaN or infinite and not drawn, the first at step 1."
            ),
            "{html}"
        );
        let none = html_of_nan();
        assert!(none.contains("No value is finite"), "{none}");
        assert!(!none.contains("<svg"), "{none}");
    }

    fn html_of_nan() -> String {
        html(vec![(0.0, f64::NAN), (1.0, f64::NAN)])
    }

    #[test]
    fn curve_of_many_points_keeps_its_peaks_and_takes_few_bytes() {
        let point = |step: u32| {
            let peak = if step == 77_777 { 9.0 } else { 0.0 };
            (f64::from(step), peak + f64::from(step % 7))
        };
        let html = html((0..100_000).map(point).collect());
        assert!(html.len() < 12_000, "{} bytes", html.len());
        let places: Vec<_> = (0..100_000)
            .map(|step| Some((step, (step == 77_777) as i64)))
            .collect();
        let kept = thinned(&places, 1200);
        assert!(kept.len() <= 1200 && kept.contains(&Some((77_777, 1))));
        assert_eq!((kept[0], kept[kept.len() - 1]), (places[0], places[99_999]));
    }

    #[test]
    fn gap_stays_where_a_part_has_no_point() {
        let places: Vec<_> = (0..1000)
            .map(|x| (!(400..600).contains(&x)).then_some((x, 1)))
            .collect();
        let kept = thinned(&places, 40);
        assert_eq!(kept.iter().filter(|place| place.is_none()).count(), 2);
    }
}

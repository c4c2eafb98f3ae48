//! The layout of the Custom Scalars tab: which curves share a chart.

use super::record::message;
use tensorboard_proto::layout;

/// A foldable group of charts.
#[derive(Clone, Copy, Debug)]
pub struct Category<'a> {
    /// Its heading. TensorBoard joins the layouts of several runs by it.
    pub title: &'a str,
    /// Its charts, from left to right.
    pub charts: &'a [Chart<'a>],
}

/// One chart with the curves of several tags, of every selected run.
#[derive(Clone, Copy, Debug)]
pub struct Chart<'a> {
    /// Its heading, unique in the category.
    pub title: &'a str,
    /// The tags in it. TensorBoard takes them for regular expressions, and draws nothing in a chart that has one
    /// with brackets.
    pub tags: &'a [&'a str],
}

/// The tag under which TensorBoard looks for a layout.
/// <https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/plugins/custom_scalar/metadata.py>
pub(super) const TAG: &str = "custom_scalars__config__";

/// The message that TensorBoard reads.
pub(super) fn encode(categories: &[Category]) -> Vec<u8> {
    let mut layout = layout::Layout::new();
    layout.set_category(categories.iter().map(category).collect());
    message(&layout)
}

fn category(of: &Category) -> layout::Category {
    let mut category = layout::Category::new();
    category.set_title(of.title.into());
    category.set_chart(of.charts.iter().map(chart).collect());
    category
}

fn chart(of: &Chart) -> layout::Chart {
    let mut chart = layout::Chart::new();
    chart.set_title(of.title.into());
    // TensorBoard matches from a tag's beginning, but not to its end.
    let tags = of.tags.iter().map(|tag| format!("{tag}$")).collect();
    chart.mut_multiline().set_tag(tags);
    chart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_categories_of_charts_of_tags() {
        let charts = [Chart {
            title: "b",
            tags: &["c", "d"],
        }];
        let bytes = encode(&[Category {
            title: "a",
            charts: &charts,
        }]);
        // Fields by number: Layout.category 2; title 1, chart 2; title 1, multiline 2; tag 1.
        assert_eq!(
            bytes,
            b"\x12\x12\x0a\x01a\x12\x0d\x0a\x01b\x12\x08\x0a\x02c$\x0a\x02d$"
        );
    }
}

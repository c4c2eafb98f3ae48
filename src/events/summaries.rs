//! What one step has to show, gathered into one event: curves, distributions, pictures, texts.

use super::histogram::Histogram;
use super::hparams::{self, SessionStatus};
use super::layout::{self, Category};
use super::pr_curve::{PLUGIN, ROWS, mean, pr_curve};
use super::record::message;
use super::tag::{DataClass, Tag};
use super::{tags, tensor};
use image::RgbImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use std::time::{SystemTime, UNIX_EPOCH};
use tensorboard_proto::event::Event;
use tensorboard_proto::plugin_pr_curve::PrCurvePluginData;
use tensorboard_proto::summary::{HistogramProto, Summary_Image, Summary_Value};
use tensorboard_proto::tensor::TensorProto;

/// The summaries of one step, all with the same wall time.
///
/// Within a file, steps should not decrease: the fast reader drops what a smaller step makes look
/// rewritten.
///
/// ```text
/// writer.write(Summaries::at(100).scalar(&loss, 4.6).histogram(&weights, &values));
/// ```
pub struct Summaries {
    event: Event,
}

impl Summaries {
    /// No summaries yet, of `step`, taken now.
    pub fn at(step: u64) -> Self {
        Self::at_time(step, wall_time())
    }

    /// As [`Summaries::at`], taken at `wall_time`, in seconds since 1970.
    pub fn at_time(step: u64, wall_time: f64) -> Self {
        Summaries {
            event: event(step, wall_time),
        }
    }

    /// These summaries and those of an earlier event of the step that they do not have, at the time of that one. How a
    /// session ended, it no longer says.
    pub(super) fn over(self, earlier: Event) -> Self {
        let mut event = earlier;
        let mut values = event.take_summary().take_value().into_vec();
        let new = self.event.get_summary().get_value();
        let replaced = |tag: &str| new.iter().any(|value| value.get_tag() == tag);
        values.retain(|value| !replaced(value.get_tag()) && value.get_tag() != hparams::END_TAG);
        values.extend_from_slice(new);
        event.mut_summary().set_value(values.into());
        Summaries { event }
    }

    /// One point of a curve. TensorBoard keeps 32 bits of it and marks NaN and infinities.
    pub fn scalar(&mut self, tag: &Tag, value: impl Into<f64>) -> &mut Self {
        let mut point = Summary_Value::new();
        point.set_simple_value(value.into() as f32);
        self.add(point, tag, "scalars", Vec::new(), DataClass::Scalar)
    }

    /// The distribution of `values`, in any order. NaN and infinities belong to no bucket: where there
    /// are any, their number becomes a scalar, `<tag>/nonfinite`. Without a finite value there is no
    /// histogram.
    pub fn histogram(&mut self, tag: &Tag, values: &[f32]) -> &mut Self {
        let h = Histogram::of(values);
        if h.num > 0 {
            let mut histogram = HistogramProto::new();
            histogram.set_min(h.min);
            histogram.set_max(h.max);
            histogram.set_num(h.num as f64);
            histogram.set_sum(h.sum);
            histogram.set_sum_squares(h.sum_squares);
            histogram.set_bucket_limit(h.limits);
            histogram.set_bucket(h.counts);
            let mut value = Summary_Value::new();
            value.set_histo(histogram);
            self.add(value, tag, "histograms", Vec::new(), DataClass::Tensor);
        }
        if h.nonfinite > 0 {
            let count = tags::NONFINITE.of(tag.name());
            self.scalar(&count, h.nonfinite as f64);
        }
        self
    }

    /// A picture, kept as PNG. One without pixels is left out.
    pub fn image(&mut self, tag: &Tag, picture: &RgbImage) -> &mut Self {
        let Some(png) = png(picture) else {
            return self;
        };
        let mut image = Summary_Image::new();
        image.set_width(i32::try_from(picture.width()).unwrap_or(i32::MAX));
        image.set_height(i32::try_from(picture.height()).unwrap_or(i32::MAX));
        image.set_colorspace(RGB);
        image.set_encoded_image_string(png);
        let mut value = Summary_Value::new();
        value.set_image(image);
        self.add(value, tag, "images", Vec::new(), DataClass::BlobSequence)
    }

    /// The mean over several decisions, each with its scores and whether yes is right, of what [`Summaries::pr_curve`]
    /// shows of each.
    pub fn mean_pr_curve(
        &mut self,
        tag: &Tag,
        decisions: &[(Vec<f32>, Vec<bool>)],
        thresholds: usize,
    ) -> &mut Self {
        let thresholds = thresholds.max(2);
        let curves = decisions.iter();
        let curves = curves.map(|(scores, truth)| pr_curve(scores, truth, thresholds));
        let rows = mean(&curves.collect::<Vec<_>>(), ROWS * thresholds);
        self.add_pr_curve(tag, rows, thresholds)
    }

    /// Precision and recall of a yes-or-no decision at `thresholds` (at least 2; TensorBoard's default is
    /// 201) evenly spaced values of its score. `scores` of any cases, in [0, 1] (others are clamped, NaN is
    /// left out), and for each whether yes is right.
    pub fn pr_curve(
        &mut self,
        tag: &Tag,
        scores: &[f32],
        is_positive: &[bool],
        thresholds: usize,
    ) -> &mut Self {
        let thresholds = thresholds.max(2);
        let rows = pr_curve(scores, is_positive, thresholds);
        self.add_pr_curve(tag, rows, thresholds)
    }

    fn add_pr_curve(&mut self, tag: &Tag, rows: Vec<f32>, thresholds: usize) -> &mut Self {
        let mut data = PrCurvePluginData::new();
        data.set_num_thresholds(u32::try_from(thresholds).unwrap_or(u32::MAX));
        let tensor = tensor::floats(&[ROWS, thresholds], rows);
        self.add_tensor(tensor, tag, PLUGIN, message(&data))
    }

    /// A text in Markdown, for the Text tab.
    pub fn text(&mut self, tag: &Tag, markdown: &str) -> &mut Self {
        // The Text plugin wants a string tensor of shape [1].
        let tensor = tensor::string(&[1], markdown.into());
        self.add_tensor(tensor, tag, "text", Vec::new())
    }

    /// The layout of the Custom Scalars tab. Once a run is enough, at step 0; TensorBoard joins those of
    /// several runs.
    pub fn layout(&mut self, categories: &[Category]) -> &mut Self {
        let tensor = tensor::string(&[], layout::encode(categories));
        self.add_tensor(tensor, &Tag::new(layout::TAG), "custom_scalars", Vec::new())
    }

    /// The end of the session that the HParams tab lists for the directory ([`super::list_session`]). TensorBoard
    /// keeps the first that it reads.
    pub fn end_session(&mut self, status: SessionStatus) -> &mut Self {
        let time = self.event.get_wall_time();
        self.session(hparams::END_TAG, hparams::end(status, time))
    }

    /// A session's beginning or end, for the HParams tab. All of it is in the plugin's `content`; the tensor
    /// is only there because a value needs one.
    pub(super) fn session(&mut self, tag: &str, content: Vec<u8>) -> &mut Self {
        let tensor = tensor::floats(&[0], Vec::new());
        self.add_tensor(tensor, &Tag::new(tag), "hparams", content)
    }

    /// The event that carries all of it.
    pub(super) fn event(&self) -> &Event {
        &self.event
    }

    fn add_tensor(
        &mut self,
        tensor: TensorProto,
        tag: &Tag,
        plugin: &str,
        content: Vec<u8>,
    ) -> &mut Self {
        let mut value = Summary_Value::new();
        value.set_tensor(tensor);
        self.add(value, tag, plugin, content, DataClass::Tensor)
    }

    /// Metadata goes with every value, not only with a tag's first: then it does not matter which event
    /// of a tag a purge, a dropped event or a new file makes the first.
    fn add(
        &mut self,
        mut value: Summary_Value,
        tag: &Tag,
        plugin: &str,
        content: Vec<u8>,
        class: DataClass,
    ) -> &mut Self {
        value.set_tag(tag.name().into());
        value.set_metadata(tag.metadata(plugin, content, class));
        self.event.mut_summary().mut_value().push(value);
        self
    }
}

/// The picture as a PNG of few bytes; none without pixels. Rows of magnified pixels repeat the one above them, which the
/// filter makes zeros of; drawn lines and letters are smaller without.
fn png(picture: &RgbImage) -> Option<Vec<u8>> {
    let filters = [FilterType::NoFilter, FilterType::Up];
    let encoded = filters.into_iter().filter_map(|filter| {
        let mut png = Vec::new();
        let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Best, filter);
        picture.write_with_encoder(encoder).ok()?;
        Some(png)
    });
    encoded.min_by_key(Vec::len)
}

/// Code of red, green and blue among an image summary's colour spaces.
/// <https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/compat/proto/summary.proto>
const RGB: i32 = 3;

/// An event of `step` without content. Steps are signed in the format.
pub(super) fn event(step: u64, wall_time: f64) -> Event {
    let mut event = Event::new();
    event.set_wall_time(wall_time);
    event.set_step(i64::try_from(step).unwrap_or(i64::MAX));
    event
}

/// Seconds since 1970; 0 on a clock before that.
pub(super) fn wall_time() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(summaries: &Summaries) -> Vec<&str> {
        let values = summaries.event().get_summary().get_value();
        values.iter().map(|value| value.get_tag()).collect()
    }

    #[test]
    fn event_holds_all_summaries_of_a_step() {
        let mut summaries = Summaries::at(7);
        summaries
            .scalar(&Tag::new("loss"), 0.5f32)
            .histogram(&Tag::new("weights"), &[1.0, 2.0])
            .text(&Tag::new("spec"), "*text*");
        assert_eq!(tags(&summaries), ["loss", "weights", "spec"]);
        assert_eq!(summaries.event().get_step(), 7);
        let values = summaries.event().get_summary().get_value();
        assert_eq!(values[0].get_simple_value(), 0.5);
        assert_eq!(values[1].get_histo().get_num(), 2.0);
        assert_eq!(
            values[2].get_tensor().get_string_val(),
            [b"*text*".to_vec()]
        );
    }

    #[test]
    fn image_is_a_png_with_its_size() {
        let picture = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 200]));
        let mut summaries = Summaries::at(0);
        summaries.image(&Tag::new("images/image/0"), &picture);
        summaries.image(&Tag::new("empty"), &RgbImage::new(0, 4));
        assert_eq!(tags(&summaries), ["images/image/0"]);
        let image = summaries.event().get_summary().get_value()[0].get_image();
        assert_eq!((image.get_width(), image.get_height()), (3, 2));
        assert_eq!(image.get_colorspace(), 3);
        let decoded = image::load_from_memory(image.get_encoded_image_string()).unwrap();
        assert_eq!(decoded.into_rgb8(), picture);
    }

    #[test]
    fn pr_curve_is_a_tensor_whose_metadata_counts_the_thresholds() {
        let mut summaries = Summaries::at(0);
        let tag = Tag::new("cat");
        summaries.pr_curve(&tag, &[0.5], &[true], 3);
        // With fewer than two there would be no distance between thresholds.
        summaries.pr_curve(&tag, &[0.5], &[true], 0);
        for (value, thresholds) in summaries
            .event()
            .get_summary()
            .get_value()
            .iter()
            .zip([3, 2])
        {
            let data = value.get_metadata().get_plugin_data();
            assert_eq!(data.get_plugin_name(), "pr_curves");
            assert_eq!(data.get_content(), [0x10, thresholds]);
            let rows = value.get_tensor().get_float_val();
            assert_eq!(rows.len(), 6 * usize::from(thresholds));
        }
    }

    #[test]
    fn nonfinite_values_are_counted_beside_the_histogram() {
        let mut some = Summaries::at(1);
        some.histogram(&Tag::new("w"), &[1.0, f32::NAN, f32::INFINITY]);
        assert_eq!(tags(&some), ["w", "w/nonfinite"]);
        let values = some.event().get_summary().get_value();
        assert_eq!(values[0].get_histo().get_num(), 1.0);
        assert_eq!(values[1].get_simple_value(), 2.0);

        let mut all = Summaries::at(1);
        all.histogram(&Tag::new("w"), &[f32::NAN]);
        assert_eq!(tags(&all), ["w/nonfinite"]);
    }
}

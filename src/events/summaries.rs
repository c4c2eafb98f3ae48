//! What one step has to show: scalars, histograms and text, gathered into one event.

use super::histogram::Histogram;
use super::tag::{DataClass, Tag};
use protobuf::RepeatedField;
use std::time::{SystemTime, UNIX_EPOCH};
use tensorboard_proto::event::Event;
use tensorboard_proto::summary::{Summary, Summary_Value};
use tensorboard_proto::tensor::TensorProto;
use tensorboard_proto::tensor_shape::{TensorShapeProto, TensorShapeProto_Dim};
use tensorboard_proto::types::DataType;

/// The summaries of one step, all with the same wall time.
///
/// Within a file, steps should not decrease: the fast reader drops what a smaller step makes look
/// rewritten.
///
/// ```ignore
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
    pub(super) fn at_time(step: u64, wall_time: f64) -> Self {
        Summaries {
            event: event(step, wall_time),
        }
    }

    /// One point of a curve. TensorBoard keeps 32 bits of it and marks NaN and infinities.
    pub fn scalar(&mut self, tag: &Tag, value: impl Into<f64>) -> &mut Self {
        let summary = tensorboard_rs::summary::scalar(tag.name(), value.into() as f32);
        self.add(summary, tag, "scalars", DataClass::Scalar)
    }

    /// The distribution of `values`, in any order. NaN and infinities belong to no bucket: where there
    /// are any, their number becomes a scalar, `<tag>/nonfinite`. Without a finite value there is no
    /// histogram.
    pub fn histogram(&mut self, tag: &Tag, values: &[f32]) -> &mut Self {
        let h = Histogram::of(values);
        if h.num > 0 {
            let summary = tensorboard_rs::summary::histogram_raw(
                tag.name(),
                h.min,
                h.max,
                h.num as f64,
                h.sum,
                h.sum_squares,
                &h.limits,
                &h.counts,
            );
            self.add(summary, tag, "histograms", DataClass::Tensor);
        }
        if h.nonfinite > 0 {
            let count = Tag::new(format!("{}/nonfinite", tag.name())).description(
                "Values that are NaN or infinite and therefore not in the histogram. \
                 No point means none.",
            );
            self.scalar(&count, h.nonfinite as f64);
        }
        self
    }

    /// A text in Markdown, for the Text tab.
    pub fn text(&mut self, tag: &Tag, markdown: &str) -> &mut Self {
        // The Text plugin wants a string tensor of shape [1].
        let mut dim = TensorShapeProto_Dim::new();
        dim.set_size(1);
        let mut shape = TensorShapeProto::new();
        shape.set_dim(RepeatedField::from_vec(vec![dim]));
        let mut tensor = TensorProto::new();
        tensor.set_dtype(DataType::DT_STRING);
        tensor.set_tensor_shape(shape);
        tensor.set_string_val(RepeatedField::from_vec(vec![markdown.as_bytes().to_vec()]));
        let mut value = Summary_Value::new();
        value.set_tag(tag.name().into());
        value.set_tensor(tensor);
        let mut summary = Summary::new();
        summary.mut_value().push(value);
        self.add(summary, tag, "text", DataClass::Tensor)
    }

    /// The event that carries all of it.
    pub(super) fn event(&self) -> &Event {
        &self.event
    }

    /// Metadata goes with every value, not only with a tag's first: then it does not matter which event
    /// of a tag a cut, a dropped event or a new file makes the first.
    fn add(
        &mut self,
        mut summary: Summary,
        tag: &Tag,
        plugin: &str,
        class: DataClass,
    ) -> &mut Self {
        for mut value in summary.take_value() {
            value.set_metadata(tag.metadata(plugin, class));
            self.event.mut_summary().mut_value().push(value);
        }
        self
    }
}

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
    fn one_event_holds_all_summaries_of_a_step() {
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
    fn what_no_bucket_can_hold_is_counted_beside_the_histogram() {
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

//! A tag: the name of one series in TensorBoard, with the text shown beside it.

use tensorboard_proto::summary::{SummaryMetadata, SummaryMetadata_PluginData};

/// Name of a series, unique within a run. Slashes group series into cards: `conv1/weights`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    name: String,
    description: String,
}

/// `DataClass` of TensorBoard's summary.proto, how a series is stored. Field 4 of its SummaryMetadata,
/// which the older message of tensorboard-proto lacks.
/// <https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/compat/proto/summary.proto>
#[derive(Clone, Copy)]
pub(super) enum DataClass {
    Scalar = 1,
    Tensor = 2,
    BlobSequence = 3,
}

const DATA_CLASS_FIELD: u32 = 4;

impl Tag {
    /// A tag that TensorBoard shows under its name, without a description.
    pub fn new(name: impl Into<String>) -> Self {
        Tag {
            name: name.into(),
            description: String::new(),
        }
    }

    /// What the series means, in Markdown; behind the info icon of its card.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// The name by itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The metadata of a summary of this series. Both readers keep the first they see of each tag;
    /// the fast one ignores metadata of scalars, histograms and images that names no data class. `content`
    /// is the plugin's own, often empty.
    pub(super) fn metadata(
        &self,
        plugin: &str,
        content: Vec<u8>,
        class: DataClass,
    ) -> SummaryMetadata {
        let mut plugin_data = SummaryMetadata_PluginData::new();
        plugin_data.set_plugin_name(plugin.into());
        plugin_data.set_content(content);
        let mut metadata = SummaryMetadata::new();
        metadata.set_plugin_data(plugin_data);
        metadata.set_summary_description(self.description.clone());
        metadata
            .unknown_fields
            .add_varint(DATA_CLASS_FIELD, class as u64);
        metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protobuf::Message;

    #[test]
    fn metadata_carries_the_data_class_behind_the_known_fields() {
        let tag = Tag::new("loss").description("d");
        let bytes = tag
            .metadata("scalars", Vec::new(), DataClass::Scalar)
            .write_to_bytes()
            .unwrap();
        assert_eq!(bytes, b"\x0a\x09\x0a\x07scalars\x1a\x01d\x20\x01");
    }
}

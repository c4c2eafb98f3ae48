//! Tensors of a summary, for plugins whose data is neither a scalar nor a histogram.

use protobuf::RepeatedField;
use tensorboard_proto::tensor::TensorProto;
use tensorboard_proto::tensor_shape::{TensorShapeProto, TensorShapeProto_Dim};
use tensorboard_proto::types::DataType;

/// 32-bit floats of this shape, row after row.
pub(super) fn floats(sizes: &[usize], values: Vec<f32>) -> TensorProto {
    let mut tensor = TensorProto::new();
    tensor.set_dtype(DataType::DT_FLOAT);
    tensor.set_tensor_shape(shape(sizes));
    tensor.set_float_val(values);
    tensor
}

/// One string; `sizes` is its shape, `[1]` or, for a rank of 0, `[]`.
pub(super) fn string(sizes: &[usize], value: Vec<u8>) -> TensorProto {
    let mut tensor = TensorProto::new();
    tensor.set_dtype(DataType::DT_STRING);
    tensor.set_tensor_shape(shape(sizes));
    tensor.set_string_val(RepeatedField::from_vec(vec![value]));
    tensor
}

/// A shape with these sizes.
pub(super) fn shape(sizes: &[usize]) -> TensorShapeProto {
    let dim = |&size: &usize| {
        let mut dim = TensorShapeProto_Dim::new();
        dim.set_size(integer(size));
        dim
    };
    let mut shape = TensorShapeProto::new();
    shape.set_dim(sizes.iter().map(dim).collect());
    shape
}

/// A size as the format has it, signed.
pub(super) fn integer(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_carries_its_shape() {
        let sizes = |tensor: &TensorProto| -> Vec<i64> {
            let dims = tensor.get_tensor_shape().get_dim();
            dims.iter().map(TensorShapeProto_Dim::get_size).collect()
        };
        let floats = floats(&[2, 1], vec![1.0, 2.0]);
        assert_eq!(sizes(&floats), [2, 1]);
        assert_eq!(floats.get_float_val(), [1.0, 2.0]);
        let string = string(&[], b"x".to_vec());
        assert!(string.has_tensor_shape() && sizes(&string).is_empty());
        assert_eq!(string.get_string_val(), [b"x".to_vec()]);
    }
}

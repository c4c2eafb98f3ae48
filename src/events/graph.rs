//! A computation as the Graphs tab draws it: operations, the tensors between them and their shapes.

use super::record::message;
use super::tensor::{integer, shape};
use tensorboard_proto::attr_value::AttrValue;
use tensorboard_proto::graph::GraphDef;
use tensorboard_proto::node_def::NodeDef;

/// A graph of operations. TensorBoard folds nodes at the slashes of their names: `conv1/weights` and
/// `conv1/Conv2D` are drawn as one box, `conv1`, until it is opened.
///
/// ```text
/// let mut graph = Graph::new();
/// graph.node("conv1/weights", "VariableV2", &[], &[5, 5, 3, 64]);
/// graph
///     .node("conv1/Conv2D", "Conv2D", &["images", "conv1/weights"], &[128, 24, 24, 64])
///     .attribute("padding", "SAME");
/// writer.graph(&graph);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
}

/// One operation of a [`Graph`].
#[derive(Clone, Debug)]
pub struct Node {
    def: NodeDef,
}

impl Graph {
    /// A graph without nodes.
    pub fn new() -> Self {
        Graph::default()
    }

    /// Add the operation `op` under a name of its own. `inputs` are names of nodes, `^name` for one that only
    /// has to run before; `shape` is that of the operation's result, shown at the lines that leave it.
    pub fn node(&mut self, name: &str, op: &str, inputs: &[&str], shape: &[usize]) -> &mut Node {
        self.nodes.push(Node::new(name, op, inputs, shape));
        let last = self.nodes.len() - 1;
        &mut self.nodes[last]
    }

    /// TensorFlow's GraphDef.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut graph = GraphDef::new();
        graph.set_node(self.nodes.iter().map(|node| node.def.clone()).collect());
        message(&graph)
    }
}

impl Node {
    fn new(name: &str, op: &str, inputs: &[&str], sizes: &[usize]) -> Self {
        let mut shapes = AttrValue::new();
        shapes.mut_list().mut_shape().push(shape(sizes));
        let mut def = NodeDef::new();
        def.set_name(name.into());
        def.set_op(op.into());
        def.set_input(inputs.iter().map(|&input| input.to_owned()).collect());
        // Where TensorBoard looks for the shapes of a node's results.
        def.mut_attr().insert("_output_shapes".into(), shapes);
        Node { def }
    }

    /// A constant of the operation, such as its strides; shown when the node is selected.
    pub fn attribute(&mut self, key: &str, value: impl Into<Attribute>) -> &mut Self {
        self.def.mut_attr().insert(key.into(), value.into().value);
        self
    }
}

/// The value of an attribute: a text, a number or a list of whole numbers.
pub struct Attribute {
    value: AttrValue,
}

impl Attribute {
    fn set(set: impl FnOnce(&mut AttrValue)) -> Self {
        let mut value = AttrValue::new();
        set(&mut value);
        Attribute { value }
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Attribute::set(|value| value.set_s(text.as_bytes().to_vec()))
    }
}

impl From<usize> for Attribute {
    fn from(number: usize) -> Self {
        Attribute::set(|value| value.set_i(integer(number)))
    }
}

/// Kept in 32 bits.
impl From<f64> for Attribute {
    fn from(number: f64) -> Self {
        Attribute::set(|value| value.set_f(number as f32))
    }
}

impl<const N: usize> From<[usize; N]> for Attribute {
    fn from(numbers: [usize; N]) -> Self {
        Attribute::set(|value| value.mut_list().set_i(numbers.map(integer).to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protobuf::Message;

    #[test]
    fn node_has_inputs_shape_and_attributes() {
        let mut graph = Graph::new();
        graph.node("conv1/weights", "VariableV2", &[], &[5, 5, 3, 64]);
        graph
            .node("conv1/Conv2D", "Conv2D", &["x", "conv1/weights"], &[8, 24])
            .attribute("padding", "SAME")
            .attribute("radius", 4usize)
            .attribute("beta", 0.75)
            .attribute("strides", [1usize, 2]);
        let graph = GraphDef::parse_from_bytes(&graph.encode()).unwrap();
        let [weights, conv] = graph.get_node() else {
            panic!("got {} nodes, want 2", graph.get_node().len());
        };
        assert!(weights.get_input().is_empty());
        assert_eq!((conv.get_name(), conv.get_op()), ("conv1/Conv2D", "Conv2D"));
        assert_eq!(conv.get_input(), ["x", "conv1/weights"]);
        let attributes = conv.get_attr();
        assert_eq!(attributes["padding"].get_s(), b"SAME");
        assert_eq!(attributes["radius"].get_i(), 4);
        assert_eq!(attributes["beta"].get_f(), 0.75);
        assert_eq!(attributes["strides"].get_list().get_i(), [1, 2]);
        let shapes = attributes["_output_shapes"].get_list().get_shape();
        assert_eq!(shapes, [shape(&[8, 24])]);
    }
}

//! Which curves belong together.

use crate::events::{Category, Chart};

/// The Custom Scalars tab: what one looks at together. Tags with brackets are left out, since TensorBoard
/// draws nothing in a chart that has one.
pub const LAYOUT: &[Category] = &[
    Category {
        title: "Training beside evaluation",
        charts: &[
            Chart {
                title: "cross-entropy",
                tags: &[r"cross_entropy$"],
            },
            Chart {
                title: "precision",
                tags: &[r"Precision @ 1$"],
            },
            Chart {
                title: "total loss",
                tags: &[r"total_loss$"],
            },
        ],
    },
    Category {
        title: "Speed",
        charts: &[
            Chart {
                title: "images a second",
                tags: &[r"examples/sec$"],
            },
            Chart {
                title: "milliseconds a step",
                tags: &[r"time/input_ms$", r"time/compute_ms$"],
            },
        ],
    },
    Category {
        title: "Health",
        charts: &[
            Chart {
                title: "norms",
                tags: &[r"norm/gradients$", r"norm/weights$"],
            },
            Chart {
                title: "update to weight",
                tags: &[r"norm/update_to_weight$"],
            },
        ],
    },
];

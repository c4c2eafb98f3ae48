//! Which curves belong together.

use runboard::events::{Category, Chart, tags};

/// The Custom Scalars tab: what one looks at together.
pub const LAYOUT: &[Category] = &[
    Category {
        title: "Training (of augmented images, averaged) beside evaluation",
        charts: &[
            Chart {
                title: "cross-entropy",
                tags: &[tags::CROSS_ENTROPY.name],
            },
            Chart {
                title: "accuracy",
                tags: &[
                    tags::PRECISION_AT_1.name,
                    tags::VALIDATION_PRECISION_AT_1.name,
                    tags::TTA_PRECISION_AT_1.name,
                ],
            },
            Chart {
                title: "total loss",
                tags: &[tags::TOTAL_LOSS.name],
            },
        ],
    },
    Category {
        title: "Speed",
        charts: &[
            Chart {
                title: "images a second",
                tags: &[tags::EXAMPLES_PER_SECOND.name],
            },
            Chart {
                title: "milliseconds a step",
                tags: &[
                    tags::INPUT_TIME.name,
                    tags::COMPUTE_TIME.name,
                    tags::ALL_REDUCE_TIME.name,
                ],
            },
        ],
    },
    Category {
        title: "Health",
        charts: &[
            Chart {
                title: "norms",
                tags: &[tags::GRADIENT_NORM.name, tags::WEIGHT_NORM.name],
            },
            Chart {
                title: "update to weight",
                tags: &[tags::UPDATE_TO_WEIGHT.name],
            },
        ],
    },
];

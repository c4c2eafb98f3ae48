//! Test-time augmentation: the views of an image whose logits are averaged.

use super::augmentation::Augmentation;
use super::format::SIDE;
use crate::spec::{Input, PadMode, Tta};

/// A view of an image, and how much its logits count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Crop and mirroring, nothing else.
    pub augmentation: Augmentation,
    /// The weights of all views of an image sum to 1.
    pub weight: f32,
}

impl View {
    /// Adds this view's share of the logits of images, [n, classes], to those of the views before it; none yet are empty.
    pub fn add(&self, logits: &[f32], mean: &mut Vec<f32>) {
        mean.resize(logits.len(), 0.0);
        let both = mean.iter_mut().zip(logits);
        both.for_each(|(mean, logit)| *mean += self.weight * logit);
    }
}

/// The views that the spec wants; the central crop is the first, and alone without test-time augmentation.
pub fn views(tta: Tta, input: &Input) -> Vec<View> {
    let central = Augmentation::central(input);
    let moved = |rows: i32, columns: i32| Augmentation {
        top: central.top + rows,
        left: central.left + columns,
        pad_mode: PadMode::Reflect, // a crop of the whole image leaves it
        ..central
    };
    let last = (SIDE - input.crop) as i32;
    let at = |top, left| Augmentation {
        top,
        left,
        ..central
    };
    let crops = match tta {
        Tta::None => {
            return vec![View {
                augmentation: central,
                weight: 1.0,
            }];
        }
        Tta::Mirror => vec![(central, 0.5)],
        // KellerJordan/cifar10-airbench, infer_mirror_translate.
        Tta::MirrorTranslate => vec![
            (central, 0.25),
            (moved(-1, -1), 0.125),
            (moved(1, 1), 0.125),
        ],
        // torchvision.transforms.TenCrop.
        Tta::TenCrop => [central, at(0, 0), at(0, last), at(last, 0), at(last, last)]
            .map(|crop| (crop, 0.1))
            .to_vec(),
    };
    let both = crops.into_iter().flat_map(|(crop, weight)| {
        [false, true].map(|mirror| View {
            augmentation: Augmentation { mirror, ..crop },
            weight,
        })
    });
    both.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(tta: Tta, crop: usize) -> Vec<(i32, i32, bool, f32)> {
        let input = Input {
            crop,
            ..Input::default()
        };
        let views = views(tta, &input).into_iter();
        let place = |view: View| {
            let Augmentation {
                top, left, mirror, ..
            } = view.augmentation;
            (top, left, mirror, view.weight)
        };
        views.map(place).collect()
    }

    #[test]
    fn views_are_those_of_airbench_and_torchvision() {
        assert_eq!(places(Tta::None, 24), [(4, 4, false, 1.0)]);
        assert_eq!(
            places(Tta::Mirror, 24),
            [(4, 4, false, 0.5), (4, 4, true, 0.5)]
        );
        assert_eq!(
            places(Tta::MirrorTranslate, 32),
            [
                (0, 0, false, 0.25),
                (0, 0, true, 0.25),
                (-1, -1, false, 0.125),
                (-1, -1, true, 0.125),
                (1, 1, false, 0.125),
                (1, 1, true, 0.125),
            ]
        );
        let corners = [(4, 4), (0, 0), (0, 8), (8, 0), (8, 8)];
        let both = |(top, left)| [false, true].map(|mirror| (top, left, mirror, 0.1));
        assert_eq!(places(Tta::TenCrop, 24), corners.map(both).concat());
    }

    #[test]
    fn logits_of_views_are_averaged_by_their_weights() {
        let mut mean = Vec::new();
        for (view, logits) in views(Tta::Mirror, &Input::default())
            .iter()
            .zip([[1.0, 4.0], [3.0, 0.0]])
        {
            view.add(&logits, &mut mean);
        }
        assert_eq!(mean, [2.0, 2.0]);
    }

    #[test]
    fn view_that_leaves_the_image_is_reflected_whatever_training_pads_with() {
        let input = Input {
            crop: 32,
            ..Input::default()
        };
        for view in &views(Tta::MirrorTranslate, &input)[2..] {
            assert_eq!(view.augmentation.pad_mode, PadMode::Reflect);
        }
    }
}

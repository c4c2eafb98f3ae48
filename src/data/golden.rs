//! The network's input against TensorFlow's, and the distribution of its random parameters.

use super::augmentation::Augmentation;
use super::format::RECORD_BYTES;
use super::images::Images;
use super::preprocessor::{Preprocessor, input_len};
use super::random;
use super::stream::{Batch, BatchStream, Batching, Share};
use crate::reference::{Golden, deviation};
use crate::spec::{Contrast, Flip, Input, Normalize, PadMode, Seed};
use crate::testing::golden::{assert_uniform, path};
use std::sync::Arc;

/// Relative to the image's largest value.
const BOUND: f64 = 1e-4;

fn golden() -> Golden {
    Golden::parse(&std::fs::read(path("input.safetensors")).unwrap()).unwrap()
}

/// Holds `got` to `want` within `bound`; `--nocapture` shows how near it is.
#[track_caller]
fn assert_close(what: &str, got: &[f32], want: &[f64], bound: f64) {
    let deviation = deviation(got, want);
    println!("{what:<48} {deviation:.1e}");
    assert!(
        deviation <= bound,
        "{what}: {deviation:.1e} from the golden values, want at most {bound:.0e}"
    );
}

fn augmented(
    golden: &Golden,
    image: usize,
    augmentation: &Augmentation,
    input: &Input,
) -> Vec<f32> {
    let pixels = golden.get("pixels").unwrap();
    let bytes = pixels.values.len() / pixels.shape[0];
    let bytes: Vec<u8> = (pixels.values[image * bytes..][..bytes].iter())
        .map(|&x| x as u8)
        .collect();
    let mut out = vec![f32::NAN; input_len(input)];
    Preprocessor::new(input, None).apply(augmentation, &bytes, &mut out);
    out
}

#[test]
fn augmented_images_equal_tensorflows() {
    let golden = golden();
    let mut flat = 0;
    for case in golden.numbered("distort").unwrap() {
        let want = |name: &str| &golden.get(&format!("{case}/{name}")).unwrap().values;
        let [image, crop, top, left, mirror, brightness, contrast] = want("draw")[..] else {
            panic!("{case}: an augmentation has 7 numbers");
        };
        let augmentation = Augmentation {
            top: top as i32,
            left: left as i32,
            pad_mode: PadMode::Zero,
            mirror: mirror == 1.0,
            brightness: brightness as f32,
            contrast: contrast as f32,
            cutout: None,
        };
        let standard = Input {
            crop: crop as usize,
            ..Input::default()
        };
        let raw = Input {
            normalize: Normalize::None,
            ..standard.clone()
        };
        let got = augmented(&golden, image as usize, &augmentation, &raw);
        assert_close(&format!("{case}/raw"), &got, want("raw"), BOUND);
        let got = augmented(&golden, image as usize, &augmentation, &standard);
        assert_close(&format!("{case}/exact"), &got, want("exact"), 1e-6);
        // Of a nearly flat image TensorFlow's 32 bits keep less than the bound; nothing to hold on to.
        let exact = golden.get(&format!("{case}/exact")).unwrap();
        if deviation(&exact.floats(), want("standardized")) < BOUND {
            assert_close(
                &format!("{case}/standardized"),
                &got,
                want("standardized"),
                BOUND,
            );
        } else {
            flat += 1;
        }
    }
    assert_eq!(flat, 1);
}

#[test]
fn central_crops_equal_tensorflows_flat_images_included() {
    let golden = golden();
    for crop in [24, 25, 7] {
        let standard = Input {
            crop,
            ..Input::default()
        };
        let raw = Input {
            normalize: Normalize::None,
            ..standard.clone()
        };
        for (name, input, bound) in [
            ("cropped", &raw, 0.0),
            ("standardized", &standard, BOUND),
            ("exact", &standard, 1e-6),
        ] {
            let want = golden.get(&format!("central/{crop}/{name}")).unwrap();
            for (image, want) in want.values.chunks_exact(input_len(input)).enumerate() {
                let got = augmented(&golden, image, &Augmentation::central(input), input);
                assert_close(&format!("central/{crop}/{name}/{image}"), &got, want, bound);
            }
        }
    }
}

/// The augmentation of successive positions, each from its own random stream, as in training.
fn samples(count: u64) -> Vec<Augmentation> {
    let input = Input::default();
    (0..count)
        .map(|position| {
            Augmentation::sample(
                &input,
                &mut random::stream(Seed(9), random::AUGMENTATION, position),
            )
        })
        .collect()
}

#[test]
fn crop_and_mirror_are_uniform_and_independent_of_the_neighbours() {
    let samples = samples(32_400);
    let mut together = vec![0; 9 * 9 * 2];
    let mut successive = vec![0; 9 * 9];
    for sample in &samples {
        together[(sample.top * 9 + sample.left) as usize * 2 + usize::from(sample.mirror)] += 1;
    }
    for pair in samples.chunks_exact(2) {
        successive[(pair[0].top * 9 + pair[1].top) as usize] += 1;
    }
    assert_uniform("row, column, mirror", &together, 161.0, 1.0);
    assert_uniform("row, next row", &successive, 80.0, 1.0);
}

#[test]
fn brightness_and_contrast_are_uniform_and_independent() {
    let samples = samples(20_000);
    let unit = |sample: &Augmentation| {
        let brightness = (f64::from(sample.brightness) + 63.0) / 126.0;
        [brightness, (f64::from(sample.contrast) - 0.2) / 1.6]
    };
    let units: Vec<[f64; 2]> = samples.iter().map(unit).collect();
    let n = units.len() as f64;
    for which in 0..2 {
        let values = || units.iter().map(|unit| unit[which]);
        // Mean 1/2 and variance 1/12, each within four of its standard errors.
        let mean = values().sum::<f64>() / n;
        let variance = values().map(|x| (x - 0.5).powi(2)).sum::<f64>() / n;
        assert!((mean - 0.5).abs() < 4.0 * (1.0 / 12.0 / n).sqrt(), "{mean}");
        assert!((variance - 1.0 / 12.0).abs() < 4.0 * (1.0 / 180.0 / n).sqrt());
        // Out to both ends.
        assert!(values().fold(1.0, f64::min) < 1e-3 && values().fold(0.0, f64::max) > 1.0 - 1e-3);
    }
    let mut together = vec![0; 100];
    let mut with_crop = vec![0; 90];
    for ([brightness, contrast], sample) in units.iter().zip(&samples) {
        let tenth = |unit: f64| ((unit * 10.0) as usize).min(9);
        together[tenth(*brightness) * 10 + tenth(*contrast)] += 1;
        with_crop[tenth(*brightness) * 9 + sample.left as usize] += 1;
    }
    assert_uniform("brightness, contrast", &together, 99.0, 1.0);
    assert_uniform("brightness, column", &with_crop, 89.0, 1.0);
}

#[test]
fn places_in_an_epoch_are_uniform_and_independent_of_the_epoch_before() {
    const COUNT: usize = 10;
    let mut records = vec![0; COUNT * RECORD_BYTES];
    for (label, record) in records.chunks_exact_mut(RECORD_BYTES).enumerate() {
        record[0] = label as u8;
    }
    let input = Input {
        crop: 1,
        flip: Flip::None,
        brightness: 0.0,
        contrast: Contrast {
            lower: 1.0,
            upper: 1.0,
        },
        normalize: Normalize::None,
        ..Input::default()
    };
    let images = Arc::new(Images::from_records(records));
    let batching = Batching {
        size: COUNT,
        drop_last: false,
        share: Share::WHOLE,
    };
    let mut stream =
        BatchStream::<Batch>::start(images, &input, batching, Seed(3), 0, 4, 1).unwrap();
    let mut places = vec![0; COUNT * COUNT];
    let mut moves = vec![0; COUNT * COUNT];
    let mut before: Option<Vec<usize>> = None;
    for _ in 0..2000 {
        let mut now = vec![0; COUNT];
        for (place, &label) in stream.next().unwrap().labels.iter().enumerate() {
            now[label as usize] = place;
            places[label as usize * COUNT + place] += 1;
        }
        for (old, new) in before.iter().flatten().zip(&now) {
            moves[old * COUNT + new] += 1;
        }
        before = Some(now);
    }
    // Rows and columns of such a table have given sums: 9 * 9 degrees of freedom, statistic times 9/10.
    assert_uniform("image, place", &places, 81.0, 0.9);
    assert_uniform("place, next place", &moves, 81.0, 0.9);
}

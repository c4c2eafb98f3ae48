//! Decodes an image file, whole or not at all, and scales it to 32x32.

use super::jpeg;
use crate::data::format::{PIXEL_BYTES, SIDE};
use crate::files::read_small;
use image::codecs::png::PngDecoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, Limits, Rgb, RgbImage,
};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The largest file, in MiB.
const MAX_FILE_MIB: u64 = 256;
/// Memory for the pixels of one decoded image, in MiB: 89 million pixels in colour.
const MAX_DECODED_MIB: u64 = 256;

/// What transparent images are composed on: white.
const BACKGROUND: u32 = 255;

/// The image in a PNG or JPEG file, as the camera's orientation turns it.
///
/// # Errors
/// What is wrong, as in "PATH {error}": it cannot be read, is no image, is damaged, is too large.
pub(super) fn read_image(path: &Path) -> Result<DynamicImage, String> {
    let failed = |error| format!("cannot be read: {error}");
    let mib = fs::metadata(path).map_err(failed)?.len().div_ceil(1 << 20);
    if mib > MAX_FILE_MIB {
        return Err(format!(
            "is too large: a file of {mib} MiB, want at most {MAX_FILE_MIB} MiB"
        ));
    }
    decode(&read_small(path, MAX_FILE_MIB << 20).map_err(failed)?)
}

/// The image in a file's bytes. Errors are as [`read_image`]'s.
pub(in crate::data) fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => decode_png(bytes),
        Ok(ImageFormat::Jpeg) => decode_jpeg(bytes),
        Ok(other) => Err(format!("is a {other:?} image, want PNG or JPEG")),
        Err(_) => Err("is no PNG or JPEG image".into()),
    }
}

fn decode_png(bytes: &[u8]) -> Result<DynamicImage, String> {
    let failed = |error| match error {
        ImageError::Limits(_) => format!("needs more than {MAX_DECODED_MIB} MiB to decode"),
        error => format!("is damaged: {error}"),
    };
    // Before the decoder reserves memory for it, whose error would not tell the size.
    if let Some((width, height, pixel_bytes)) = png_size(bytes) {
        check_size(width, height, pixel_bytes)?;
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_MIB << 20);
    let mut decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.color_type().bytes_per_pixel().into())?;
    let orientation = decoder.orientation().map_err(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Width, height and decoded bytes of a pixel, as a PNG's header has them
/// (<https://www.w3.org/TR/png-3/#11IHDR>):
///
///   bytes 0..16    signature, the chunk's length and name
///   bytes 16..24   width and height, big-endian
///   byte 24        bits of a channel
///   byte 25        colour type: grey, (unused), RGB, palette, grey and alpha, (unused), RGB and alpha
fn png_size(bytes: &[u8]) -> Option<(u32, u32, u64)> {
    let header: &[u8; 10] = bytes.get(16..26)?.try_into().ok()?;
    let [w0, w1, w2, w3, h0, h1, h2, h3, bits, colour] = *header;
    let channels = *[1, 0, 3, 3, 2, 0, 4].get(usize::from(colour))?;
    let channel_bytes = u64::from(bits).div_ceil(8);
    Some((
        u32::from_be_bytes([w0, w1, w2, w3]),
        u32::from_be_bytes([h0, h1, h2, h3]),
        channels * channel_bytes,
    ))
}

fn decode_jpeg(bytes: &[u8]) -> Result<DynamicImage, String> {
    let damaged = |error: DecodeErrors| format!("is damaged: {error}");
    let options = DecoderOptions::default()
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .set_strict_mode(false);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    // Not strict: bytes between the headers are harmless.
    decoder.decode_headers().map_err(damaged)?;
    let info = decoder.info().ok_or("is damaged: no size")?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let (colours, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    check_size(width, height, channels)?;
    // Of four colours at most, which become three.
    let whole = jpeg::check_whole(bytes, 2 * (MAX_DECODED_MIB << 20));
    whole.map_err(|error| format!("is damaged: {error}"))?;
    // Strict: else the decoder fills in grey what is missing or damaged, and says nothing.
    decoder.set_options(
        options
            .set_strict_mode(true)
            .jpeg_set_out_colorspace(colours),
    );
    let mut pixels = vec![0; (u64::from(width) * u64::from(height) * channels) as usize];
    decoder.decode_into(&mut pixels).map_err(damaged)?;
    let image = match channels {
        1 => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    let mut image = image.ok_or("is damaged: fewer pixels than its size")?;
    let orientation = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif));
    image.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Ok(image)
}

fn check_size(width: u32, height: u32, pixel_bytes: u64) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    let mib = pixels.saturating_mul(pixel_bytes).div_ceil(1 << 20);
    match mib <= MAX_DECODED_MIB {
        true => Ok(()),
        false => Err(format!(
            "is too large: {width} x {height} pixels take {mib} MiB of memory, want at most {MAX_DECODED_MIB} MiB; \
             scale it down"
        )),
    }
}

/// What was changed of an image to make it fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes {
    /// It was not square: what is beyond the central square is left out.
    pub cropped: bool,
    /// The square was not 32x32.
    pub scaled: bool,
    /// It was composed on white.
    pub transparent: bool,
}

/// How many images were changed to make them fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChangeCounts {
    cropped: usize,
    scaled: usize,
    transparent: usize,
}

impl ChangeCounts {
    /// Counts what was changed of an image.
    pub fn add(&mut self, changes: Changes) {
        self.cropped += usize::from(changes.cropped);
        self.scaled += usize::from(changes.scaled);
        self.transparent += usize::from(changes.transparent);
    }

    /// What was done to how many of them, in lines; each is called `noun`, such as "image".
    pub fn lines(&self, noun: &str) -> Vec<String> {
        let told = |(count, what)| match count {
            0 => None,
            1 => Some(format!("1 {noun} was {what}")),
            _ => Some(format!("{count} {noun}s were {what}")),
        };
        let all = [
            (self.cropped, "not square: cut to the central square"),
            (self.scaled, "of another size: scaled to 32x32"),
            (self.transparent, "transparent: composed on white"),
        ];
        all.into_iter().filter_map(told).collect()
    }
}

/// Writes the image's central square, scaled to 32x32, as red, green and blue plane; a transparent one is composed on
/// white.
pub(in crate::data) fn write_planes(image: &DynamicImage, out: &mut [u8]) -> Changes {
    let side = SIDE as u32;
    // Cropped before it is scaled: to cover the square, a line of pixels would become 32 times as long.
    let square = image.width().min(image.height());
    let left = (image.width() - square) / 2;
    let top = (image.height() - square) / 2;
    let cropped = image.width() != image.height();
    let mut image = image.crop_imm(left, top, square, square);
    let transparent = image.color().has_alpha() && is_transparent(&image);
    if transparent {
        image = compose(&image).into();
    }
    if square != side {
        image = image.resize_exact(side, side, FilterType::Lanczos3);
    }
    debug_assert_eq!(out.len(), PIXEL_BYTES);
    for (at, pixel) in image.to_rgb8().pixels().enumerate() {
        for (channel, &value) in pixel.0.iter().enumerate() {
            out[channel * SIDE * SIDE + at] = value;
        }
    }
    Changes {
        cropped,
        scaled: square != side,
        transparent,
    }
}

fn is_transparent(image: &DynamicImage) -> bool {
    image.to_rgba8().pixels().any(|pixel| pixel.0[3] < u8::MAX)
}

fn compose(image: &DynamicImage) -> RgbImage {
    let image = image.to_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0;
        let alpha = u32::from(alpha);
        let mix = |value| (u32::from(value) * alpha + BACKGROUND * (255 - alpha) + 127) / 255;
        // Between the value and the background: a byte.
        Rgb([red, green, blue].map(|value| mix(value) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden::path;
    use image::{Rgba, RgbaImage};

    fn picture() -> RgbImage {
        RgbImage::from_fn(24, 16, |x, y| {
            Rgb([x * 37 + y * 11, x * 5 + y * 53, x * y * 7].map(|value| value as u8))
        })
    }

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn changes_of_images_are_counted() {
        let changes = |scaled, transparent| Changes {
            cropped: false,
            scaled,
            transparent,
        };
        let mut counts = ChangeCounts::default();
        assert!(counts.lines("image").is_empty());
        counts.add(changes(true, true));
        counts.add(changes(true, false));
        let want = [
            "2 images were of another size: scaled to 32x32",
            "1 image was transparent: composed on white",
        ];
        assert_eq!(counts.lines("image"), want);
    }

    #[test]
    fn cut_images_are_errors_wherever_they_are_cut() {
        let files = [
            encoded(picture(), ImageFormat::Jpeg),
            encoded(DynamicImage::from(picture()).to_luma8(), ImageFormat::Jpeg),
            // 24x16 pixels as libjpeg-turbo writes them.
            std::fs::read(path("progressive.jpg")).unwrap(),
            std::fs::read(path("restart.jpg")).unwrap(),
            std::fs::read(path("restart-progressive.jpg")).unwrap(),
            encoded(picture(), ImageFormat::Png),
        ];
        for whole in files {
            let want = decode(&whole).unwrap();
            let decoded = |length| decode(&whole[..length]).ok();
            for length in 0..whole.len() {
                // A PNG that only lacks the end behind its pixels has all of them.
                let got = decoded(length);
                assert!(got.is_none_or(|got| got == want), "{length} bytes");
                // As a camera, or a program that salvages files, ends what it could not write.
                let ended = [&whole[..length], &[0xff, 0xd9]].concat();
                let got = decode(&ended).ok();
                assert!(
                    got.is_none_or(|got| got == want),
                    "{length} bytes and an end"
                );
            }
            assert!(decoded(whole.len() / 2).is_none());
            assert!(decoded(whole.len() * 9 / 10).is_none());
        }
    }

    #[test]
    fn jpegs_that_lack_restart_intervals_are_errors() {
        for name in ["restart.jpg", "restart-progressive.jpg"] {
            let whole = std::fs::read(path(name)).unwrap();
            decode(&whole).unwrap();
            let is_restart =
                |&at: &usize| whole[at] == 0xff && matches!(whole[at + 1], 0xd0..=0xd7);
            let restarts: Vec<usize> = (0..whole.len() - 1).filter(is_restart).collect();
            // After 8 of them the numbers begin again.
            for count in [1, 8] {
                let (begin, end) = (restarts[2], restarts[2 + count]);
                let less = [&whole[..begin], &whole[end..]].concat();
                let error = decode(&less).unwrap_err();
                let want = match count {
                    1 => "its restart markers are out of order",
                    _ => "its coded pixels end, or are no code, after ",
                };
                assert!(error.contains(want), "{name}: {error}");
            }
        }
    }

    #[test]
    fn damaged_scans_are_errors_and_not_filled_in_grey() {
        let mut jpeg = encoded(picture(), ImageFormat::Jpeg);
        let scan = jpeg.windows(2).rposition(|pair| pair == [0xff, 0xda]);
        // A marker in the middle of the coded pixels ends the scan.
        let middle = (scan.unwrap() + jpeg.len()) / 2;
        jpeg.splice(middle..middle, [0xff, 0xc4]);
        let error = decode(&jpeg).unwrap_err();
        assert!(error.starts_with("is damaged: "), "{error}");
    }

    #[test]
    fn jpegs_with_zeros_in_the_middle_are_errors() {
        let files = [
            encoded(picture(), ImageFormat::Jpeg),
            std::fs::read(path("progressive.jpg")).unwrap(),
            std::fs::read(path("restart.jpg")).unwrap(),
        ];
        for mut jpeg in files {
            let scan = jpeg.windows(2).position(|pair| pair == [0xff, 0xda]);
            let middle = (scan.unwrap() + jpeg.len()) / 2;
            jpeg[middle..middle + 40].fill(0);
            let error = decode(&jpeg).unwrap_err();
            assert!(error.starts_with("is damaged: "), "{error}");
        }
    }

    #[test]
    fn coded_data_beyond_the_pixels_are_errors() {
        let jpeg = encoded(picture(), ImageFormat::Jpeg);
        let (coded, end) = jpeg.split_at(jpeg.len() - 2);
        let padded = [coded, &[0; 4], end].concat();
        assert_eq!(decode(&padded).unwrap(), decode(&jpeg).unwrap());
        let error = decode(&[coded, b"more", end].concat()).unwrap_err();
        assert_eq!(error, "is damaged: it has more coded data than pixels");
    }

    #[test]
    fn jpegs_with_a_thumbnail_and_bytes_after_the_end_are_whole() {
        let jpeg = encoded(picture(), ImageFormat::Jpeg);
        let thumbnail = [&b"Exif\0\0"[..], &jpeg].concat();
        let length = (thumbnail.len() as u16 + 2).to_be_bytes();
        let segment = [&[0xff, 0xe1], &length[..], &thumbnail].concat();
        let with_thumbnail = [&jpeg[..2], &segment, &jpeg[2..]].concat();
        let want = decode(&jpeg).unwrap();
        assert_eq!(decode(&with_thumbnail).unwrap(), want);
        // A film, with bytes that would begin a scan.
        for more in [&b"\r\n"[..], b"\0\0\0\x18ftypmp42\xff\xda..", &jpeg] {
            assert_eq!(decode(&[&jpeg, more].concat()).unwrap(), want);
        }
        // Its only end-of-image marker is the thumbnail's.
        let cut = &with_thumbnail[..with_thumbnail.len() - 2];
        let error = decode(cut).unwrap_err();
        assert_eq!(error, "is damaged: it ends before its end-of-image marker");
    }

    #[test]
    fn large_images_are_refused_by_size_and_limit() {
        let wanted = "of memory, want at most 256 MiB; scale it down";
        let mut jpeg = encoded(picture(), ImageFormat::Jpeg);
        let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]);
        let size = frame.unwrap() + 5; // behind the marker, the length and the precision
        jpeg[size..size + 4].copy_from_slice(&[0x23, 0x28, 0x2e, 0xe0]); // 9000 rows of 12000
        let want = format!("is too large: 12000 x 9000 pixels take 309 MiB {wanted}");
        assert_eq!(decode(&jpeg).unwrap_err(), want);
        let png = encoded(GrayImage::new(30_000, 10_000), ImageFormat::Png);
        let want = format!("is too large: 30000 x 10000 pixels take 287 MiB {wanted}");
        assert_eq!(decode(&png).unwrap_err(), want);
    }

    #[test]
    fn large_files_are_refused_without_reading_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        let error = crate::testing::heap::within(1 << 20, || read_image(file.path())).unwrap_err();
        assert_eq!(
            error,
            "is too large: a file of 1048576 MiB, want at most 256 MiB"
        );
    }

    /// A PNG of one black line of so many pixels: a few KB.
    fn line(pixels: u32) -> Vec<u8> {
        encoded(GrayImage::new(pixels, 1), ImageFormat::Png)
    }

    #[test]
    fn decoding_takes_bounded_memory_whatever_the_header_claims() {
        let decoded = |bytes: &[u8]| {
            crate::testing::heap::within(64 << 20, || {
                write_planes(&decode(bytes)?, &mut [1; PIXEL_BYTES]);
                Ok::<(), String>(())
            })
        };
        // Scaled until it covers a square of 32 pixels it would have 2 GB.
        decoded(&line(2_000_000)).unwrap();
        let mut huge = line(9);
        huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        let mut crc = flate2::Crc::new();
        crc.update(&huge[12..29]);
        huge[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        let error = decoded(&huge).unwrap_err();
        assert!(error.starts_with("is too large: 65536 x 65536 pixels take 4096 MiB"));
    }

    #[test]
    fn transparent_images_are_composed_on_white() {
        let planes = |image: RgbaImage| {
            let mut planes = [0; PIXEL_BYTES];
            let Changes { transparent, .. } = write_planes(&image.into(), &mut planes);
            (transparent, [planes[0], planes[1024], planes[2048]])
        };
        let plain = |colour| planes(RgbaImage::from_pixel(64, 48, Rgba(colour)));
        assert_eq!(plain([1, 2, 3, 0]), (true, [255, 255, 255]));
        assert_eq!(plain([0, 100, 255, 51]), (true, [204, 224, 255]));
        assert_eq!(plain([1, 2, 3, 255]), (false, [1, 2, 3]));
        // What is beyond the square does not count.
        let mut wide = RgbaImage::from_pixel(64, 32, Rgba([1, 2, 3, 255]));
        wide.put_pixel(0, 0, Rgba([0; 4]));
        assert_eq!(planes(wide), (false, [1, 2, 3]));
    }

    #[test]
    fn changes_of_an_image_are_told() {
        let changes = |width, height| {
            let image = RgbaImage::from_pixel(width, height, Rgba([1, 2, 3, 255]));
            write_planes(&image.into(), &mut [0; PIXEL_BYTES])
        };
        for (width, height, cropped, scaled) in [
            (32, 32, false, false),
            (40, 32, true, false),
            (64, 64, false, true),
            (20, 30, true, true),
        ] {
            let want = Changes {
                cropped,
                scaled,
                transparent: false,
            };
            assert_eq!(changes(width, height), want, "{width} x {height}");
        }
    }

    #[test]
    fn other_formats_are_named() {
        assert_eq!(decode(b"no image").unwrap_err(), "is no PNG or JPEG image");
        assert_eq!(
            decode(b"GIF89a....").unwrap_err(),
            "is a Gif image, want PNG or JPEG"
        );
    }
}

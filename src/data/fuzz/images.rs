//! Random images to import.

use crate::data::format::PIXEL_BYTES;
use crate::data::sources::decode::{decode, write_planes};
use crate::testing::fuzz::{check, edited, pick};
use crate::testing::heap::within;
use flate2::Crc;
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use rand::Rng;
use std::io::Cursor;

const WORDS: &[&[u8]] = &[
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"eXIf",
    b"iCCP",
    b"zTXt",
    b"iTXt",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xc0",
    b"\xff\xc1",
    b"\xff\xc2",
    b"\xff\xc4",
    b"\xff\xda",
    b"\xff\xdb",
    b"\xff\xdd\0\x04",
    b"\xff\xd0",
    b"\xff\xe1\0\x30Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01",
    b"\xff\xeeAdobe",
    b"\xff\xff\xff\xff",
];

/// Sides of an image, in pixels.
const SIDES: [u32; 11] = [
    0,
    1,
    31,
    32,
    33,
    100,
    1 << 14,
    1 << 16,
    1 << 24,
    1 << 31,
    u32::MAX,
];

#[test]
fn images_take_bounded_memory() {
    let colour = RgbImage::from_fn(24, 20, |x, y| Rgb([x as u8 * 9, y as u8 * 11, 77]));
    let kinds = [
        colour.clone().into(),
        GrayImage::from_pixel(40, 3, Luma([9])).into(),
        RgbaImage::from_pixel(5, 5, Rgba([1, 2, 3, 4])).into(),
        DynamicImage::from(colour).to_rgb16().into(),
    ];
    let formats = [ImageFormat::Png, ImageFormat::Jpeg];
    let files: Vec<Vec<u8>> = formats
        .iter()
        .flat_map(|format| kinds.iter().map(move |image| (image, format)))
        .filter_map(|(image, format): (&DynamicImage, _)| {
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, *format).ok()?; // JPEG has neither transparency nor 16 bits
            Some(bytes.into_inner())
        })
        .collect();
    check(300, |rng| {
        let file = pick(rng, &files);
        let mut bytes = edited(rng, &file, WORDS);
        if rng.random_bool(0.3) {
            const SIZE: usize = 16; // of a PNG: behind its signature and the first chunk's length and name
            let size = [pick(rng, &SIDES), pick(rng, &SIDES)]
                .map(u32::to_be_bytes)
                .concat();
            if let Some(field) = bytes.get_mut(SIZE..SIZE + 8) {
                field.copy_from_slice(&size);
            }
        }
        if rng.random_bool(0.8) {
            seal(&mut bytes);
        }
        let mut planes = [0; PIXEL_BYTES];
        within(1 << 30, || {
            if let Ok(image) = decode(&bytes) {
                write_planes(&image, &mut planes);
            }
        });
    });
}

/// Make every chunk's checksum right, so that the decoder looks at what is in it.
fn seal(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let end = at + 8 + length; // behind length, name and data
        if bytes.len() < end + 4 {
            return;
        }
        let mut crc = Crc::new();
        crc.update(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
}

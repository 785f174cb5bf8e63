//! Folders of images: classes, pixels, sizes, and hostile PNG and JPEG files.

use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, RgbImage};
use wgrad::data::{Dataset, ImageFolder, Loader, decode_image};
use wgrad::prelude::*;

use crate::hostile::{Folder, refuses, withstands};

/// An image whose red rises by rows, whose green rises by columns, and whose blue is `blue`.
fn picture(height: u32, width: u32, blue: u8) -> RgbImage {
    RgbImage::from_fn(width, height, |column, row| image::Rgb([row as u8 * 8, column as u8 * 8, blue]))
}

fn png(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 95)).unwrap();
    bytes
}

#[test]
fn images_are_read_by_class() {
    let folder = Folder::new("images");
    refuses(ImageFolder::open(folder.path("."), [4, 6]), &["image: ", "folders of PNG or JPEG images were expected"]);
    refuses(ImageFolder::open("no/such", [4, 6]), &["image: no/such"]);
    for class in ["cat", "dog", "none"] {
        std::fs::create_dir(folder.path(class)).unwrap();
    }
    std::fs::write(folder.path("dog/b.PNG"), png(&picture(4, 6, 9))).unwrap();
    std::fs::write(folder.path("dog/notes.txt"), "no image").unwrap();
    std::fs::write(folder.path("cat/a.jpg"), jpeg(&picture(16, 24, 200))).unwrap();
    let images = ImageFolder::open(folder.path("."), [4, 6]).unwrap();
    assert_eq!((images.len(), images.classes()), (2, &["cat".to_string(), "dog".into(), "none".into()][..]));
    let dog = images.get(1).unwrap();
    assert_eq!((dog.x.dims(), dog.y.to_vec::<i32>().unwrap()), (&[3, 4, 6][..], vec![1]));
    let pixels = dog.x.to_vec::<u8>().unwrap();
    assert_eq!((&pixels[6..9], &pixels[24..27], pixels[48]), (&[8, 8, 8][..], &[0, 8, 16][..], 9));
    let cat = images.get(0).unwrap().x.to_vec::<u8>().unwrap();
    assert!(cat[48..].iter().all(|&blue| blue.abs_diff(200) < 8), "{cat:?}");
    let batch = Loader::new(images.clone(), 2).epoch(&Device::cpu()).next().unwrap();
    assert_eq!((batch.x.dims(), batch.y.to_vec::<i32>().unwrap()), (&[2, 3, 4, 6][..], vec![0, 1]));
    let before = images.files();
    std::fs::write(folder.path("cat/a.jpg"), b"no more").unwrap();
    assert_ne!(images.files(), before);
    refuses(images.get(0), &["a.jpg: a PNG or JPEG image was expected"]);
    refuses(images.get(2), &["sample 2 of 2"]);
    refuses(decode_image("x", &[], [0, 4]), &["images of 0 by 4 pixels"]);
}

#[test]
fn pictures_that_were_saved_are_read() {
    let pixels: Vec<u8> = (0..3 * 4 * 6).map(|k| (k * 3) as u8).collect();
    let png = wgrad::io::png_to_bytes(&Tensor::from_slice(&pixels, [3, 4, 6], &Device::cpu())).unwrap();
    assert_eq!(decode_image("x", &png, [4, 6]).unwrap().to_vec::<u8>().unwrap(), pixels);
}

#[test]
fn mutants_of_images_do_no_harm() {
    let (png, jpeg) = (png(&picture(5, 4, 7)), jpeg(&picture(8, 8, 7)));
    // Decoders have tables and buffers of a few hundred kilobytes whatever the image.
    withstands("mutant.png", &[&png], 8000, |bytes| decode_image("mutant.png", &bytes, [2, 2]));
    withstands("mutant.jpg", &[&jpeg], 8000, |bytes| decode_image("mutant.jpg", &bytes, [2, 2]));
}

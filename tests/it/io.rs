//! Files of tensors: round trips, what PyTorch and NumPy wrote, wrong and hostile files, crashes.

use half::{bf16, f16};
use wgrad::io::{
    Npz, SafeTensors, SafeTensorsWriter, load_npy, npy_from_bytes, npy_to_bytes, png_to_bytes, save_npy, save_npz,
    save_png, save_safetensors, write_atomically,
};
use wgrad::prelude::*;

use crate::hostile::{Folder, refuses, withstands};

fn cpu() -> Device {
    Device::cpu()
}

/// A tensor of every dtype, with awkward shapes and values.
fn every_dtype() -> Vec<(&'static str, Tensor)> {
    let device = &cpu();
    vec![
        ("f32", Tensor::from_slice(&[0.0f32, -0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, 1e-45], [2, 3], device)),
        ("f16", Tensor::from_slice(&[f16::MAX, f16::from_f32(0.1), f16::NAN], [3], device)),
        ("bf16", Tensor::from_slice(&[bf16::MAX, bf16::from_f32(-0.1), bf16::INFINITY], [1, 3, 1], device)),
        ("i32", Tensor::new([i32::MIN, -1, i32::MAX], device)),
        ("u32", Tensor::new([0u32, u32::MAX], device)),
        ("u8", Tensor::from_slice(&[1u8, 2, 3, 4, 255], [5], device)),
        ("bool", Tensor::new([[true], [false], [true]], device)),
        ("scalar", Tensor::new(3.5, device)),
        ("empty", Tensor::zeros([0, 4], device)),
        ("computed", Tensor::new([1.0, 2.0], device) * 3.0),
        ("a \"name\"\n with é", Tensor::new([7], device)),
    ]
}

/// The elements' bits.
fn bits(x: &Tensor) -> Vec<u8> {
    match x.dtype() {
        DType::F32 => x.to_vec::<f32>().unwrap().iter().flat_map(|x| x.to_bits().to_le_bytes()).collect(),
        DType::F16 => x.to_vec::<f16>().unwrap().iter().flat_map(|x| x.to_bits().to_le_bytes()).collect(),
        DType::BF16 => x.to_vec::<bf16>().unwrap().iter().flat_map(|x| x.to_bits().to_le_bytes()).collect(),
        DType::I32 => x.to_vec::<i32>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::U32 => x.to_vec::<u32>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::U8 => x.to_vec::<u8>().unwrap(),
        DType::Bool => x.to_vec::<bool>().unwrap().iter().map(|&x| u8::from(x)).collect(),
    }
}

#[track_caller]
fn same(found: &Tensor, want: &Tensor) {
    assert_eq!((found.dims(), found.dtype()), (want.dims(), want.dtype()));
    assert_eq!(bits(found), bits(want));
}

#[test]
fn safetensors_round_trip() {
    let folder = Folder::new("safetensors");
    let path = folder.path("model.safetensors");
    let tensors = every_dtype();
    let named = tensors.iter().map(|(name, x)| (*name, x));
    save_safetensors(&path, named.clone(), [("format", "pt"), ("note", "a \"b\"\u{1}")]).unwrap();
    let bytes = named.fold(SafeTensorsWriter::new(), |writer, (name, x)| writer.tensor(name, x));
    let bytes = bytes.metadata("note", "a \"b\"\u{1}").metadata("format", "pt").to_bytes().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    for file in [SafeTensors::open(&path).unwrap(), SafeTensors::from_bytes("bytes", bytes).unwrap()] {
        assert_eq!((file.len(), file.names().count()), (tensors.len(), tensors.len()));
        assert_eq!(file.note("note"), Some("a \"b\"\u{1}"));
        for (name, x) in &tensors {
            let info = file.info(name).unwrap();
            assert_eq!((info.shape.dims(), info.dtype), (x.dims(), Some(x.dtype())));
            same(&file.tensor(name, &cpu()).unwrap(), x);
        }
    }
    assert_eq!(folder.names(), ["model.safetensors"]);
}

#[test]
fn safetensors_aligns_and_widens() {
    let steps = Tensor::new([3, -4], &cpu());
    let bytes = SafeTensorsWriter::new()
        .tensor("b", &Tensor::new([true], &cpu()))
        .tensor_as_i64("n", &steps)
        .tensor_as_i64("u", &Tensor::new([u32::MAX], &cpu()))
        .tensor_as_i64("u8", &Tensor::new([255u8], &cpu()))
        .to_bytes()
        .unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(header % 8, 0);
    let file = SafeTensors::from_bytes("x", bytes).unwrap();
    assert_eq!(file.info("n").unwrap().stored, "I64");
    same(&file.tensor("n", &cpu()).unwrap(), &steps);
    same(&file.tensor("u8", &cpu()).unwrap(), &Tensor::new([255], &cpu()));
    refuses(file.tensor("u", &cpu()), &["safetensors: x, byte", "\"u\"", "4294967295 does not fit i32"]);
    refuses(file.tensor("w", &cpu()), &["x: no tensor \"w\""]);
    let x = Tensor::new([1.0], &cpu());
    refuses(SafeTensorsWriter::new().tensor("a", &x).tensor("a", &x).to_bytes(), &["\"a\" is taken"]);
    refuses(SafeTensorsWriter::new().tensor("__metadata__", &x).to_bytes(), &["is taken"]);
    refuses(SafeTensorsWriter::new().tensor_as_i64("a", &x).to_bytes(), &["only integers"]);
    let invalid = x.reshape([2]);
    refuses(SafeTensorsWriter::new().tensor("a", &invalid).to_bytes(), &["reshape"]);
}

/// A file of this header and `n` bytes of elements.
fn file(header: &str, n: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + n, 1);
    bytes
}

#[test]
fn safetensors_says_what_is_wrong() {
    let tensor = |dtype: &str, shape: &str, range: &str| {
        format!("\"x\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{range}}}")
    };
    let ok = tensor("U8", "[4]", "[0,4]");
    let cases: &[(String, usize, &[&str])] = &[
        (String::new(), 0, &["begins with '{'"]),
        ("[]".into(), 0, &["byte 8", "begins with '{'"]),
        ("{".into(), 0, &["byte 9", "was expected"]),
        (format!("{{{ok}}}"), 5, &["4 bytes of tensors, but 5 bytes are there"]),
        (format!("{{{ok}}}"), 3, &["offsets 0..4, but 3 bytes follow the header"]),
        (format!("{{{ok},{ok}}}"), 4, &["\"x\" comes twice"]),
        (format!("{{{}}}", tensor("U9", "[4]", "[0,4]")), 4, &["there is no dtype \"U9\""]),
        (format!("{{{}}}", tensor("F32", "[4]", "[0,4]")), 4, &["[4] takes 16 bytes, but its range has 4"]),
        (format!("{{{}}}", tensor("U8", "[-4]", "[0,4]")), 4, &["a whole number from 0"]),
        (format!("{{{}}}", tensor("U8", "[4]", "[4,0]")), 4, &["offsets 4..0"]),
        (format!("{{{}}}", tensor("U8", "[4]", "[-4,0]")), 4, &["a whole number from 0"]),
        (format!("{{{}}}", tensor("U8", "[4]", "[0,4,5]")), 4, &["two offsets"]),
        (format!("{{{}}}", tensor("U8", "[4]", "[4]")), 4, &["1 offsets"]),
        (format!("{{{}}}", tensor("U8", "[2]", "[2,4]")), 4, &["leaves a hole"]),
        (format!("{{{}}}", tensor("F64", "[4294967296,4294967296]", "[0,0]")), 4, &["more than 2^32 - 1 elements"]),
        (format!("{{{}}}", tensor("U8", "[1,1,1,1,1,1,1,1,4]", "[0,4]")), 4, &["at most 8"]),
        (format!("{{{ok},\"y\":{}}}", &tensor("U8", "[3]", "[1,4]")[4..]), 4, &["overlaps"]),
        ("{\"x\":{\"dtype\":\"U8\"}}".into(), 0, &["dtype, shape and data_offsets"]),
        ("{\"x\":{\"type\":\"U8\"}}".into(), 0, &["\"type\" is no field"]),
        ("{\"__metadata__\":{\"a\":1}}".into(), 0, &["'\"' was expected"]),
        ("{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}".into(), 0, &["comes twice"]),
    ];
    for (header, n, parts) in cases {
        refuses(SafeTensors::from_bytes("m.st", file(header, *n)), &[&["safetensors: m.st, byte"], *parts].concat());
    }
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend([0; 100]);
    refuses(SafeTensors::from_bytes("m.st", huge), &["m.st, byte 0", "at most 100 can be"]);
    refuses(SafeTensors::from_bytes("m.st", vec![1; 7]), &["m.st, byte 0", "8 bytes were expected, but 7 are left"]);
    refuses(SafeTensors::open("no/such.safetensors"), &["safetensors: no/such.safetensors"]);
    // What is known and cannot be held is refused only where it is asked for.
    let other = SafeTensors::from_bytes("m.st", file(&format!("{{{}}}", tensor("F8_E4M3", "[4]", "[0,4]")), 4));
    refuses(other.unwrap().tensor("x", &cpu()), &["F8_E4M3, which no dtype holds"]);
    let bools = SafeTensors::from_bytes(
        "m.st",
        [file(&format!("{{{}}}", tensor("BOOL", "[2]", "[0,2]")), 1), vec![7]].concat(),
    );
    refuses(bools.unwrap().tensor("x", &cpu()), &["m.st, byte", "a bool is 0 or 1, got 7"]);
}

#[test]
fn a_file_that_shrinks_is_an_error() {
    let folder = Folder::new("shrinks");
    let path = folder.path("x.safetensors");
    save_safetensors(&path, [("x", &Tensor::zeros([1000], &cpu()))], [("", ""); 0]).unwrap();
    let open = SafeTensors::open(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(200).unwrap();
    refuses(open.tensor("x", &cpu()), &["x.safetensors", "4000 bytes were expected"]);
}

#[test]
fn npy_round_trip() {
    let folder = Folder::new("npy");
    let path = folder.path("x.npy");
    for (name, x) in every_dtype() {
        if x.dtype() == DType::BF16 {
            refuses(save_npy(&path, &x), &["save_npy", "NumPy has no bf16"]);
            continue;
        }
        save_npy(&path, &x).unwrap();
        assert_eq!((std::fs::read(&path).unwrap().len() - bits(&x).len()) % 64, 0, "{name}");
        same(&load_npy(&path, &cpu()).unwrap(), &x);
    }
}

/// A `.npy` file of this version, header and elements.
fn npy(version: u8, header: &str, elements: &[u8]) -> Vec<u8> {
    let n = header.len();
    let length = if version == 1 { (n as u16).to_le_bytes().to_vec() } else { (n as u32).to_le_bytes().to_vec() };
    [b"\x93NUMPY", &[version, 0][..], &length, header.as_bytes(), elements].concat()
}

#[test]
fn npy_reads_what_numpy_writes() {
    let read = |header: &str, elements: &[u8]| npy_from_bytes("x.npy", &npy(1, header, elements), &cpu());
    let i64s: Vec<u8> = [1i64, -2, 3, 4, 5, 6].iter().flat_map(|x| x.to_le_bytes()).collect();
    let c = read("{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }   \n", &i64s).unwrap();
    same(&c, &Tensor::new([[1, -2, 3], [4, 5, 6]], &cpu()));
    let f = read("{'descr': '<i8', 'fortran_order': True, 'shape': (2, 3), }\n", &i64s).unwrap();
    same(&f, &Tensor::new([[1, 3, 5], [-2, 4, 6]], &cpu()));
    let bytes: Vec<u8> = (0..24).collect();
    let f = read("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3, 4), }", &bytes).unwrap();
    let want = Tensor::from_slice(&bytes, [4, 3, 2], &cpu()).permute([2, 1, 0]);
    same(&f, &want);
    let doubles: Vec<u8> = [0.1f64, f64::NAN, f64::INFINITY].iter().flat_map(|x| x.to_le_bytes()).collect();
    let d = read("{\"descr\":\"=f8\",'shape':(3,),'fortran_order':False}", &doubles).unwrap();
    same(&d, &Tensor::from_slice(&[0.1f32, f32::NAN, f32::INFINITY], [3], &cpu()));
    let scalar = read("{'descr': '<u2', 'fortran_order': False, 'shape': (), }", &[1, 2]).unwrap();
    same(&scalar, &Tensor::new(513, &cpu()));
    for version in [2, 3] {
        let file = npy(version, "{'descr': '|i1', 'fortran_order': False, 'shape': (1,), }", &[0xff]);
        same(&npy_from_bytes("x", &file, &cpu()).unwrap(), &Tensor::new([-1], &cpu()));
    }
}

#[test]
fn npy_says_what_is_wrong() {
    let header = |descr: &str, shape: &str| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}");
    let cases: &[(Vec<u8>, &[&str])] = &[
        (vec![], &["byte 0", "6 bytes of magic were expected, but 0 are left"]),
        (b"\x93NUMPX\x01\x00".to_vec(), &["byte 0", "the magic"]),
        (npy(9, "", &[]), &["byte 6", "version 1, 2 or 3 was expected, got 9"]),
        (npy(1, &header("'<f4'", "(2,)"), &[0; 7]), &["[2] takes 8 bytes, but 7 are left"]),
        (npy(1, &header("'<f4'", "(2,)"), &[0; 9]), &["[2] takes 8 bytes, but 9 are left"]),
        (npy(1, &header("'>f4'", "(1,)"), &[0; 4]), &["big-endian"]),
        (npy(1, &header("'<c8'", "(1,)"), &[0; 8]), &["no dtype holds \"<c8\""]),
        (npy(1, &header("'O'", "(1,)"), &[0; 8]), &["no dtype holds"]),
        (npy(1, &header("[('a', '<f4')]", "(1,)"), &[0; 4]), &["an array of records"]),
        (npy(1, &header("'<f4'", "(-1,)"), &[0; 4]), &["a dimension was expected"]),
        (npy(1, &header("'<f4'", "(99999999999999999999,)"), &[0; 4]), &["a dimension was expected"]),
        (npy(1, &header("'<f8'", "(4294967295, 4294967295)"), &[0; 4]), &["more than 2^32 - 1 elements"]),
        (npy(1, &header("'<f4'", "(1,1,1,1,1,1,1,1,1)"), &[0; 4]), &["at most 8"]),
        (npy(1, "{'shape': (1,)}", &[0; 4]), &["descr, fortran_order and shape"]),
        (npy(1, "{'shape': (1,), 'shape': (1,)}", &[0; 4]), &["\"shape\" comes twice"]),
        (npy(1, "{'fortran_order': 1}", &[]), &["True or False"]),
        (npy(1, "{'descr", &[]), &["a string does not end"]),
        (npy(1, "{'other': 1}", &[]), &["\"other\" is no key"]),
        (npy(1, &header("'<i8'", "(1,)"), &(1i64 << 40).to_le_bytes()), &["1099511627776 does not fit i32"]),
        (npy(1, &header("'<f8'", "(1,)"), &1e300f64.to_le_bytes()), &["does not fit f32"]),
        (npy(1, &header("'|b1'", "(3,)"), &[0, 1, 2]), &["a bool is 0 or 1, got 2"]),
        (npy(2, &" ".repeat(70_000), &[]), &["a header of 70000 bytes"]),
    ];
    for (bytes, parts) in cases {
        refuses(npy_from_bytes("x.npy", bytes, &cpu()), &[&["npy: x.npy, byte"], *parts].concat());
    }
    refuses(load_npy("no/such.npy", &cpu()), &["npy: no/such.npy"]);
}

/// Sizes and colour of a PNG, and its rows, each behind the number of its filter.
fn picture(png: &[u8]) -> ([u8; 13], Vec<u8>) {
    let (magic, mut rest) = png.split_at(8);
    assert_eq!(magic, b"\x89PNG\r\n\x1a\n");
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let n = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        assert_eq!(rest[8 + n..12 + n], crc(&rest[4..8 + n]).to_be_bytes());
        chunks.push((&rest[4..8], &rest[8..8 + n]));
        rest = &rest[12 + n..];
    }
    let [(b"IHDR", header), (b"IDAT", packed), (b"IEND", [])] = chunks[..] else { panic!("{chunks:?}") };
    (header.try_into().unwrap(), miniz_oxide::inflate::decompress_to_vec_zlib(packed).unwrap())
}

#[test]
fn png_has_the_pixels() {
    let grey = Tensor::new([[0.0, 0.5, 1.0], [-3.0, f32::NAN, 7.0]], &cpu());
    let header = [0, 0, 0, 3, 0, 0, 0, 2, 8, 0, 0, 0, 0];
    assert_eq!(picture(&png_to_bytes(&grey).unwrap()), (header, vec![0, 0, 128, 255, 0, 0, 0, 255]));
    assert_eq!(png_to_bytes(&grey.unsqueeze(0)).unwrap(), png_to_bytes(&grey).unwrap());
    let colours = Tensor::from_slice(&[1u8, 2, 3, 4, 5, 6], [3, 2, 1], &cpu());
    let header = [0, 0, 0, 1, 0, 0, 0, 2, 8, 2, 0, 0, 0];
    assert_eq!(picture(&png_to_bytes(&colours).unwrap()), (header, vec![0, 1, 3, 5, 0, 2, 4, 6]));
    assert_eq!(picture(&png_to_bytes(&Tensor::ones([4, 1, 2], &cpu())).unwrap()).0[9], 6);
    let folder = Folder::new("png");
    save_png(folder.path("x.png"), &colours).unwrap();
    assert_eq!(std::fs::read(folder.path("x.png")).unwrap(), png_to_bytes(&colours).unwrap());
}

#[test]
fn png_says_what_is_wrong() {
    let channels = "png: [height, width] or [1, 3 or 4, height, width] is needed, got [2, 4, 4]";
    refuses_operand(png_to_bytes(&Tensor::zeros([2, 4, 4], &cpu())), channels);
    refuses_operand(png_to_bytes(&Tensor::zeros([0, 4], &cpu())), "png: no picture has 0 by 4 pixels");
    let integers = png_to_bytes(&Tensor::new([[1]], &cpu()));
    refuses_operand(integers, "png: floats from 0 to 1 or bytes are needed, got i32");
    assert!(png_to_bytes(&Tensor::zeros([2], &cpu()).reshape([3])).is_err());
    refuses(save_png("no/such/folder/x.png", &Tensor::zeros([2, 2], &cpu())), &["no/such/folder/x.png"]);
}

#[track_caller]
fn refuses_operand(made: wgrad::Result<Vec<u8>>, message: &str) {
    assert_eq!(made.map_err(|error| error.to_string()), Err(message.to_string()));
}

/// An archive with one deflated entry, as NumPy's `savez_compressed` writes it.
fn deflated(contents: &[u8]) -> Vec<u8> {
    let packed = miniz_oxide::deflate::compress_to_vec(contents, 6);
    archive("x.npy", 8, crc(contents), &packed, contents.len() as u32)
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |c, &b| {
        (0..8).fold(c ^ u32::from(b), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}

fn archive(name: &str, method: u16, crc: u32, packed: &[u8], size: u32) -> Vec<u8> {
    let mut shared = Vec::new();
    [20u16, 0, method, 0, 0].iter().for_each(|x| shared.extend(x.to_le_bytes()));
    [crc, packed.len() as u32, size].iter().for_each(|x| shared.extend(x.to_le_bytes()));
    [name.len() as u16, 0].iter().for_each(|x| shared.extend(x.to_le_bytes()));
    let entry = [b"PK\x03\x04", &shared[..], name.as_bytes(), packed].concat();
    let line = [b"PK\x01\x02\x14\x00", &shared[..], &[0; 14], name.as_bytes()].concat();
    let mut end = b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec();
    [line.len() as u32, entry.len() as u32].iter().for_each(|x| end.extend(x.to_le_bytes()));
    [entry, line, end, vec![0, 0]].concat()
}

#[test]
fn npz_round_trip() {
    let folder = Folder::new("npz");
    let path = folder.path("data.npz");
    let tensors: Vec<_> = every_dtype().into_iter().filter(|(_, x)| x.dtype() != DType::BF16).collect();
    save_npz(&path, tensors.iter().map(|(name, x)| (*name, x))).unwrap();
    let file = Npz::open(&path).unwrap();
    assert_eq!(file.names().count(), tensors.len());
    for (name, x) in &tensors {
        same(&file.tensor(name, &cpu()).unwrap(), x);
    }
    let x = Tensor::arange(0, 10_000, 1, &cpu());
    let file = Npz::from_bytes("d.npz", deflated(&npy_to_bytes(&x).unwrap())).unwrap();
    same(&file.tensor("x", &cpu()).unwrap(), &x);
    refuses(save_npz(&path, [("a", &x), ("a", &x)]), &["\"a\" is taken"]);
    refuses(file.tensor("y", &cpu()), &["d.npz: no array \"y\""]);
}

/// The file beside the reference scripts.
fn reference(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn the_reference_libraries_are_read() {
    let (numpy, torch) = (Npz::open(reference("io_numpy.npz")), SafeTensors::open(reference("io_torch.safetensors")));
    let (numpy, torch) = (numpy.unwrap(), torch.unwrap());
    let device = &cpu();
    let tensors = [
        ("f4", Tensor::new([[0.0, 0.25, 0.5], [0.75, 1.0, 1.25]], device)),
        ("f8", Tensor::from_slice(&[0.1, -2.5, f32::INFINITY], [3], device)),
        ("f2", Tensor::from_slice(&[f16::from_f32(1.5), f16::MIN], [2, 1], device)),
        ("i8", Tensor::new([1, i32::MIN, i32::MAX], device)),
        ("u4", Tensor::new([0, u32::MAX], device)),
        ("i1", Tensor::new([-128, 127], device)),
        ("u1", Tensor::new([0u8, 1, 2, 3, 4], device)),
        ("b1", Tensor::new([[true, false, true]], device)),
    ];
    for (name, x) in &tensors {
        same(&numpy.tensor(name, device).unwrap(), x);
        same(&torch.tensor(name, device).unwrap(), x);
    }
    same(&numpy.tensor("scalar", device).unwrap(), &Tensor::new(3.5, device));
    same(&numpy.tensor("empty", device).unwrap(), &Tensor::zeros([0, 4], device));
    same(&numpy.tensor("fortran", device).unwrap(), &Tensor::arange(0, 24, 1, device).reshape([2, 3, 4]));
    let want: Vec<bf16> = [1.0, -2.0, 0.1].map(bf16::from_f32).to_vec();
    same(&torch.tensor("bf16", device).unwrap(), &Tensor::from_vec(want, [3], device));
    assert_eq!(torch.note("format"), Some("pt"));
}

/// Writes what `io_reference.py FOLDER` checks, when WGRAD_IO_OUT names the folder.
#[test]
fn the_reference_libraries_read_ours() {
    let Some(folder) = std::env::var_os("WGRAD_IO_OUT").map(std::path::PathBuf::from) else { return };
    let device = &cpu();
    let (weight, steps) = (Tensor::new([[1.5, -2.0], [0.0, 3.25]], device), Tensor::new([7], device));
    let (flags, half) = (Tensor::new([true, false, true], device), Tensor::new(f16::from_f32(0.5), device));
    let writer = SafeTensorsWriter::new().metadata("format", "pt").tensor_as_i64("steps", &steps);
    let writer = writer.tensor("weight", &weight).tensor("flags", &flags).tensor("half", &half);
    writer.save(folder.join("model.safetensors")).unwrap();
    let tensors = [("steps", &steps), ("weight", &weight), ("flags", &flags), ("half", &half)];
    save_npz(folder.join("data.npz"), tensors).unwrap();
    println!("now: python tests/data/io_reference.py {}", folder.display());
}

#[test]
fn npz_says_what_is_wrong() {
    let contents = npy_to_bytes(&Tensor::zeros([1000], &cpu())).unwrap();
    let packed = miniz_oxide::deflate::compress_to_vec(&contents, 6);
    let read = |bytes: Vec<u8>| Npz::from_bytes("d.npz", bytes).and_then(|file| file.tensor("x", &cpu()));
    let n = contents.len() as u32;
    refuses(read(vec![]), &["npz: d.npz", "no zip archive"]);
    refuses(read(archive("x.npy", 8, 1, &packed, n)), &["d.npz/x", "the length and the CRC"]);
    refuses(read(archive("x.npy", 8, crc(&contents), &packed, n - 1)), &["d.npz/x", "more than"]);
    refuses(read(archive("x.npy", 12, crc(&contents), &packed, n)), &["stored or deflated was expected, got 12"]);
    refuses(read(archive("x.npy", 8, crc(&contents), &packed[..packed.len() - 5], n)), &["end too early"]);
    refuses(read(archive("x.npy", 8, 0, &[0xff; 20], n)), &["broken"]);
    refuses(read(archive("x.npy", 0, crc(b"hello"), b"hello", 5)), &["d.npz/x", "magic"]);
    let bomb = vec![0; 80 << 20];
    let packed = miniz_oxide::deflate::compress_to_vec(&bomb, 6);
    refuses(read(archive("x.npy", 8, 0, &packed, bomb.len() as u32)), &["inflate to more than 67108864 bytes"]);
}

#[test]
fn mutants_of_safetensors_do_no_harm() {
    let tensors = every_dtype();
    let writer = tensors.iter().fold(SafeTensorsWriter::new(), |writer, (name, x)| writer.tensor(*name, x));
    let writer = writer.tensor_as_i64("n", &Tensor::new([3], &cpu())).metadata("a", "b");
    let good = writer.to_bytes().unwrap();
    withstands("mutant.safetensors", &[&good], 16, |bytes| {
        let file = SafeTensors::from_bytes("mutant.safetensors", bytes)?;
        file.names().try_for_each(|name| file.tensor(name, &cpu()).map(drop))
    });
}

#[test]
fn mutants_of_npy_do_no_harm() {
    let good = [
        npy_to_bytes(&Tensor::new([[1.0, 2.0], [3.0, 4.0]], &cpu())).unwrap(),
        npy(1, "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 2), }", &[1; 32]),
        npy(2, "{'descr': '|b1', 'fortran_order': False, 'shape': (), }", &[1]),
    ];
    withstands("mutant.npy", &[&good[0], &good[1], &good[2]], 16, |bytes| npy_from_bytes("mutant.npy", &bytes, &cpu()));
}

#[test]
fn mutants_of_npz_do_no_harm() {
    let folder = Folder::new("npz-mutants");
    let path = folder.path("x.npz");
    let (x, z) = (Tensor::arange(0, 40, 1, &cpu()), Tensor::zeros([2, 3], &cpu()));
    save_npz(&path, [("x", &x), ("z", &z)]).unwrap();
    let (stored, packed) = (std::fs::read(&path).unwrap(), deflated(&npy_to_bytes(&x).unwrap()));
    // Deflate makes at most 1,032 bytes of one.
    withstands("mutant.npz", &[&stored, &packed], 2100, |bytes| {
        let file = Npz::from_bytes("mutant.npz", bytes)?;
        file.names().try_for_each(|name| file.tensor(name, &cpu()).map(drop))
    });
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let folder = Folder::new("atomic");
    let path = folder.path("state");
    write_atomically(&path, |out| out.put(b"old")).unwrap();
    let failed = write_atomically(&path, |out| {
        out.put(&[7; 100_000])?;
        Tensor::zeros([2], &cpu()).reshape([3]).check().map(drop)
    });
    refuses(failed, &["reshape"]);
    assert_eq!((std::fs::read(&path).unwrap(), folder.names()), (b"old".to_vec(), vec!["state".into()]));
    // What a killed process left behind goes with the next write; what looks alike stays.
    std::fs::write(folder.path(".state.0123456789abcdef.tmp"), "half").unwrap();
    std::fs::write(folder.path(".state.mine.tmp"), "mine").unwrap();
    write_atomically(&path, |out| out.put(b"new")).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    assert_eq!(folder.names(), [".state.mine.tmp", "state"]);
    refuses(write_atomically(folder.path("no/such/folder"), |_| Ok(())), &["write: ", "no/such/folder"]);
    refuses(write_atomically("/", |_| Ok(())), &["names no file"]);
}

#[cfg(unix)]
#[test]
fn links_stay_wherever_they_lead() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new("links");
    std::fs::create_dir(folder.path("inner")).unwrap();
    symlink("inner/second", folder.path("first")).unwrap();
    symlink("../state", folder.path("inner/second")).unwrap();
    for text in ["new", "newer"] {
        write_atomically(folder.path("first"), |out| out.put(text.as_bytes())).unwrap();
        assert_eq!(std::fs::read(folder.path("state")).unwrap(), text.as_bytes());
    }
    for link in ["first", "inner/second"] {
        assert!(folder.path(link).is_symlink(), "{link}");
    }
    assert_eq!(folder.names(), ["first", "inner", "state"]);
    symlink("around", folder.path("around")).unwrap();
    let _ = write_atomically(folder.path("around"), |out| out.put(b"x"));
}

#[test]
fn more_arrays_than_an_archive_holds_are_refused() {
    let folder = Folder::new("npz-many");
    let path = folder.path("x.npz");
    let x = Tensor::new([1u8], &cpu());
    x.realize().unwrap();
    let save = |n: usize| save_npz(&path, (0..n).map(|k| (k.to_string(), &x)));
    refuses(save(65_535), &["save_npz: more than 65,534 arrays"]);
    assert_eq!(folder.names().len(), 0);
    save(65_534).unwrap();
    assert_eq!(Npz::open(&path).unwrap().names().count(), 65_534);
}

#[test]
fn writers_at_the_same_time_leave_one_whole_file() {
    let folder = Folder::new("writers");
    let path = folder.path("state");
    std::thread::scope(|scope| {
        for k in 0..8u8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..20 {
                    write_atomically(path, |out| (0..10).try_for_each(|_| out.put(&[k; 5000]))).unwrap();
                }
            });
        }
    });
    let found = std::fs::read(&path).unwrap();
    assert!(found.len() == 50_000 && found.iter().all(|&b| b == found[0]));
    assert_eq!(folder.names(), ["state"]);
}

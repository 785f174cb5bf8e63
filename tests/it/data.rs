//! Readers of datasets: good files, wrong ones, hostile ones, and what DVC notes beside them.

use wgrad::data::{
    Array, Bpe, ByteTokenizer, CifarKind, Csv, CsvOptions, Dataset, FileHash, Subset, TensorDataset, TokenDataset,
    Tokenizer, cifar_from_bytes, idx_from_bytes, mnist, random_split, read_cifar, read_idx,
};
use wgrad::prelude::*;

use crate::hostile::{Folder, peak_of, refuses, replace, withstands};

/// `bytes` as gzip, with a name in the header.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let crc = !bytes.iter().fold(!0u32, |c, &b| {
        (0..8).fold(c ^ u32::from(b), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    });
    let packed = miniz_oxide::deflate::compress_to_vec(bytes, 6);
    let header = b"\x1f\x8b\x08\x08\0\0\0\0\0\x03name\0";
    [&header[..], &packed, &crc.to_le_bytes(), &(bytes.len() as u32).to_le_bytes()].concat()
}

/// An IDX file of bytes.
fn idx(dims: &[u32], elements: &[u8]) -> Vec<u8> {
    let dims_bytes: Vec<u8> = dims.iter().flat_map(|d| d.to_be_bytes()).collect();
    [&[0, 0, 8, dims.len() as u8], &dims_bytes[..], elements].concat()
}

#[test]
fn idx_is_read() {
    for bytes in [idx(&[2, 3], &[1, 2, 3, 4, 5, 6]), gzip(&idx(&[2, 3], &[1, 2, 3, 4, 5, 6]))] {
        let x = idx_from_bytes("x", bytes).unwrap();
        assert_eq!((x.dims(), x.to_vec::<u8>().unwrap()), (&[2, 3][..], vec![1, 2, 3, 4, 5, 6]));
    }
    let halves = idx_from_bytes("x", vec![0, 0, 0x0b, 1, 0, 0, 0, 2, 0xff, 0xfe, 1, 0]).unwrap();
    assert_eq!(halves.to_vec::<i32>().unwrap(), [-2, 256]);
    let double = [&[0, 0, 0x0e, 0][..], &0.5f64.to_be_bytes()].concat();
    assert_eq!(idx_from_bytes("x", double).unwrap().to_vec::<f32>().unwrap(), [0.5]);
    let two_members = [gzip(&idx(&[4], &[1])), gzip(&[2, 3, 4])].concat();
    assert_eq!(idx_from_bytes("x", two_members).unwrap().to_vec::<u8>().unwrap(), [1, 2, 3, 4]);
}

#[test]
fn idx_says_what_is_wrong() {
    let broken_gzip = {
        let mut bytes = gzip(&idx(&[3], &[1, 2, 3]));
        let n = bytes.len();
        bytes[n - 5] ^= 1;
        bytes
    };
    let cases: &[(Vec<u8>, &[&str])] = &[
        (vec![0, 0], &["byte 0", "4 bytes of magic were expected, but 2 are left"]),
        (vec![1, 0, 8, 1], &["byte 0", "a magic of 00 00"]),
        (vec![0, 0, 7, 1], &["byte 0", "a magic of 00 00", "07"]),
        (vec![0, 0, 8, 200], &["byte 3", "at most 8 dimensions are possible, got 200"]),
        (vec![0, 0, 8, 1, 0, 0], &["byte 4", "4 bytes of dimensions"]),
        (idx(&[u32::MAX, u32::MAX], &[]), &["byte 4", "more than 2^32 - 1 elements"]),
        (idx(&[3], &[1, 2]), &["byte 8", "[3] takes 3 bytes, but 2 are left"]),
        (idx(&[3], &[1, 2, 3, 4]), &["byte 8", "[3] takes 3 bytes, but 4 are left"]),
        (gzip(&idx(&[3], &[1, 2, 3]))[..20].to_vec(), &["end too early"]),
        (broken_gzip, &["the CRC and the length of gzip's trailer"]),
        (vec![0x1f, 0x8b, 9, 0], &["gzip's 1f 8b 08 was expected"]),
    ];
    for (bytes, parts) in cases {
        refuses(idx_from_bytes("x.idx", bytes.clone()), &[&["idx: x.idx, byte"], *parts].concat());
    }
    refuses(read_idx("no/such.idx"), &["idx: no/such.idx"]);
}

#[test]
fn mnist_is_found_and_checked() {
    let folder = Folder::new("mnist");
    refuses(mnist(folder.path("."), true), &["train-images-idx3-ubyte or train-images-idx3-ubyte.gz was expected"]);
    std::fs::write(folder.path("train-images-idx3-ubyte.gz"), gzip(&idx(&[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8])))
        .unwrap();
    std::fs::write(folder.path("train-labels.idx1-ubyte"), idx(&[2], &[9, 0])).unwrap();
    let data = mnist(folder.path("."), true).unwrap();
    assert_eq!((data.x().dims(), data.y().to_vec::<i32>().unwrap()), (&[2, 1, 2, 2][..], vec![9, 0]));
    assert_eq!(data.files().len(), 2);
    for (labels, fact) in [
        (idx(&[2], &[9, 10]), "byte 9: a label of 0 to 9"),
        (idx(&[1], &[9]), "labels u8 [2] were expected, got u8 [1]"),
        (idx(&[2, 1], &[1, 2]), "labels u8 [2] were expected"),
    ] {
        std::fs::write(folder.path("train-labels.idx1-ubyte"), labels).unwrap();
        refuses(mnist(folder.path("."), true), &["train-labels.idx1-ubyte", fact]);
    }
}

#[test]
fn cifar_is_read_and_checked() {
    let record = |label: &[u8], pixel: u8| [label, &[pixel; 3072]].concat();
    let folder = Folder::new("cifar");
    let (first, second) = (folder.path("data_batch_1.bin"), folder.path("data_batch_2.bin"));
    std::fs::write(&first, [record(&[3], 7), record(&[9], 8)].concat()).unwrap();
    std::fs::write(&second, gzip(&record(&[0], 9))).unwrap();
    let data = read_cifar(CifarKind::Ten, [&first, &second]).unwrap();
    assert_eq!((data.x().dims(), data.y().to_vec::<i32>().unwrap()), (&[3, 3, 32, 32][..], vec![3, 9, 0]));
    assert_eq!(data.get(2).unwrap().x.to_vec::<u8>().unwrap()[3071], 9);
    let hundred = |kind| cifar_from_bytes(kind, "c", record(&[19, 99], 1)).unwrap().y().to_vec::<i32>().unwrap();
    assert_eq!((hundred(CifarKind::Hundred), hundred(CifarKind::HundredCoarse)), (vec![99], vec![19]));
    let ten = |bytes: Vec<u8>| cifar_from_bytes(CifarKind::Ten, "c.bin", bytes);
    refuses(
        ten([record(&[3], 7), record(&[10], 8)].concat()),
        &["cifar: c.bin, byte 3073", "0 to 9 was expected, got 10"],
    );
    refuses(ten([record(&[3], 7), vec![0]].concat()), &["c.bin, byte 3073", "records of 3073 bytes"]);
    refuses(ten(vec![]), &["c.bin, byte 0", "records of 3073 bytes"]);
}

fn table(text: &str) -> Result<Csv, Error> {
    Csv::from_bytes("t.csv", text.into(), CsvOptions::default())
}

#[test]
fn csv_is_read() {
    let text = "\u{feff}a,b, kind \r\n1, 2.5 ,\"x,\n\"\"y\"\"\"\r\n\r\n-3e2,4,z";
    let found = table(text).unwrap();
    assert_eq!((found.names(), found.rows()), (&["a".to_string(), "b".into(), "kind".into()][..], 2));
    assert_eq!(found.numbers(["b", "a"]).unwrap().to_vec::<f32>().unwrap(), [2.5, 1.0, 4.0, -300.0]);
    assert_eq!(found.cell(0, 2).unwrap(), "x,\n\"y\"");
    assert_eq!((found.cell(0, 3), found.cell(2, 0)), (None, None));
    let (classes, names) = found.classes("kind").unwrap();
    assert_eq!((classes.to_vec::<i32>().unwrap(), names), (vec![0, 1], vec!["x,\n\"y\"".into(), "z".into()]));
    let options = CsvOptions { header: false, delimiter: ';' };
    let found = Csv::from_bytes("t", gzip(b"1;2\n3;4\n"), options).unwrap();
    assert_eq!(found.numbers_in(0..2).unwrap().to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(found.integers("1").unwrap().to_vec::<i32>().unwrap(), [2, 4]);
    let data = found.classification(["0"], "1", 5).unwrap();
    assert_eq!((data.len(), data.files()[0].sha256.len()), (2, 64));
    assert_eq!(found.regression(["0"], ["1"]).unwrap().y().dims(), [2, 1]);
    assert_eq!(table("").unwrap().rows(), 0);
    assert_eq!(table("a,b\n").unwrap().numbers(["a"]).unwrap().dims(), [0, 1]);
}

#[test]
fn csv_says_what_is_wrong() {
    let numbers = |text: &str| table(text).and_then(|table| table.numbers(["a", "b"]));
    let cases: &[(&str, &[&str])] = &[
        ("a,b\n1,2\n3\n", &["byte 8", "line 3: 2 cells were expected, got 1"]),
        ("a,b\n1,2,3\n", &["line 2: 2 cells were expected, got 3"]),
        ("a,b\n1,\"2\n", &["a quoted cell does not end"]),
        ("a,b\n\"1\"x,2\n", &["line 2: text after a cell's closing quote"]),
        ("a,b\n\"1\n\",2\n3,four\n", &["line 4: column 2 (\"b\"): a number was expected, got \"four\""]),
        ("a,b\n1,\n", &["line 2: column 2 (\"b\"): a number was expected, got \"\""]),
        ("a,b\n1,inf\n", &["line 2: column 2", "\"inf\""]),
        ("a,b\n1,1e39\n", &["line 2: column 2", "\"1e39\""]),
        ("a,a\n", &["line 1: the column \"a\" comes twice"]),
        ("a,c\n1,2\n", &["no column \"b\"; there are [\"a\", \"c\"]"]),
    ];
    for (text, parts) in cases {
        refuses(numbers(text), &[&["csv: t.csv"], *parts].concat());
    }
    let whole = |text: &str| table(text).and_then(|table| table.integers("a"));
    refuses(whole("a\n1.5\n"), &["line 2: column 1 (\"a\"): a whole number was expected, got \"1.5\""]);
    refuses(whole("a\n2147483648\n"), &["a whole number"]);
    let classes = |text: &str| table(text).and_then(|table| table.classification(["a"], "a", 3));
    refuses(classes("a\n2\n3\n"), &["line 3: column 1 (\"a\"): a class of 0 to 2 was expected, got \"3\""]);
    refuses(classes("a\n-1\n"), &["line 2", "a class of 0 to 2"]);
    refuses(Csv::from_bytes("t.csv", b"a\n\xff\n".to_vec(), CsvOptions::default()), &["byte 2", "not UTF-8"]);
    refuses(table("a\n1\n").and_then(|table| table.numbers_in(0..2)), &["columns 0..2 of 1"]);
    let options = CsvOptions { header: true, delimiter: '"' };
    refuses(Csv::from_bytes("t.csv", vec![], options), &["is no delimiter"]);
    refuses(Csv::open("no/such.csv", CsvOptions::default()), &["csv: no/such.csv"]);
}

#[test]
fn the_digits_are_read() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits.csv.gz");
    let digits = Csv::open(path, CsvOptions { header: false, ..CsvOptions::default() }).unwrap();
    let data = digits.classification((0..64).map(|k| k.to_string()), "64", 10).unwrap();
    assert_eq!((data.x().dims(), data.y().dims()), (&[1797, 64][..], &[1797][..]));
    let labels = data.y().to_vec::<i32>().unwrap();
    assert_eq!(labels[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!((0..10).all(|digit| labels.iter().filter(|&&label| label == digit).count() > 170));
    let pixels = data.x().to_vec::<f32>().unwrap();
    assert!(pixels.iter().all(|x| (0.0..=16.0).contains(x)));
    let want = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22";
    assert_eq!((data.files()[0].sha256.as_str(), data.files()[0].bytes), (want, 57523));
}

#[test]
fn bytes_and_pairs_come_back() {
    let text = "Wer reitet so spät durch Nacht und Wind?\n\tEs ist der Vater mit seinem Kind; 123 + 4567 = 4690 😀";
    let bpe = Bpe::train(&text.repeat(3), 320);
    assert!(bpe.vocab_size() > 280 && bpe.vocab_size() <= 320);
    assert_eq!(bpe, Bpe::train(&text.repeat(3), 320));
    for text in [text, "", " ", "aaaaaaaaaaaa", "völlig anderer Text\r\n\r\n  x", &"x".repeat(10_000)] {
        let tokens = bpe.encode(text);
        assert_eq!(bpe.decode(&tokens), text);
        assert!(tokens.iter().all(|&token| (token as usize) < bpe.vocab_size()));
        assert_eq!(ByteTokenizer.decode(&ByteTokenizer.encode(text)), text);
    }
    assert!(bpe.encode(text).len() * 3 < text.len() * 2);
    // The first merges of a text in which they can be counted by hand: of "ab" and "bc", three
    // times each, the smaller pair goes first.
    let small = Bpe::train("abc abc abc", 258);
    assert_eq!((small.token(256), small.token(257)), (Some(&b"ab"[..]), Some(&b"abc"[..])));
    assert_eq!((small.token(258), small.decode(&[257, 999])), (None, "abc".into()));
    let folder = Folder::new("bpe");
    bpe.save(folder.path("bpe.json")).unwrap();
    assert_eq!(Bpe::load(folder.path("bpe.json")).unwrap(), bpe);
    let read = |text: &str| Bpe::from_bytes("b.json", text.as_bytes());
    refuses(read("{\"type\":\"bpe\",\"merges\":[[1,300]]}"), &["bpe: b.json, byte", "two tokens below 256"]);
    refuses(read("{\"type\":\"bpe\",\"merges\":[[1]]}"), &["two tokens were expected"]);
    refuses(read("{\"type\":\"wordpiece\",\"merges\":[]}"), &["b.json", "the type \"bpe\""]);
    refuses(read("{\"kind\":1}"), &["\"kind\" is no key"]);
    let doubling: Vec<String> =
        (0..20).map(|k| if k == 0 { "[0,0]".into() } else { format!("[{0},{0}]", 255 + k) }).collect();
    refuses(read(&format!("{{\"type\":\"bpe\",\"merges\":[{}]}}", doubling.join(","))), &["a token of 512 bytes"]);
}

#[test]
fn windows_of_tokens() {
    let tokens: Vec<u32> = (0..10).collect();
    let data = TokenDataset::new(&tokens, 4, 3).unwrap();
    assert_eq!(data.len(), 2);
    assert_eq!(data.get(1).unwrap().y.to_vec::<i32>().unwrap(), [4, 5, 6, 7]);
    refuses(data.get(2), &["window 2 of 2"]);
    refuses(data.get(usize::MAX), &["window"]);
    refuses(TokenDataset::new(&tokens, 10, 1), &["10 tokens have no window of 10 and one more"]);
    refuses(TokenDataset::new(&tokens, 0, 1), &["windows of 0 tokens"]);
    refuses(TokenDataset::new(&[u32::MAX; 3], 1, 1), &["does not fit i32"]);
}

#[test]
fn datasets_of_datasets() {
    let data = || {
        TensorDataset::of_arrays(Array::new(&[0, 10, 20, 30], [4, 1]).unwrap(), Array::new(&[0, 1, 2, 3], [4]).unwrap())
    };
    let (first, rest) = random_split(data().unwrap(), 3, 1).unwrap();
    let mut seen: Vec<i32> = [first.batch(&[0, 1, 2]).unwrap(), rest.batch(&[0]).unwrap()]
        .iter()
        .flat_map(|sample| sample.y.to_vec::<i32>().unwrap())
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3]);
    refuses(random_split(data().unwrap(), 5, 1), &["5 of 4 samples"]);
    refuses(Subset::new(data().unwrap(), [4]), &["sample 4 of 4"]);
    refuses(data().unwrap().get(4), &["sample 4 of 4"]);
    refuses(data().unwrap().batch(&[0, 9]), &["index 9 is out of range for [4, 1]"]);
    let mapped = data().unwrap().map(|sample| Ok(wgrad::data::Sample { x: sample.y.clone(), y: sample.y }));
    assert_eq!(mapped.batch(&[3]).unwrap().x.to_vec::<i32>().unwrap(), [3]);
    let cpu = Device::cpu();
    refuses(TensorDataset::new(&Tensor::zeros([2, 1], &cpu), &Tensor::zeros([3], &cpu)), &["[2, 1]", "[3]"]);
    refuses(TensorDataset::new(&Tensor::zeros([2], &cpu).reshape([3]), &Tensor::zeros([3], &cpu)), &["reshape"]);
    refuses(Array::new(&[1.0f32], [2]), &["1 elements for the shape [2]"]);
    refuses(Array::new(&[1.0f32], [1]).unwrap().to_vec::<i32>(), &["the array is f32, not i32"]);
    refuses(Array::stack(&[]), &["nothing to stack"]);
    let kinds = [Array::new(&[1], [1]).unwrap(), Array::new(&[1, 2], [2]).unwrap()];
    refuses(Array::stack(&kinds), &["samples of different kinds"]);
}

#[test]
fn what_dvc_noted_is_checked() {
    let folder = Folder::new("dvc");
    let path = folder.path("x.csv");
    std::fs::write(&path, "a\r\n1\r\n").unwrap();
    let open = || Csv::open(&path, CsvOptions::default()).map(|table| table.files()[0].dvc_md5.clone());
    let note = |text: &str| std::fs::write(folder.path("x.csv.dvc"), text).unwrap();
    assert_eq!(open().unwrap(), None);
    // The MD5 of "a\r\n1\r\n" and of "a\n1\n".
    let (raw, unix) = ("93170a9b1598cb475b79031c8b09e3c7", "34ff2335cbe2045ddc3b78993d1e971d");
    note(&format!("outs:\n- md5: {raw}\n  size: 6\n  hash: md5\n  path: x.csv\n"));
    assert_eq!(open().unwrap(), Some(raw.to_string()));
    note(&format!(
        "md5: 0123\ndeps:\n- md5: 99\n  path: x.csv\nouts:\n- path: y\n  md5: 77\n- path: x.csv\n  md5: {unix}\nmeta: 1\n"
    ));
    assert_eq!(open().unwrap(), Some(unix.to_string()));
    note(&format!("outs:\n- md5: {unix}\n  hash: md5\n  path: x.csv\n"));
    refuses(open(), &["csv: ", "x.csv: the content has the md5", raw, "x.csv.dvc says", unix]);
    note("outs:\n- md5: 123\n  path: other\n");
    refuses(open(), &["x.csv.dvc: an output \"x.csv\" with its md5 was expected"]);
    assert_eq!(FileHash::of("x", b"abc").sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn mutants_of_idx_do_no_harm() {
    let good = [idx(&[2, 3], &[1, 2, 3, 4, 5, 6]), [&[0, 0, 0x0e, 1, 0, 0, 0, 2][..], &[1; 16]].concat()];
    withstands("mutant.idx", &[&good[0], &good[1]], 16, |bytes| idx_from_bytes("mutant.idx", bytes));
    let packed = gzip(&idx(&[10, 10], &[7; 100]));
    withstands("mutant.idx.gz", &[&packed], 2100, |bytes| idx_from_bytes("mutant.idx.gz", bytes));
}

#[test]
fn mutants_of_cifar_do_no_harm() {
    let good = [&[3; 3073][..], &[9; 3073]].concat();
    withstands("mutant.bin", &[&good], 4, |bytes| cifar_from_bytes(CifarKind::Ten, "mutant.bin", bytes));
}

#[test]
fn mutants_of_csv_do_no_harm() {
    let good = "a,b,kind\n1,2.5,\"x\"\"\"\n-3e2,4,z\n5,6,\"u,v\"\n";
    let read = |name: &str, bytes: Vec<u8>| {
        let table = Csv::from_bytes(name, bytes, CsvOptions::default())?;
        table.numbers(["a", "b"])?;
        table.classes("kind")
    };
    withstands("mutant.csv", &[good.as_bytes()], 60, |bytes| read("mutant.csv", bytes));
    withstands("mutant.csv.gz", &[&gzip(good.as_bytes())], 20_000, |bytes| read("mutant.csv.gz", bytes));
}

#[test]
fn mutants_of_dvc_notes_do_no_harm() {
    let folder = Folder::new("dvc-mutants");
    let path = folder.path("mutant.csv");
    std::fs::write(&path, "a\r\n1\r\n").unwrap();
    let good = "outs:\n- md5: 93170a9b1598cb475b79031c8b09e3c7\n  size: 6\n  hash: md5\n  path: mutant.csv\n";
    withstands("mutant.csv", &[good.as_bytes()], 60, |bytes| {
        replace(&folder.path("mutant.csv.dvc"), &bytes);
        Csv::open(&path, CsvOptions::default())
    });
}

#[test]
fn mutants_of_a_tokeniser_do_no_harm() {
    let good = Bpe::train(&"the cat and the hat ".repeat(5), 275).to_bytes();
    withstands("mutant.json", &[&good], 200, |bytes| Bpe::from_bytes("mutant.json", &bytes));
}

#[test]
fn gzip_files_of_many_members_take_little() {
    let n = 10_000;
    let members: Vec<u8> = (0..n).flat_map(|k| gzip(&[k as u8])).collect();
    let bytes = [gzip(&idx(&[n], &[])), members].concat();
    let (found, peak) = peak_of(|| idx_from_bytes("x", bytes).unwrap());
    assert_eq!(found.to_vec::<u8>().unwrap()[..3], [0, 1, 2]);
    assert!(peak < 200 << 10, "{peak} bytes");
}

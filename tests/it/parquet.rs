//! Tables in columns: what pyarrow wrote in many ways, what is wrong, and hostile files.

use std::path::PathBuf;

use wgrad::data::{Dataset, Parquet};

use crate::hostile::{peak_of, refuses, withstands};

const WAYS: [&str; 5] = ["snappy", "plain", "groups", "zstd", "packed"];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/parquet_{name}.parquet"))
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

#[test]
fn parquet_is_read_however_it_is_written() {
    for way in WAYS {
        let table = Parquet::open(path(way)).unwrap();
        let names = ["f32", "f64", "f16", "i8", "i32", "i64", "u32", "flag", "kind", "twice"];
        assert_eq!((table.rows(), table.names()), (12, &names.map(String::from)[..]), "{way}");
        let numbers = |names: &[&str]| table.numbers(names).unwrap().to_vec::<f32>().unwrap();
        let integers = |name: &str| table.integers(name).unwrap().to_vec::<i32>().unwrap();
        let all = |f: &dyn Fn(i32) -> f32| (0..12).map(f).collect::<Vec<f32>>();
        assert_eq!(numbers(&["f32"]), all(&|k| k as f32 / 4.0 - 1.0), "{way}");
        assert_eq!(numbers(&["f64"]), all(&|k| format!("1e-{k}").parse::<f64>().unwrap() as f32), "{way}");
        assert_eq!(numbers(&["f16"]), all(&|k| k as f32 / 8.0), "{way}");
        assert_eq!(numbers(&["i64"]), all(&|k| ((1i64 << 40) * i64::from(k % 2) + i64::from(k)) as f32), "{way}");
        assert_eq!(numbers(&["u32"]), all(&|k| (u32::MAX - k as u32) as f32), "{way}");
        assert_eq!(integers("i8"), (0..12).map(|k| k - 6).collect::<Vec<i32>>(), "{way}");
        assert_eq!(integers("i32"), (0..12).map(|k: i32| k * k * if k % 2 == 0 { 1 } else { -1 }).collect::<Vec<_>>());
        assert_eq!(integers("flag"), (0..12).map(|k| i32::from(k % 3 == 0)).collect::<Vec<i32>>(), "{way}");
        let (kinds, names) = table.classes("kind").unwrap();
        assert_eq!((kinds.to_vec::<i32>().unwrap(), names.len()), ([0, 1, 2].repeat(4), 3), "{way}");
        assert_eq!(names, ["apple", "pear", "ä"]);
        assert_eq!(table.classes("i8").unwrap().1[..2], ["-6", "-5"]);
        let data = table.classification(["f32", "i8"], "flag", 2).unwrap();
        assert_eq!((data.x().dims(), data.x().to_vec::<f32>().unwrap()[3]), (&[12, 2][..], -5.0), "{way}");
        assert_eq!((data.files()[0].bytes, data.files()[0].sha256.len()), (bytes(way).len() as u64, 64));
        assert_eq!(table.regression(["f32"], ["f64", "twice"]).unwrap().y().dims(), [12, 2]);
    }
}

#[test]
fn parquet_says_what_is_wrong() {
    let table = Parquet::open(path("snappy")).unwrap();
    refuses(table.numbers(["f32", "no"]), &["parquet: ", "snappy.parquet: no column \"no\"; there are [\"f32\""]);
    refuses(table.numbers(["kind"]), &["snappy.parquet: column \"kind\": numbers were expected, got texts"]);
    refuses(table.integers("f64"), &["column \"f64\": whole numbers were expected"]);
    refuses(table.integers("i64"), &["column \"i64\": row 1: 1099511627777 does not fit i32"]);
    refuses(table.classes("f32"), &["column \"f32\": texts or whole numbers were expected, got floats"]);
    refuses(table.classification(["f32"], "i8", 3), &["column \"i8\": row 0: a class of 0 to 2 was expected, got -6"]);
    let others = Parquet::open(path("others")).unwrap();
    let names = ["holes", "lists.list.element", "point.x", "point.y", "price", "nan"];
    assert_eq!(others.names(), names.map(String::from));
    refuses(
        others.numbers(["holes"]),
        &["others.parquet, byte ", "column \"holes\": row 1 of its group: a value is missing"],
    );
    refuses(others.numbers([names[1]]), &["column \"lists.list.element\": it holds lists"]);
    refuses(others.numbers(["price"]), &["column \"price\": decimals are not read"]);
    refuses(others.numbers(["nan"]), &["column \"nan\": row 1: a number was expected, got NaN"]);
    let points = others.numbers(["point.x", "point.y"]).unwrap();
    assert_eq!(points.to_vec::<f32>().unwrap(), [1.0, 2.5, 1.0, 2.5, 1.0, 2.5]);
    let lz4 = Parquet::open(path("lz4")).unwrap();
    refuses(lz4.numbers(["nan"]), &["lz4.parquet, byte ", "column \"nan\": packed by LZ4, which is not read"]);

    let good = bytes("plain");
    let read = |bytes: &[u8]| Parquet::from_bytes("t.parquet", bytes.to_vec());
    for cut in [0, 3, 7, good.len() - 1] {
        refuses(read(&good[..cut]), &["parquet: t.parquet: PAR1 was expected at its beginning and its end"]);
    }
    refuses(read(b"PAR1PAR1"), &["t.parquet", "footer"]);
    let mut long = good.clone();
    let at = long.len() - 8;
    long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    refuses(read(&long), &["t.parquet, byte ", "a footer of 4294967295 bytes, but"]);
    refuses(Parquet::open("no/such.parquet"), &["parquet: no/such.parquet"]);
}

#[test]
fn mutants_of_parquet_do_no_harm() {
    let good: Vec<Vec<u8>> = WAYS.map(bytes).into();
    let good: Vec<&[u8]> = good.iter().map(Vec::as_slice).collect();
    withstands("mutant.parquet", &good, 10_000, |bytes| {
        let table = Parquet::from_bytes("mutant.parquet", bytes)?;
        // Every column is looked at, whatever is wrong with another.
        let mut worst = Ok(());
        for name in table.names() {
            worst = worst.and(table.numbers([name]).map(drop).or_else(|error| {
                // Texts are no numbers.
                table.classes(name).map(drop).map_err(|_| error)
            }));
        }
        worst
    });
}

/// A number as Thrift writes it.
fn int(n: usize) -> Vec<u8> {
    let mut n = 2 * n;
    let mut bytes = Vec::new();
    while n > 127 {
        bytes.push(n as u8 | 128);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// A length, which has no sign; in three bytes.
fn length(n: usize) -> [u8; 3] {
    [n as u8 | 128, (n >> 7) as u8 | 128, (n >> 14) as u8]
}

/// A list of structures, from the byte that says which field it is.
fn list(field: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let n = length(items.len());
    [&[field, 0xfc][..], &n, &items.concat()].concat()
}

/// An element of a schema: a column of whole numbers, or a structure with so many children.
fn element(name: &str, children: Option<usize>) -> Vec<u8> {
    let name = [&length(name.len())[..], name.as_bytes()].concat();
    match children {
        None => [&[0x15, 2, 0x38][..], &name, &[0]].concat(),
        Some(n) => [&[0x48][..], &name, &[0x15], &int(n), &[0]].concat(),
    }
}

/// A file with `pages` behind its magic.
fn file(pages: &[u8], schema: &[Vec<u8>], rows: usize, groups: &[Vec<u8>]) -> Vec<u8> {
    let footer = [list(0x29, schema), vec![0x16], int(rows), list(0x19, groups), vec![0]].concat();
    [b"PAR1", pages, &footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

/// A constant: a dictionary of one number, and a page in which it comes `rows` times.
fn constant(rows: usize) -> Vec<u8> {
    let body = [&[1][..], &int(rows), &[0]].concat();
    let size = int(body.len());
    let dictionary = [&[0x15, 4, 0x15, 8, 0x15, 8, 0x4c, 0x15, 2, 0x15, 0, 0, 0][..], &7i32.to_le_bytes()].concat();
    [
        dictionary,
        [&[0x15, 0, 0x15][..], &size, &[0x15], &size, &[0x2c, 0x15], &int(rows), &[0x15, 16, 0, 0], &body].concat(),
    ]
    .concat()
}

/// A group of `rows`, whose columns' pages are at the places.
fn group(rows: usize, places: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let bytes = constant(rows).len();
    let chunk =
        |at: usize| [&[0x3c, 0x45, 0, 0x16][..], &int(rows), &[0x26], &int(bytes), &[0x26], &int(at), &[0, 0]].concat();
    let chunks: Vec<Vec<u8>> = places.into_iter().map(chunk).collect();
    [list(0x19, &chunks), vec![0x26], int(rows), vec![0]].concat()
}

#[test]
fn small_parquet_files_take_little() {
    let read = |bytes: Vec<u8>| Parquet::from_bytes("t.parquet", bytes);
    let root = |n: usize| element("root", Some(n));
    let columns = |n: usize| -> Vec<Vec<u8>> {
        std::iter::once(root(n)).chain((0..n).map(|k| element(&format!("c{k}"), None))).collect()
    };
    // What is read: a column of ten, in two groups.
    let pages = [constant(5), constant(5)].concat();
    let places = [4, 4 + constant(5).len()];
    let good = read(file(&pages, &columns(1), 10, &places.map(|at| group(5, [at])))).unwrap();
    assert_eq!(good.integers("c0").unwrap().to_vec::<i32>().unwrap(), [7; 10]);

    // A structure with a long name, which each of its many columns would have.
    let mut schema = vec![root(1), element(&"x".repeat(50_000), Some(1000))];
    schema.extend((0..1000).map(|_| element("c", None)));
    let long = file(&[], &schema, 0, &[]);
    let (found, peak) = peak_of(|| read(long));
    refuses(found, &["t.parquet, byte ", "paths far longer than the footer"]);
    assert!(peak < 10 << 20, "{peak} bytes");

    // The same pages for every group.
    let shared: Vec<Vec<u8>> = (0..100).map(|_| group(5, [4])).collect();
    let shared = file(&constant(5), &columns(1), 500, &shared);
    let (n, pages) = (shared.len(), 100 * constant(5).len());
    match pages > n {
        true => refuses(read(shared), &[&format!("{pages} bytes of pages, but the file has {n}")]),
        false => panic!("{pages} bytes of pages in {n}"),
    }

    // Constant columns take nothing in the file, and much when they are numbers.
    let rows = 1 << 22;
    let bytes = constant(rows).len();
    let wide = file(&constant(rows).repeat(65), &columns(65), rows, &[group(rows, (0..65).map(|k| 4 + k * bytes))]);
    let table = read(wide).unwrap();
    let (found, peak) = peak_of(|| table.numbers(table.names()));
    refuses(found, &["t.parquet", "4194304 rows of 65 columns, but at most 268435456 numbers are read"]);
    assert!(peak < 1 << 20, "{peak} bytes");
    assert_eq!(table.numbers(["c3"]).unwrap().dims(), [rows, 1]);
}

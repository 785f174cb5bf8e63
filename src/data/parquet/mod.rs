//! [`Parquet`]: tables in columns, as data frames and query engines write them.
//!
//! Columns become numbers or classes when they are asked for. Reads flat columns of numbers, bools
//! and texts, plain, in dictionaries, in differences or split by bytes, packed by Snappy, gzip,
//! zstd or not at all. Knows no lists and no encryption.

mod page;
mod thrift;

use std::collections::BTreeSet;
use std::path::Path;

use crate::data::array::Array;
use crate::data::dataset::TensorDataset;
use crate::data::hash::{FileHash, read_hashed};
use crate::error::{Error, Result};
use crate::io::file::{fault, fault_at};
use crate::io::inflate::inflated_max;
use page::{Cells, Physical, decode, hybrid, unpacked};
use thrift::{Thrift, take};

const OP: &str = "parquet";
const MAGIC: &[u8] = b"PAR1";
/// Bytes behind the footer: its length and the magic.
const TAIL: usize = 8;
/// Bytes of the columns' paths for one of the footer, at most: each has the names of its structures.
const PATHS_MAX: usize = 16;
/// Numbers that even a small file may hold, all columns together.
const NUMBERS_MIN: usize = 1 << 28;

/// A table in columns.
///
/// ```no_run
/// use wgrad::data::{Loader, Parquet};
/// let table = Parquet::open("houses.parquet")?;
/// println!("{:?}, {} rows", table.names(), table.rows());
/// let houses = table.regression(["rooms", "area"], ["price"])?;
/// let loader = Loader::new(houses, 32).shuffle(42);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parquet {
    name: String,
    bytes: Vec<u8>,
    names: Vec<String>,
    columns: Vec<Column>,
    rows: usize,
    groups: Vec<Group>,
    hash: FileHash,
}

/// What the schema says of a column.
#[derive(Clone, Debug)]
struct Column {
    /// How its values lie, or why it cannot be read.
    physical: Result<Physical, String>,
    unsigned: bool,
    /// The level of a value that is there; less stands for one that is not.
    level: u32,
}

/// Some rows.
#[derive(Clone, Debug, Default)]
struct Group {
    rows: usize,
    chunks: Vec<Chunk>,
}

/// The pages of a column in a group.
#[derive(Clone, Debug, Default)]
struct Chunk {
    codec: i64,
    values: usize,
    bytes: usize,
    data: usize,
    dictionary: Option<usize>,
    elsewhere: bool,
}

/// An element of the schema, as it is written.
#[derive(Default)]
struct Element {
    physical: Option<i64>,
    width: i64,
    repetition: i64,
    name: String,
    children: usize,
    converted: Option<i64>,
    logical: Option<i64>,
}

/// What stands in front of a page.
#[derive(Default)]
struct Header {
    kind: i64,
    size: usize,
    packed: usize,
    values: usize,
    encoding: i64,
    levels_encoding: i64,
    /// Of the second version: bytes of levels, in front of what is packed.
    levels: Option<usize>,
    repeats: usize,
    is_plain: bool,
}

impl Parquet {
    /// Reads the table at `path`.
    pub fn open(path: impl AsRef<Path>) -> Result<Parquet> {
        let path = path.as_ref();
        let (bytes, hash) = read_hashed(OP, path)?;
        Parquet::read(&path.display().to_string(), bytes, hash)
    }

    /// The table in `bytes`; errors call it `name`.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Parquet> {
        let hash = FileHash::of(name, &bytes);
        Parquet::read(name, bytes, hash)
    }

    fn read(name: &str, bytes: Vec<u8>, hash: FileHash) -> Result<Parquet> {
        let end = bytes.len().checked_sub(TAIL).filter(|_| bytes.starts_with(MAGIC) && bytes.ends_with(MAGIC));
        let Some(end) = end else {
            return Err(fault(OP, name, "PAR1 was expected at its beginning and its end"));
        };
        let length = bytes.iter().skip(end).take(4).rev().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
        let Some(start) = end.checked_sub(length) else {
            return Err(fault_at(
                OP,
                name,
                end,
                format!("a footer of {length} bytes, but {end} are before its length"),
            ));
        };
        let mut reader = Thrift::new(bytes.get(..end).unwrap_or(&[]), start);
        let (mut elements, mut rows, mut groups) = (Vec::new(), 0, Vec::new());
        let read = reader.fields(|reader, id, kind| {
            match id {
                2 => reader.list(kind, |reader, _| element(reader).map(|element| elements.push(element)))?,
                3 => rows = reader.size(kind)?,
                4 => reader.list(kind, |reader, _| group(reader).map(|group| groups.push(group)))?,
                8 => return Err("it is encrypted".into()),
                _ => return Ok(false),
            }
            Ok(true)
        });
        let at = reader.at;
        let done = read.and_then(|()| columns(&elements, length.saturating_mul(PATHS_MAX)));
        let (names, columns) = done.map_err(|fact| fault_at(OP, name, at, fact))?;
        let table = Parquet { name: name.into(), bytes, names, columns, rows, groups, hash };
        table.checked().map_err(|fact| fault_at(OP, name, at, fact))?;
        Ok(table)
    }

    /// Whether groups and columns are as many as they should be.
    fn checked(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(format!("the column {twice:?} comes twice"));
        }
        let rows = self.groups.iter().fold(0usize, |rows, group| rows.saturating_add(group.rows));
        if rows != self.rows {
            return Err(format!("{} rows, but its groups have {rows}", self.rows));
        }
        // A constant column takes next to nothing, so the file's size says little.
        let most = inflated_max(self.bytes.len()) / size_of::<i64>();
        if rows > most {
            return Err(format!("{rows} rows in {} bytes, but at most {most} are read", self.bytes.len()));
        }
        // Pages that columns or groups share would be unpacked once for each.
        let chunks = self.groups.iter().flat_map(|group| &group.chunks).filter(|chunk| !chunk.elsewhere);
        let pages = chunks.fold(0usize, |bytes, chunk| bytes.saturating_add(chunk.bytes));
        if pages > self.bytes.len() {
            return Err(format!("{pages} bytes of pages, but the file has {}", self.bytes.len()));
        }
        match self.groups.iter().find(|group| group.chunks.len() != self.names.len()) {
            Some(group) => Err(format!("a group of {} columns, not {}", group.chunks.len(), self.names.len())),
            None => Ok(()),
        }
    }

    /// The columns' names; one inside a structure has dots in it.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns as numbers: `f32 [rows, columns]`. A value that is missing or not finite is an error.
    pub fn numbers(&self, columns: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Array> {
        let columns: Vec<_> = columns.into_iter().collect();
        let most = (inflated_max(self.bytes.len()) / size_of::<f32>()).max(NUMBERS_MIN);
        if self.rows.saturating_mul(columns.len()) > most {
            let fact = format!("{} rows of {} columns, but at most {most} numbers are read", self.rows, columns.len());
            return Err(fault(OP, &self.name, fact));
        }
        let mut read = Vec::new();
        for name in &columns {
            let name = name.as_ref();
            let found: Vec<f32> = match self.column(name)? {
                Cells::Ints(found) => found.iter().map(|&x| x as f32).collect(),
                Cells::Floats(found) => found.iter().map(|&x| x as f32).collect(),
                Cells::Texts(_) => return Err(self.wrong(name, "numbers were expected, got texts")),
            };
            if let Some(row) = found.iter().position(|x| !x.is_finite()) {
                return Err(self.wrong(name, format!("row {row}: a number was expected, got {}", found[row])));
            }
            read.push(found);
        }
        let found: Vec<f32> = (0..self.rows).flat_map(|row| read.iter().map(move |column| column[row])).collect();
        Array::new(&found, [self.rows, read.len()])
    }

    /// A column as whole numbers: `i32 [rows]`.
    pub fn integers(&self, column: &str) -> Result<Array> {
        let Cells::Ints(found) = self.column(column)? else {
            return Err(self.wrong(column, "whole numbers were expected"));
        };
        let whole = |(row, &x): (usize, &i64)| {
            i32::try_from(x).map_err(|_| self.wrong(column, format!("row {row}: {x} does not fit i32")))
        };
        let found = found.iter().enumerate().map(whole).collect::<Result<Vec<i32>>>()?;
        Array::new(&found, [self.rows])
    }

    /// A column as classes: `i32 [rows]`, and what they stand for, in order: texts by the alphabet,
    /// whole numbers by size.
    pub fn classes(&self, column: &str) -> Result<(Array, Vec<String>)> {
        fn numbered<T: Ord>(cells: &[T], show: impl Fn(&T) -> String) -> (Vec<i32>, Vec<String>) {
            let names: Vec<&T> = cells.iter().collect::<BTreeSet<&T>>().into_iter().collect();
            // Every cell is among the names, which are in order.
            let classes = cells.iter().map(|cell| names.binary_search(&cell).unwrap_or_default() as i32).collect();
            (classes, names.into_iter().map(show).collect())
        }
        let (classes, names) = match self.column(column)? {
            Cells::Ints(cells) => numbered(&cells, i64::to_string),
            Cells::Texts(cells) => numbered(&cells, |text| text.to_string()),
            Cells::Floats(_) => return Err(self.wrong(column, "texts or whole numbers were expected, got floats")),
        };
        Ok((Array::new(&classes, [self.rows])?, names))
    }

    /// A dataset to classify: `x` are columns of numbers, `y` is a column of whole numbers, the
    /// classes from 0 to `classes` - 1.
    pub fn classification(
        &self,
        x: impl IntoIterator<Item = impl AsRef<str>>,
        y: &str,
        classes: usize,
    ) -> Result<TensorDataset> {
        let labels = self.integers(y)?;
        let found = labels.to_vec::<i32>()?;
        let fits = |label: i32| usize::try_from(label).is_ok_and(|label| label < classes);
        if let Some(row) = found.iter().position(|&label| !fits(label)) {
            let most = classes.saturating_sub(1);
            return Err(self.wrong(y, format!("row {row}: a class of 0 to {most} was expected, got {}", found[row])));
        }
        Ok(TensorDataset::of_arrays(self.numbers(x)?, labels)?.with_files(self.files()))
    }

    /// A dataset to predict numbers: `x` and `y` are columns of numbers.
    pub fn regression(
        &self,
        x: impl IntoIterator<Item = impl AsRef<str>>,
        y: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<TensorDataset> {
        Ok(TensorDataset::of_arrays(self.numbers(x)?, self.numbers(y)?)?.with_files(self.files()))
    }

    /// The file the table came from.
    pub fn files(&self) -> Vec<FileHash> {
        vec![self.hash.clone()]
    }

    /// All values of the column `name`.
    fn column(&self, name: &str) -> Result<Cells> {
        let Some(place) = self.names.iter().position(|known| known == name) else {
            let more = if self.names.len() > 10 { ", …" } else { "" };
            let known: Vec<&String> = self.names.iter().take(10).collect();
            return Err(fault(OP, &self.name, format!("no column {name:?}; there are {known:?}{more}")));
        };
        // There are as many columns as names, and as many chunks in each group.
        let column = &self.columns[place];
        let physical = column.physical.clone().map_err(|fact| self.wrong(name, fact))?;
        let mut cells = Cells::new(physical);
        for group in &self.groups {
            let chunk = &group.chunks[place];
            let before = cells.len();
            let mut at = chunk.dictionary.filter(|&at| at > 0 && at < chunk.data).unwrap_or(chunk.data);
            self.pages(column, physical, chunk, group.rows, &mut at, &mut cells)
                .map_err(|fact| fault_at(OP, &self.name, at, format!("column {name:?}: {fact}")))?;
            if cells.len() - before != group.rows {
                let fact = format!("{} values in a group of {} rows", cells.len() - before, group.rows);
                return Err(self.wrong(name, fact));
            }
        }
        if let (true, Cells::Ints(found)) = (column.unsigned, &mut cells) {
            for (row, x) in found.iter_mut().enumerate().filter(|(_, x)| **x < 0) {
                match physical {
                    Physical::I32 => *x = i64::from(*x as u32),
                    _ => return Err(self.wrong(name, format!("row {row}: {} does not fit i64", *x as u64))),
                }
            }
        }
        Ok(cells)
    }

    /// Adds the values of a chunk to `cells`; `at` is where it stands.
    fn pages(
        &self,
        column: &Column,
        physical: Physical,
        chunk: &Chunk,
        rows: usize,
        at: &mut usize,
        cells: &mut Cells,
    ) -> Result<(), String> {
        if chunk.elsewhere {
            return Err("it lies in another file, or is encrypted".into());
        }
        let end = at.checked_add(chunk.bytes).filter(|&end| end <= self.bytes.len().saturating_sub(TAIL));
        let end =
            end.ok_or_else(|| format!("{} bytes of pages, but the file has {}", chunk.bytes, self.bytes.len()))?;
        if chunk.values != rows {
            return Err(format!("{} values in {rows} rows", chunk.values));
        }
        let (mut left, mut dictionary) = (rows, None);
        while left > 0 {
            let mut reader = Thrift::new(self.bytes.get(..end).unwrap_or(&[]), *at);
            let header = header(&mut reader)?;
            let mut rest = self.bytes.get(reader.at..end).unwrap_or(&[]);
            let body = take(&mut rest, header.packed)?;
            match header.kind {
                2 if dictionary.is_none() => {
                    let values = unpacked(chunk.codec, body, header.size)?;
                    let mut found = Cells::new(physical);
                    decode(&values, 0, physical, bounded(header.values, &values)?, None, &mut found)?;
                    dictionary = Some(found);
                }
                0 | 3 if header.values <= left => {
                    let values = values(column, chunk, &header, body, rows - left)?;
                    decode(&values, header.encoding, physical, header.values, dictionary.as_ref(), cells)?;
                    left -= header.values;
                }
                0 | 3 => return Err(format!("a page of {} values, where {left} are left", header.values)),
                1 => {}
                2 => return Err("a second dictionary".into()),
                other => return Err(format!("there is no kind {other} of page")),
            }
            *at = reader.at + header.packed;
        }
        Ok(())
    }

    fn wrong(&self, column: &str, fact: impl std::fmt::Display) -> Error {
        fault(OP, &self.name, format!("column {column:?}: {fact}"))
    }
}

/// As many values as a page says that it has, none of which takes less than a bit.
fn bounded(n: usize, page: &[u8]) -> Result<usize, String> {
    match n <= page.len().saturating_mul(8) {
        true => Ok(n),
        false => Err(format!("{n} values in {} bytes", page.len())),
    }
}

/// The values of a data page as they are encoded, when none is missing; `row` is its first.
fn values(column: &Column, chunk: &Chunk, header: &Header, body: &[u8], row: usize) -> Result<Vec<u8>, String> {
    let levels = |bytes: &mut &[u8]| {
        let mut at = row;
        hybrid(bytes, u32::BITS - column.level.leading_zeros(), header.values, |level| {
            if level != column.level {
                return Err(format!("row {at} of its group: a value is missing"));
            }
            at += 1;
            Ok(())
        })
    };
    let mut body = body;
    if let Some(n) = header.levels {
        take(&mut body, header.repeats)?;
        let mut told = take(&mut body, n)?;
        if column.level > 0 {
            levels(&mut told)?;
        }
        let size = header.size.checked_sub(n + header.repeats).ok_or("levels longer than their page")?;
        return unpacked(if header.is_plain { 0 } else { chunk.codec }, body, size);
    }
    let page = unpacked(chunk.codec, body, header.size)?;
    if column.level == 0 {
        return Ok(page);
    }
    if header.levels_encoding != 3 {
        return Err(format!("levels of encoding {}, which is not read", header.levels_encoding));
    }
    let mut rest = &page[..];
    let n = take(&mut rest, 4)?.iter().rev().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
    levels(&mut take(&mut rest, n)?)?;
    Ok(rest.to_vec())
}

fn element(reader: &mut Thrift) -> Result<Element, String> {
    let mut found = Element::default();
    reader.fields(|reader, id, kind| {
        match id {
            1 => found.physical = Some(reader.int(kind)?),
            2 => found.width = reader.int(kind)?,
            3 => found.repetition = reader.int(kind)?,
            4 => found.name = reader.text(kind)?,
            5 => found.children = reader.size(kind)?,
            6 => found.converted = Some(reader.int(kind)?),
            // A union: a structure with the one field that it is.
            10 if Thrift::is_struct(kind) => reader.fields(|_, id, _| {
                found.logical = Some(id);
                Ok(false)
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found)
}

fn group(reader: &mut Thrift) -> Result<Group, String> {
    let mut found = Group::default();
    reader.fields(|reader, id, kind| {
        match id {
            1 => reader.list(kind, |reader, _| chunk(reader).map(|chunk| found.chunks.push(chunk)))?,
            3 => found.rows = reader.size(kind)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found)
}

fn chunk(reader: &mut Thrift) -> Result<Chunk, String> {
    let mut found = Chunk { elsewhere: true, ..Chunk::default() };
    let (mut file, mut secret) = (false, false);
    reader.fields(|reader, id, kind| {
        match id {
            1 => file = !reader.text(kind)?.is_empty(),
            3 if Thrift::is_struct(kind) => {
                found.elsewhere = false;
                reader.fields(|reader, id, kind| {
                    match id {
                        4 => found.codec = reader.int(kind)?,
                        5 => found.values = reader.size(kind)?,
                        7 => found.bytes = reader.size(kind)?,
                        9 => found.data = reader.size(kind)?,
                        11 => found.dictionary = Some(reader.size(kind)?),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
            }
            8 | 9 => {
                secret = true;
                return Ok(false);
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    found.elsewhere |= file || secret;
    Ok(found)
}

fn header(reader: &mut Thrift) -> Result<Header, String> {
    let mut found = Header { kind: -1, ..Header::default() };
    reader.fields(|reader, id, kind| {
        let header = &mut found;
        match id {
            1 => header.kind = reader.int(kind)?,
            2 => header.size = reader.size(kind)?,
            3 => header.packed = reader.size(kind)?,
            5 | 7 if Thrift::is_struct(kind) => reader.fields(|reader, field, kind| {
                match field {
                    1 => header.values = reader.size(kind)?,
                    2 => header.encoding = reader.int(kind)?,
                    3 if id == 5 => header.levels_encoding = reader.int(kind)?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            8 if Thrift::is_struct(kind) => {
                header.levels = Some(0);
                reader.fields(|reader, field, kind| {
                    match field {
                        1 => header.values = reader.size(kind)?,
                        4 => header.encoding = reader.int(kind)?,
                        5 => header.levels = Some(reader.size(kind)?),
                        6 => header.repeats = reader.size(kind)?,
                        7 => header.is_plain = !reader.bool(kind)?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(found)
}

/// The leaves of the schema, a tree written in depth-first order; their paths have `most` bytes.
fn columns(elements: &[Element], most: usize) -> Result<(Vec<String>, Vec<Column>), String> {
    let (mut names, mut found) = (Vec::new(), Vec::new());
    let (mut elements, mut left_bytes) = (elements.iter(), most);
    let root = elements.next().ok_or("a schema was expected")?;
    // Open structures: how many children are to come, the path, the level, whether values repeat.
    let mut open = vec![(root.children, String::new(), 0u32, false)];
    while let Some((left, path, level, repeats)) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        let element = elements.next().ok_or("a schema that ends too early")?;
        let path = if path.is_empty() { element.name.clone() } else { format!("{path}.{}", element.name) };
        left_bytes = left_bytes.checked_sub(path.len()).ok_or("paths far longer than the footer")?;
        let level = *level + u32::from(element.repetition == 1);
        let repeats = *repeats || element.repetition == 2;
        let Some(physical) = element.physical else {
            open.push((element.children, path, level, repeats));
            if open.len() > 32 {
                return Err("a schema nested deeper than 32".into());
            }
            continue;
        };
        names.push(path);
        let physical = if repeats { Err("it holds lists".into()) } else { physical_of(physical, element) };
        found.push(Column { physical, unsigned: matches!(element.converted, Some(11..=14)), level });
    }
    if elements.next().is_some() {
        return Err("a schema with more elements than its root has".into());
    }
    Ok((names, found))
}

/// How values of a column lie, or why they cannot be read.
fn physical_of(physical: i64, element: &Element) -> Result<Physical, String> {
    if element.converted == Some(5) || element.logical == Some(5) {
        return Err("decimals are not read".into());
    }
    match physical {
        0 => Ok(Physical::Bool),
        1 => Ok(Physical::I32),
        2 => Ok(Physical::I64),
        3 => Err("times of 96 bits are not read".into()),
        4 => Ok(Physical::F32),
        5 => Ok(Physical::F64),
        6 => Ok(Physical::Text),
        7 if element.logical == Some(15) && element.width == 2 => Ok(Physical::F16),
        7 => Err("values of fixed length are not read".into()),
        other => Err(format!("there is no type {other}")),
    }
}

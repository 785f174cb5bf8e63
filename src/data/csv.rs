//! Tables of text: comma-separated values, with or without a header, gzipped or not.
//!
//! Cells stay text until columns are asked for as numbers or classes; an error names line and
//! column. Knows quotes and one delimiter; guesses nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use crate::data::array::Array;
use crate::data::dataset::TensorDataset;
use crate::data::hash::{FileHash, read_hashed};
use crate::error::{Error, Result};
use crate::io::file::{fault, fault_at};
use crate::io::float;
use crate::io::inflate::plain;

const OP: &str = "csv";

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// Whether the first line names the columns; otherwise they are called `0`, `1`, `2` and so on.
    pub header: bool,
    /// What stands between cells, one ASCII character.
    pub delimiter: char,
}

impl Default for CsvOptions {
    fn default() -> CsvOptions {
        CsvOptions { header: true, delimiter: ',' }
    }
}

/// A table of text.
///
/// ```
/// use wgrad::data::{Csv, CsvOptions};
/// let text = "height,width,kind\n1.5,2,cat\n3,4e-1,\"a \"\"dog\"\"\"\n";
/// let table = Csv::from_bytes("pets.csv", text.into(), CsvOptions::default())?;
/// assert_eq!(table.names(), ["height", "width", "kind"]);
/// assert_eq!(table.numbers(["height", "width"])?.to_vec::<f32>()?, [1.5, 2.0, 3.0, 0.4]);
/// assert_eq!(table.classes("kind")?.1, ["a \"dog\"", "cat"]);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Csv {
    name: String,
    text: String,
    names: Vec<String>,
    /// The bytes of each cell, row by row, as many a row as there are names.
    cells: Vec<(u32, u32)>,
    hash: FileHash,
}

impl Csv {
    /// Reads the table at `path`, gzipped or not.
    pub fn open(path: impl AsRef<Path>, options: CsvOptions) -> Result<Csv> {
        let path = path.as_ref();
        let (bytes, hash) = read_hashed(OP, path)?;
        let name = path.display().to_string();
        Csv::read(&name, plain(OP, &name, bytes)?, options, hash)
    }

    /// Reads a table in memory, gzipped or not; errors call it `name`.
    pub fn from_bytes(name: &str, bytes: Vec<u8>, options: CsvOptions) -> Result<Csv> {
        let hash = FileHash::of(name, &bytes);
        Csv::read(name, plain(OP, name, bytes)?, options, hash)
    }

    /// Reads a table whose text is in memory, in UTF-8; errors call it `name`. A web page that has
    /// its browser unpack what it fetched is spared the code that does.
    pub fn from_text(name: &str, text: impl Into<Vec<u8>>, options: CsvOptions) -> Result<Csv> {
        let bytes = text.into();
        let hash = FileHash::of(name, &bytes);
        Csv::read(name, bytes, options, hash)
    }

    fn read(name: &str, bytes: Vec<u8>, options: CsvOptions, hash: FileHash) -> Result<Csv> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(fault(OP, name, format!("{} bytes, but a table has less than 4 GiB", bytes.len())));
        }
        if !options.delimiter.is_ascii() || "\"\r\n".contains(options.delimiter) {
            return Err(fault(OP, name, format!("{:?} is no delimiter", options.delimiter)));
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| fault_at(OP, name, error.utf8_error().valid_up_to(), "the text is not UTF-8"))?;
        let mut table = Csv { name: name.into(), text, names: Vec::new(), cells: Vec::new(), hash };
        let (mut scan, mut record) = (Scan::new(&table.text, options.delimiter), Vec::new());
        let mut first = true;
        loop {
            let more = scan.record(&mut record);
            let (line, start) = (scan.start_line, scan.start);
            let more = more.map_err(|fact| fault_at(OP, name, start, line_of(line, fact)))?;
            if !more {
                break;
            }
            let columns = table.names.len();
            if std::mem::take(&mut first) {
                let named = |k: usize, cell: &(u32, u32)| match options.header {
                    true => unquoted(text_of(&table.text, *cell)).trim().to_string(),
                    false => k.to_string(),
                };
                table.names = record.iter().enumerate().map(|(k, cell)| named(k, cell)).collect();
                let mut seen = BTreeMap::new();
                let mut columns = table.names.iter().zip(0usize..);
                if let Some((twice, _)) = columns.find(|(name, k)| seen.insert(name.to_string(), *k).is_some()) {
                    return Err(fault_at(OP, name, start, line_of(line, format!("the column {twice:?} comes twice"))));
                }
                if options.header {
                    continue;
                }
            } else if record.len() != columns {
                let fact = format!("{columns} cells were expected, got {}", record.len());
                return Err(fault_at(OP, name, start, line_of(line, fact)));
            }
            table.cells.extend_from_slice(&record);
        }
        Ok(table)
    }

    /// The columns' names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many rows there are, without the header.
    pub fn rows(&self) -> usize {
        self.cells.len().checked_div(self.names.len()).unwrap_or(0)
    }

    /// The text of a cell, without its quotes; none where there is no such row or column.
    pub fn cell(&self, row: usize, column: usize) -> Option<Cow<'_, str>> {
        let place = row.checked_mul(self.names.len())?.checked_add(column).filter(|_| column < self.names.len())?;
        Some(unquoted(text_of(&self.text, *self.cells.get(place)?)))
    }

    /// Columns as numbers: `f32 [rows, columns]`.
    pub fn numbers(&self, columns: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Array> {
        let columns = columns.into_iter().map(|name| self.column(name.as_ref())).collect::<Result<Vec<usize>>>()?;
        self.numbers_of(&columns)
    }

    /// Neighbouring columns as numbers: `f32 [rows, columns]`.
    pub fn numbers_in(&self, columns: Range<usize>) -> Result<Array> {
        if columns.end > self.names.len() {
            let fact = format!("columns {columns:?} of {}", self.names.len());
            return Err(fault(OP, &self.name, fact));
        }
        self.numbers_of(&columns.collect::<Vec<usize>>())
    }

    fn numbers_of(&self, columns: &[usize]) -> Result<Array> {
        let mut found = Vec::with_capacity(self.rows().saturating_mul(columns.len()));
        for row in 0..self.rows() {
            for &column in columns {
                found.push(self.parsed(
                    row,
                    column,
                    "a number",
                    |text| Some(float::parse(text, float::F32)? as f32),
                )?);
            }
        }
        Array::new(&found, [self.rows(), columns.len()])
    }

    /// A column as whole numbers: `i32 [rows]`.
    pub fn integers(&self, column: &str) -> Result<Array> {
        let column = self.column(column)?;
        let found =
            (0..self.rows()).map(|row| self.parsed(row, column, "a whole number", |text| text.parse::<i32>().ok()));
        Array::new(&found.collect::<Result<Vec<i32>>>()?, [self.rows()])
    }

    /// A column as classes: `i32 [rows]`, and the texts they stand for, in alphabetical order.
    pub fn classes(&self, column: &str) -> Result<(Array, Vec<String>)> {
        let column = self.column(column)?;
        let cells: Vec<Cow<'_, str>> = (0..self.rows()).filter_map(|row| self.cell(row, column)).collect();
        let names: Vec<&str> = cells.iter().map(|cell| &**cell).collect::<BTreeSet<&str>>().into_iter().collect();
        // Every cell is among the names, which are in order.
        let classes: Vec<i32> =
            cells.iter().map(|cell| names.binary_search(&&**cell).unwrap_or_default() as i32).collect();
        Ok((Array::new(&classes, [self.rows()])?, names.into_iter().map(str::to_string).collect()))
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
        let wrong = |&label: &i32| usize::try_from(label).map_or(true, |label| label >= classes);
        if let Some(row) = labels.to_vec::<i32>()?.iter().position(wrong) {
            return Err(self.wrong(row, self.column(y)?, &format!("a class of 0 to {}", classes.saturating_sub(1))));
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

    fn column(&self, name: &str) -> Result<usize> {
        let none = || fault(OP, &self.name, format!("no column {name:?}; there are {}", listed(&self.names)));
        self.names.iter().position(|other| other == name).ok_or_else(none)
    }

    fn parsed<T>(&self, row: usize, column: usize, what: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
        let cell = self.cell(row, column).unwrap_or_default();
        parse(cell.trim()).ok_or_else(|| self.wrong(row, column, what))
    }

    /// The error of a cell that is not `what`.
    fn wrong(&self, row: usize, column: usize, what: &str) -> Error {
        let at = self.cells.get(row * self.names.len() + column).map_or(0, |cell| cell.0 as usize);
        // Counted only now: lines may hold quoted line breaks and blank ones lie between.
        let line = self.text.get(..at).unwrap_or("").matches('\n').count() + 1;
        let name = self.names.get(column).map_or("", String::as_str);
        let cell = self.cell(row, column).unwrap_or_default();
        let short: String = cell.chars().take(40).collect();
        let fact = format!("column {} ({name:?}): {what} was expected, got {short:?}", column + 1);
        fault_at(OP, &self.name, at, line_of(line, fact))
    }
}

fn line_of(line: usize, fact: impl std::fmt::Display) -> String {
    format!("line {line}: {fact}")
}

/// The first names, for an error.
fn listed(names: &[String]) -> String {
    let more = if names.len() > 10 { ", …" } else { "" };
    format!("{:?}{more}", names.iter().take(10).collect::<Vec<_>>())
}

fn text_of(text: &str, (start, end): (u32, u32)) -> &str {
    text.get(start as usize..end as usize).unwrap_or("")
}

/// A cell without the quotes around it, and with doubled ones in it made single.
fn unquoted(cell: &str) -> Cow<'_, str> {
    match cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')) {
        Some(inner) if inner.contains("\"\"") => inner.replace("\"\"", "\"").into(),
        Some(inner) => inner.into(),
        None => cell.into(),
    }
}

/// A walk over the records of a text.
struct Scan<'a> {
    bytes: &'a [u8],
    delimiter: u8,
    at: usize,
    line: usize,
    /// Where the record at hand begins.
    start: usize,
    start_line: usize,
}

impl Scan<'_> {
    fn new(text: &str, delimiter: char) -> Scan<'_> {
        // What some programs put in front of UTF-8.
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Scan { bytes: text.as_bytes(), delimiter: delimiter as u8, at, line: 1, start: at, start_line: 1 }
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The cells of the next record that is not blank; false at the end.
    fn record(&mut self, cells: &mut Vec<(u32, u32)>) -> Result<bool, String> {
        cells.clear();
        while let Some(byte @ (b'\n' | b'\r')) = self.byte() {
            self.line += usize::from(byte == b'\n');
            self.at += 1;
        }
        (self.start, self.start_line) = (self.at, self.line);
        if self.byte().is_none() {
            return Ok(false);
        }
        loop {
            let start = self.at;
            if self.byte() == Some(b'"') {
                self.quoted()?;
            } else {
                while self.byte().is_some_and(|byte| byte != self.delimiter && byte != b'\n' && byte != b'\r') {
                    self.at += 1;
                }
            }
            // The text has less than 2^32 bytes.
            cells.push((start as u32, self.at as u32));
            match self.byte() {
                Some(byte) if byte == self.delimiter => self.at += 1,
                Some(b'\n' | b'\r') | None => return Ok(true),
                Some(_) => return Err("text after a cell's closing quote".into()),
            }
        }
    }

    /// Steps over a quoted cell.
    fn quoted(&mut self) -> Result<(), String> {
        self.at += 1;
        loop {
            match self.byte() {
                Some(b'"') if self.bytes.get(self.at + 1) == Some(&b'"') => self.at += 2,
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(byte) => {
                    self.line += usize::from(byte == b'\n');
                    self.at += 1;
                }
                None => return Err("a quoted cell does not end".into()),
            }
        }
    }
}

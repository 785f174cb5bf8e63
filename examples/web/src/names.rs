//! Short names for what a page's wasm and its glue call each other: the long ones end in hashes,
//! which no packing makes smaller. What tools noted in the wasm goes, too.

use std::collections::HashMap;

/// What tools tell each other, and nobody else reads.
const CUSTOM: u8 = 0;
/// The sections that name things, by their number in the format.
const IMPORTS: u8 = 2;
const EXPORTS: u8 = 7;

/// `wasm` and its `glue` with other names for imports, and for the exports that only the glue knows;
/// none where `wasm` is not what it should be.
pub fn shorten(wasm: &[u8], glue: &str) -> Option<(Vec<u8>, String)> {
    let mut names = HashMap::new();
    let mut short = |name: &str| {
        let number = names.len();
        names.entry(name.to_string()).or_insert_with(|| format!("w_{number:x}")).clone()
    };
    let (head, mut rest) = wasm.split_at_checked(8)?;
    let mut out = head.to_vec();
    while let Some((&id, after)) = rest.split_first() {
        rest = after;
        let size = number(&mut rest)?;
        let (section, after) = rest.split_at_checked(size)?;
        rest = after;
        let section = match id {
            IMPORTS => imports(section, &mut short)?,
            EXPORTS => exports(section, &mut short)?,
            CUSTOM => continue,
            _ => section.to_vec(),
        };
        out.push(id);
        put_number(&mut out, section.len());
        out.extend(section);
    }
    // Whole words of the glue, so that no name is taken for the beginning of another.
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let mut text = String::with_capacity(glue.len());
    let mut left = glue;
    while !left.is_empty() {
        let end = left.find(|c| !is_word(c)).unwrap_or(left.len());
        let (word, after) = left.split_at(end);
        text.push_str(names.get(word).map_or(word, String::as_str));
        let next = after.find(is_word).unwrap_or(after.len());
        text.push_str(&after[..next]);
        left = &after[next..];
    }
    Some((out, text))
}

/// The section of imports: each has a module, a name and what it is, of functions two numbers.
fn imports(mut section: &[u8], short: &mut impl FnMut(&str) -> String) -> Option<Vec<u8>> {
    let n = number(&mut section)?;
    let mut out = Vec::new();
    put_number(&mut out, n);
    for _ in 0..n {
        put_name(&mut out, name(&mut section)?);
        put_name(&mut out, &short(name(&mut section)?));
        let (&kind, after) = section.split_first().filter(|(kind, _)| **kind == 0)?;
        section = after;
        out.push(kind);
        put_number(&mut out, number(&mut section)?);
    }
    section.is_empty().then_some(out)
}

/// The section of exports: each has a name, what it is, and its number.
fn exports(mut section: &[u8], short: &mut impl FnMut(&str) -> String) -> Option<Vec<u8>> {
    let n = number(&mut section)?;
    let mut out = Vec::new();
    put_number(&mut out, n);
    for _ in 0..n {
        let long = name(&mut section)?;
        // Closures are called by the glue alone; everything else has a name that a page may use.
        let renamed = if long.contains("convert__closures") { short(long) } else { long.to_string() };
        put_name(&mut out, &renamed);
        let (&kind, after) = section.split_first()?;
        section = after;
        out.push(kind);
        put_number(&mut out, number(&mut section)?);
    }
    section.is_empty().then_some(out)
}

/// A number of seven bits a byte, the lowest first.
fn number(bytes: &mut &[u8]) -> Option<usize> {
    let mut n = 0;
    for shift in (0..32).step_by(7) {
        let (&byte, after) = bytes.split_first()?;
        *bytes = after;
        n |= usize::from(byte & 127) << shift;
        if byte < 128 {
            return Some(n);
        }
    }
    None
}

fn put_number(out: &mut Vec<u8>, mut n: usize) {
    while n > 127 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}

fn name<'b>(bytes: &mut &'b [u8]) -> Option<&'b str> {
    let size = number(bytes)?;
    let (name, after) = bytes.split_at_checked(size)?;
    *bytes = after;
    std::str::from_utf8(name).ok()
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    put_number(out, name.len());
    out.extend(name.as_bytes());
}

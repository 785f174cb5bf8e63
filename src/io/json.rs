//! JSON, strictly: a reader that is pulled, a tree on top of it, and a writer.
//!
//! The puller never builds more than its caller asks for. Objects keep their order and refuse a key
//! twice; integers are exact to 128 bits. Knows no schema.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::io::float;

/// Deepest nesting of arrays and objects.
const DEPTH_MAX: usize = 64;

/// What is wrong, and at which byte.
#[derive(Debug)]
pub(crate) struct Fault {
    /// The byte, from the text's start.
    pub at: usize,
    /// What is wrong there.
    pub fact: String,
}

/// A JSON text being read value by value.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// A value of JSON; `Display` writes it on one line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// A whole number of 64 bits, with a sign or without.
    Int(i128),
    /// Numbers that are not finite are written as `null`, which JSON has instead of them.
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl<'a> Reader<'a> {
    /// A reader before the first value of `bytes`, which must be UTF-8.
    pub fn new(bytes: &'a [u8]) -> Result<Reader<'a>, Fault> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Reader { text, at: 0, depth: 0 }),
            Err(error) => Err(Fault { at: error.valid_up_to(), fact: "the text is not UTF-8".into() }),
        }
    }

    /// Checks that nothing but space is left.
    pub fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fault("the end was expected")),
        }
    }

    /// An object: `f` reads the value of each key.
    pub fn object(&mut self, f: &mut dyn FnMut(&mut Self, String) -> Result<(), Fault>) -> Result<(), Fault> {
        self.sequence(b'{', b'}', &mut |reader| {
            let key = reader.string()?;
            reader.token(b':')?;
            f(reader, key)
        })
    }

    /// An array: `f` reads each value.
    pub fn array(&mut self, f: &mut dyn FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.sequence(b'[', b']', f)
    }

    /// A whole number that is not negative.
    pub fn u64(&mut self) -> Result<u64, Fault> {
        let at = self.place();
        match self.number()? {
            Value::Int(x) if u64::try_from(x).is_ok() => Ok(x as u64),
            _ => Err(Fault { at, fact: "a whole number from 0 to 2^64 - 1 was expected".into() }),
        }
    }

    /// A string.
    pub fn string(&mut self) -> Result<String, Fault> {
        self.token(b'"')?;
        let mut found = String::new();
        loop {
            let rest = self.rest();
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            found.push_str(rest.get(..plain).unwrap_or(""));
            self.at += plain;
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(found);
                }
                Some(b'\\') => {
                    self.at += 1;
                    found.push(self.escape()?);
                }
                Some(_) => return Err(self.fault("a control character in a string")),
                None => return Err(self.fault("a string does not end")),
            }
        }
    }

    /// Any value, as a tree.
    pub fn value(&mut self) -> Result<Value, Fault> {
        match self.peek() {
            Some(b'{') => {
                let (mut fields, mut keys) = (Vec::new(), BTreeMap::new());
                self.object(&mut |reader, key| {
                    if keys.insert(key.clone(), fields.len()).is_some() {
                        return Err(reader.fault(format!("the key {key:?} comes twice")));
                    }
                    fields.push((key, reader.value()?));
                    Ok(())
                })?;
                Ok(Value::Object(fields))
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.array(&mut |reader| {
                    items.push(reader.value()?);
                    Ok(())
                })?;
                Ok(Value::List(items))
            }
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let words = [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))];
                match words.into_iter().find(|(word, _)| self.rest().starts_with(word)) {
                    Some((word, value)) => {
                        self.at += word.len();
                        Ok(value)
                    }
                    None => Err(self.fault("a value was expected")),
                }
            }
        }
    }

    /// An error about where the reader stands.
    pub fn fault(&self, fact: impl Into<String>) -> Fault {
        Fault { at: self.at, fact: fact.into() }
    }

    /// Where the next token begins.
    pub fn place(&mut self) -> usize {
        self.peek();
        self.at
    }

    fn sequence(
        &mut self,
        open: u8,
        close: u8,
        f: &mut dyn FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.token(open)?;
        if self.depth == DEPTH_MAX {
            return Err(self.fault(format!("nested deeper than {DEPTH_MAX}")));
        }
        self.depth += 1;
        if self.peek() != Some(close) {
            f(self)?;
            while self.peek() == Some(b',') {
                self.at += 1;
                f(self)?;
            }
        }
        self.depth -= 1;
        self.token(close)
    }

    /// The character an escape stands for; the backslash was read.
    fn escape(&mut self) -> Result<char, Fault> {
        let start = self.at;
        let kind = self.byte();
        self.at += usize::from(kind.is_some_and(|b| b.is_ascii()));
        let found = match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let high = self.hex4()?;
                let mut code = high;
                // A character beyond 16 bits comes as two halves.
                if (0xd800..0xdc00).contains(&high) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    let low = self.hex4()?;
                    let paired = (0xdc00..0xe000).contains(&low);
                    code = if paired { 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00) } else { high };
                }
                match char::from_u32(code) {
                    Some(c) => c,
                    None => return Err(Fault { at: start, fact: "half of a character".into() }),
                }
            }
            _ => return Err(Fault { at: start, fact: "there is no such escape".into() }),
        };
        Ok(found)
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => Err(self.fault("four hexadecimal digits were expected")),
        }
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let start = self.place();
        self.at += usize::from(self.byte() == Some(b'-'));
        let leading_zero = self.byte() == Some(b'0');
        let whole = self.digits()?;
        if leading_zero && whole > 1 {
            return Err(Fault { at: start, fact: "a number with a leading 0".into() });
        }
        let mut float = false;
        if self.byte() == Some(b'.') {
            (self.at, float) = (self.at + 1, true);
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            (self.at, float) = (self.at + 1, true);
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or("");
        let int = if float { None } else { whole_number(text).map(Value::Int) };
        let found = int.or_else(|| float::parse(text, float::F64).map(Value::Float));
        found.ok_or_else(|| Fault { at: start, fact: "a number beyond 64-bit floats".into() })
    }

    fn digits(&mut self) -> Result<usize, Fault> {
        let n = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += n;
        if n == 0 { Err(self.fault("a digit was expected")) } else { Ok(n) }
    }

    fn token(&mut self, token: u8) -> Result<(), Fault> {
        if self.peek() != Some(token) {
            return Err(self.fault(format!("{:?} was expected", char::from(token))));
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }
}

impl Value {
    /// The only value of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Value, Fault> {
        let mut reader = Reader::new(bytes)?;
        let value = reader.value()?;
        reader.end()?;
        Ok(value)
    }

    /// An object of these fields, of equal names the last.
    pub fn object(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
        let mut found: Vec<(String, Value)> = Vec::new();
        for (name, value) in fields {
            match found.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => found.push((name, value)),
            }
        }
        Value::Object(found)
    }

    /// The value of `key`, when this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Object(fields) => fields.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// `text` as a JSON string, with its quotes.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing into a string does not fail.
            c if c < ' ' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An integer of 64 bits, with a sign or without.
fn whole_number(text: &str) -> Option<i128> {
    text.parse::<i64>().map(i128::from).or_else(|_| text.parse::<u64>().map(i128::from)).ok()
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(x) => write!(f, "{x}"),
            Value::Int(x) => write!(f, "{}{}", if *x < 0 { "-" } else { "" }, x.unsigned_abs() as u64),
            // `{:?}` keeps a dot or an exponent, so that it is read back as a float.
            Value::Float(x) if x.is_finite() => write!(f, "{x:?}"),
            Value::Float(_) => f.write_str("null"),
            Value::Text(text) => f.write_str(&quoted(text)),
            Value::List(items) => {
                f.write_char('[')?;
                for (k, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if k > 0 { "," } else { "" })?;
                }
                f.write_char(']')
            }
            Value::Object(fields) => {
                f.write_char('{')?;
                for (k, (key, value)) in fields.iter().enumerate() {
                    write!(f, "{}{}:{value}", if k > 0 { "," } else { "" }, quoted(key))?;
                }
                f.write_char('}')
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let text = r#"{"a":[1,-2.5,1e+300,18446744073709551615,-9223372036854775808,18446744073709551616],"b\"\u0001\n":{"é😀":null},"c":[true,false,[],{}]}"#;
        let value = Value::parse(text.as_bytes()).unwrap();
        assert_eq!(Value::parse(value.to_string().as_bytes()).unwrap(), value);
        assert_eq!(Value::parse(br#""\ud83d\ude00\u00e9\/""#).unwrap(), Value::Text("😀é/".into()));
        assert_eq!(Value::Float(1.0).to_string(), "1.0");
        assert_eq!(Value::Float(f64::NAN).to_string(), "null");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_byte() {
        let deep = "[".repeat(100);
        let cases = [
            ("", 0, "a value was expected"),
            ("[1,]", 3, "a value was expected"),
            ("{\"a\":1,\"a\":2}", 11, "the key \"a\" comes twice"),
            ("01", 0, "a number with a leading 0"),
            ("1.", 2, "a digit was expected"),
            ("-", 1, "a digit was expected"),
            ("1e999", 0, "a number beyond 64-bit floats"),
            ("\"a\nb\"", 2, "a control character in a string"),
            ("\"abc", 4, "a string does not end"),
            ("\"\\x\"", 2, "there is no such escape"),
            ("\"\\ud800\"", 2, "half of a character"),
            ("\"\\u12g4\"", 3, "four hexadecimal digits were expected"),
            ("nul", 0, "a value was expected"),
            ("1 1", 2, "the end was expected"),
            (&deep, 65, "nested deeper than 64"),
        ];
        for (text, at, fact) in cases {
            let found = Value::parse(text.as_bytes()).unwrap_err();
            assert_eq!((found.at, found.fact.as_str()), (at, fact), "{text}");
        }
        assert_eq!(Value::parse(b"\"\xff\"").unwrap_err().at, 1);
    }
}

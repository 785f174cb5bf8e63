//! The table of contents of a store: path, shape, dtype and count of every cell.

use std::fmt;

use crate::params::{Kind, Params};

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["path", "shape", "dtype", "count"].map(String::from).to_vec()];
        let mut frozen = 0;
        for (path, param) in self.paths() {
            let value = param.value();
            if let Some(error) = value.error() {
                rows.push(vec![path, error.to_string(), String::new(), String::new()]);
                continue;
            }
            let own = param.path();
            let note = match param.kind() {
                _ if own != path => format!("= {own}"),
                Kind::Buffer => "(buffer)".into(),
                Kind::Weight if param.is_frozen() => {
                    frozen += value.numel();
                    format!("{} (frozen)", grouped(value.numel()))
                }
                Kind::Weight => grouped(value.numel()),
            };
            rows.push(vec![path, value.shape().to_string(), value.dtype().to_string(), note]);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        for row in &rows {
            writeln!(
                f,
                "{:<a$}  {:<b$}  {:<c$}  {}",
                row[0],
                row[1],
                row[2],
                row[3],
                a = widths[0],
                b = widths[1],
                c = widths[2]
            )?;
        }
        write!(f, "{} parameters", grouped(self.count()))?;
        if frozen > 0 { write!(f, ", {} of them frozen", grouped(frozen)) } else { Ok(()) }
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({:?}, {} cells, {} parameters on {})", self.prefix, self.len(), self.count(), self.device())
    }
}

/// A number with its thousands apart.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (k, digit) in digits.chars().enumerate() {
        if k > 0 && (digits.len() - k).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

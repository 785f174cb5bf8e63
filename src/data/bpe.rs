//! Byte-pair encoding: tokens that grow by merging the most frequent pairs.
//!
//! Trained on any text, equal on every machine: of equally frequent pairs the smaller one is merged.
//! Words are cut before spaces, so that no token spans two. Knows no vocabulary of another model.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::data::text::Tokenizer;
use crate::error::Result;
use crate::io::file::{fault, fault_at, read, write_atomically};
use crate::io::json::{Reader, Value};

const OP: &str = "bpe";
/// The tokens that are there from the beginning: the bytes.
const BYTES: u32 = 256;
/// Most merges a file may have.
const MERGES_MAX: usize = 1 << 20;
/// Longest token of a file, in bytes.
const TOKEN_BYTES_MAX: usize = WORD_BYTES_MAX;

/// A trainable tokeniser of byte pairs; any text can be encoded, and decodes to itself.
///
/// ```
/// use wgrad::data::{Bpe, Tokenizer};
/// let bpe = Bpe::train("the cat and the hat and the rat", 270);
/// let tokens = bpe.encode("the bat");
/// assert!(tokens.len() < 7);
/// assert_eq!(bpe.decode(&tokens), "the bat");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bpe {
    /// What each merge joins, in the order they were learned; merge `k` makes token 256 + `k`.
    merges: Vec<(u32, u32)>,
    ranks: HashMap<(u32, u32), u32>,
    /// The bytes of every token.
    bytes: Vec<Vec<u8>>,
}

impl Bpe {
    /// Learns at most `vocab_size` tokens from `text`, the 256 bytes among them; fewer when no pair
    /// is left that comes twice.
    pub fn train(text: &str, vocab_size: usize) -> Bpe {
        let mut counts: BTreeMap<&[u8], u64> = BTreeMap::new();
        words(text.as_bytes()).for_each(|word| *counts.entry(word).or_default() += 1);
        let mut words: Vec<(Vec<u32>, u64)> =
            counts.into_iter().map(|(word, n)| (word.iter().map(|&b| u32::from(b)).collect(), n)).collect();
        // Pairs with their frequency, and the words they are in or once were.
        let mut pairs: HashMap<(u32, u32), (i64, Vec<usize>)> = HashMap::new();
        for (k, (word, n)) in words.iter().enumerate() {
            for pair in pairs_of(word) {
                let entry = pairs.entry(pair).or_default();
                entry.0 += *n as i64;
                entry.1.push(k);
            }
        }
        let mut merges = Vec::new();
        while BYTES as usize + merges.len() < vocab_size && merges.len() < MERGES_MAX {
            let better = |a: &(u32, u32), n: i64, b: &(u32, u32), m: i64| n > m || (n == m && a < b);
            let mut best: Option<((u32, u32), i64)> = None;
            for (pair, (n, _)) in &pairs {
                if *n > 1 && best.is_none_or(|(other, m)| better(pair, *n, &other, m)) {
                    best = Some((*pair, *n));
                }
            }
            let Some((pair, _)) = best else { break };
            let token = BYTES + merges.len() as u32;
            merges.push(pair);
            let Some((_, mut places)) = pairs.remove(&pair) else { break };
            places.sort_unstable();
            places.dedup();
            for k in places {
                let Some((word, n)) = words.get_mut(k) else { continue };
                let merged = merge(word, pair, token);
                for old in pairs_of(word) {
                    if let Some(entry) = pairs.get_mut(&old) {
                        entry.0 -= *n as i64;
                    }
                }
                for new in pairs_of(&merged) {
                    let entry = pairs.entry(new).or_default();
                    entry.0 += *n as i64;
                    if entry.1.last() != Some(&k) {
                        entry.1.push(k);
                    }
                }
                *word = merged;
            }
            pairs.retain(|_, (n, _)| *n > 0);
        }
        Bpe::of_merges(merges)
    }

    /// The tokeniser of these merges, whose parts are tokens made before.
    fn of_merges(merges: Vec<(u32, u32)>) -> Bpe {
        let mut bytes: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        let mut ranks = HashMap::new();
        for (k, (left, right)) in merges.iter().enumerate() {
            let part = |token: u32| bytes.get(token as usize).map_or(&[][..], Vec::as_slice);
            bytes.push([part(*left), part(*right)].concat());
            ranks.insert((*left, *right), BYTES + k as u32);
        }
        Bpe { merges, ranks, bytes }
    }

    /// Writes the merges as JSON; a crash leaves the old file or the new one whole.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let bytes = self.to_bytes();
        write_atomically(path, |out| out.put(&bytes))
    }

    /// The merges as JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        let pair = |&(left, right): &(u32, u32)| Value::List(vec![Value::Int(left.into()), Value::Int(right.into())]);
        let merges = Value::List(self.merges.iter().map(pair).collect());
        Value::Object(vec![("type".into(), Value::Text("bpe".into())), ("merges".into(), merges)])
            .to_string()
            .into_bytes()
    }

    /// Reads what [`Bpe::save`] wrote.
    pub fn load(path: impl AsRef<Path>) -> Result<Bpe> {
        let path = path.as_ref();
        Bpe::from_bytes(&path.display().to_string(), &read(OP, path)?)
    }

    /// Reads what [`Bpe::to_bytes`] wrote; errors call it `name`.
    ///
    /// ```
    /// use wgrad::data::Bpe;
    /// let bpe = Bpe::train("aaaa", 258);
    /// assert_eq!(Bpe::from_bytes("bpe.json", &bpe.to_bytes())?, bpe);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    pub fn from_bytes(name: &str, text: &[u8]) -> Result<Bpe> {
        let (mut merges, mut lengths, mut kind) = (Vec::new(), vec![1usize; BYTES as usize], None);
        let mut parse = || {
            let mut reader = Reader::new(text)?;
            reader.object(&mut |reader, key| match key.as_str() {
                "type" => {
                    kind = Some(reader.string()?);
                    Ok(())
                }
                "merges" => reader.array(&mut |reader| {
                    let at = reader.place();
                    let mut pair = Vec::new();
                    reader.array(&mut |reader| {
                        let known = lengths.len() as u64;
                        let token = reader.u64()?;
                        if token >= known || pair.len() == 2 {
                            return Err(reader.fault(format!("two tokens below {known} were expected")));
                        }
                        pair.push(token as u32);
                        Ok(())
                    })?;
                    let &[left, right] = pair.as_slice() else {
                        return Err(reader.fault("two tokens were expected"));
                    };
                    let length = |token: u32| lengths.get(token as usize).copied().unwrap_or(0);
                    let both = length(left) + length(right);
                    if both > TOKEN_BYTES_MAX || merges.len() == MERGES_MAX {
                        let fact = format!("more than {MERGES_MAX} merges, or a token of {both} bytes");
                        return Err(crate::io::json::Fault { at, fact });
                    }
                    lengths.push(both);
                    merges.push((left, right));
                    Ok(())
                }),
                _ => Err(reader.fault(format!("{key:?} is no key of a tokeniser"))),
            })?;
            reader.end()
        };
        parse().map_err(|fault| fault_at(OP, name, fault.at, fault.fact))?;
        match kind.as_deref() {
            Some("bpe") => Ok(Bpe::of_merges(merges)),
            _ => Err(fault(OP, name, "the type \"bpe\" was expected")),
        }
    }

    /// The bytes of a token; none where there is no such token.
    pub fn token(&self, token: u32) -> Option<&[u8]> {
        self.bytes.get(token as usize).map(Vec::as_slice)
    }
}

impl Tokenizer for Bpe {
    fn vocab_size(&self) -> usize {
        self.bytes.len()
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        let mut known: HashMap<&[u8], Vec<u32>> = HashMap::new();
        let mut out = Vec::new();
        for word in words(text.as_bytes()) {
            let tokens = known.entry(word).or_insert_with(|| {
                let mut tokens: Vec<u32> = word.iter().map(|&b| u32::from(b)).collect();
                // The merge that was learned first goes first.
                while let Some((token, pair)) =
                    pairs_of(&tokens).filter_map(|pair| self.ranks.get(&pair).map(|&token| (token, pair))).min()
                {
                    tokens = merge(&tokens, pair, token);
                }
                tokens
            });
            out.extend_from_slice(tokens);
        }
        out
    }

    fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        tokens.iter().filter_map(|&token| self.token(token)).flatten().copied().collect()
    }
}

/// Longest word: a text without spaces is cut, so that encoding takes no time in its square.
const WORD_BYTES_MAX: usize = 256;

/// The words of a text: a run of letters, digits, other characters or white space each, with one
/// space in front of the former where there is one.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let class = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 128.. => 0,
        b'0'..=b'9' => 1,
        b' ' | b'\t' | b'\n' | b'\r' => 2,
        _ => 3,
    };
    let mut rest = text;
    std::iter::from_fn(move || {
        let &first = rest.first()?;
        let kind = match (first, rest.get(1)) {
            (b' ', Some(&second)) => class(second),
            _ => class(first),
        };
        let run = rest.iter().skip(1).take(WORD_BYTES_MAX - 1).take_while(|&&byte| class(byte) == kind).count();
        let (word, after) = rest.split_at_checked(1 + run)?;
        rest = after;
        Some(word)
    })
}

fn pairs_of(tokens: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    tokens.iter().copied().zip(tokens.iter().skip(1).copied())
}

/// `tokens` with each `pair` replaced by `token`, from the left.
fn merge(tokens: &[u32], pair: (u32, u32), token: u32) -> Vec<u32> {
    let mut out = Vec::with_capacity(tokens.len());
    let mut k = 0;
    while let Some(&this) = tokens.get(k) {
        let merges = this == pair.0 && tokens.get(k + 1) == Some(&pair.1);
        out.push(if merges { token } else { this });
        k += if merges { 2 } else { 1 };
    }
    out
}

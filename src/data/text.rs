//! Text as tokens: the tokeniser of bytes, and a dataset of windows over a long text.
//!
//! Knows tokens as numbers; how pairs of bytes become longer tokens is `bpe`'s.

use crate::data::array::Array;
use crate::data::dataset::{Dataset, Sample};
use crate::data::hash::FileHash;
use crate::error::{Error, ErrorKind, Result};

/// Turns text into numbers and back.
pub trait Tokenizer: Send + Sync {
    /// How many tokens there are; each is less.
    fn vocab_size(&self) -> usize;

    /// The tokens of `text`.
    fn encode(&self, text: &str) -> Vec<u32>;

    /// The bytes that `tokens` stand for; a number that is no token stands for none.
    fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8>;

    /// The text that `tokens` stand for; what is not UTF-8 becomes `U+FFFD`.
    fn decode(&self, tokens: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(tokens)).into_owned()
    }
}

/// Each byte of the UTF-8 text is a token, from 0 to 255.
///
/// ```
/// use wgrad::data::{ByteTokenizer, Tokenizer};
/// assert_eq!(ByteTokenizer.encode("hé"), [104, 195, 169]);
/// assert_eq!(ByteTokenizer.decode(&[104, 195, 169]), "hé");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteTokenizer;

impl Tokenizer for ByteTokenizer {
    fn vocab_size(&self) -> usize {
        256
    }
    fn encode(&self, text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }
    fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        tokens.iter().filter_map(|&token| u8::try_from(token).ok()).collect()
    }
}

/// Windows of a long text: `x` is `length` tokens as `i32`, `y` the same shifted by one.
///
/// ```
/// use wgrad::data::{ByteTokenizer, Dataset, TokenDataset, Tokenizer};
/// let data = TokenDataset::new(&ByteTokenizer.encode("abcd"), 2, 1)?;
/// assert_eq!(data.len(), 2);
/// let sample = data.get(1)?;
/// assert_eq!((sample.x.to_vec::<i32>()?, sample.y.to_vec::<i32>()?), (vec![98, 99], vec![99, 100]));
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenDataset {
    tokens: Vec<i32>,
    length: usize,
    stride: usize,
    files: Vec<FileHash>,
}

impl TokenDataset {
    /// Windows of `length` tokens, the next one `stride` after the last.
    pub fn new(tokens: &[u32], length: usize, stride: usize) -> Result<TokenDataset> {
        let refuse = |fact: String| Err(Error::new(ErrorKind::Operand, "tokens", fact));
        if length == 0 || stride == 0 {
            return refuse(format!("windows of {length} tokens in steps of {stride}"));
        }
        if tokens.len() <= length {
            return refuse(format!("{} tokens have no window of {length} and one more", tokens.len()));
        }
        match tokens.iter().map(|&token| i32::try_from(token)).collect::<Result<Vec<i32>, _>>() {
            Ok(tokens) => Ok(TokenDataset { tokens, length, stride, files: Vec::new() }),
            Err(_) => refuse("a token does not fit i32".into()),
        }
    }

    /// The same windows, of a text that came from `files`.
    pub fn with_files(mut self, files: Vec<FileHash>) -> TokenDataset {
        self.files = files;
        self
    }
}

impl Dataset for TokenDataset {
    fn len(&self) -> usize {
        // There is one window at least.
        (self.tokens.len() - self.length - 1) / self.stride + 1
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let window = |shift: usize| {
            let start = index.checked_mul(self.stride)?.checked_add(shift)?;
            self.tokens.get(start..start.checked_add(self.length)?)
        };
        match (window(0), window(1)) {
            (Some(x), Some(y)) => Ok(Sample { x: Array::new(x, [self.length])?, y: Array::new(y, [self.length])? }),
            _ => Err(Error::new(ErrorKind::Operand, "tokens", format!("window {index} of {}", self.len()))),
        }
    }

    fn files(&self) -> Vec<FileHash> {
        self.files.clone()
    }
}

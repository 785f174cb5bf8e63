//! Metrics: numbers a person follows, computed on the host from a model's outputs.
//!
//! A metric sees outputs and labels batch by batch, and only the samples that are no padding.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::tensor::Tensor;
use crate::ops::loss::{ClassOptions, Reduce};

/// A number over the samples of an evaluation.
pub trait Metric {
    /// What a person calls it.
    fn name(&self) -> String;
    /// Looks at the first `n` samples of a batch.
    fn update(&mut self, outputs: &Tensor, labels: &Tensor, n: usize) -> Result<()>;
    /// The number so far.
    fn value(&self) -> f64;
    /// Forgets every sample.
    fn reset(&mut self);
    /// Whether a greater number is a better one.
    fn greater_is_better(&self) -> bool {
        true
    }
}

/// A metric that the program looks at, too, while a trainer has it.
impl<M: Metric> Metric for Rc<RefCell<M>> {
    fn name(&self) -> String {
        self.borrow().name()
    }
    fn update(&mut self, outputs: &Tensor, labels: &Tensor, n: usize) -> Result<()> {
        self.borrow_mut().update(outputs, labels, n)
    }
    fn value(&self) -> f64 {
        self.borrow().value()
    }
    fn reset(&mut self) {
        self.borrow_mut().reset();
    }
    fn greater_is_better(&self) -> bool {
        self.borrow().greater_is_better()
    }
}

/// How many classes there are scores for, and how many labels a sample has: a sequence has several.
fn fitting(word: &str, outputs: &Tensor, labels: &Tensor) -> Result<(usize, usize)> {
    let classes = outputs.dim(-1);
    outputs.check()?;
    labels.check()?;
    let rows = outputs.dims().split_last().map_or(outputs.dims(), |(_, rows)| rows);
    let alike = rows.len() == 1 || labels.dims().starts_with(rows);
    if outputs.rank() < 2 || classes == 0 || outputs.numel() / classes != labels.numel() || !alike || labels.dim(0) == 0
    {
        let fact = format!("scores {} for classes {}", outputs.shape(), labels.shape());
        return Err(Error::new(ErrorKind::Operand, word, fact));
    }
    Ok((classes, labels.numel() / labels.dim(0).max(1)))
}

/// Scores of `n` samples as rows, and their classes.
fn rows(word: &str, outputs: &Tensor, labels: &Tensor, n: usize) -> Result<(Vec<Vec<f32>>, Vec<usize>)> {
    let (classes, each) = fitting(word, outputs, labels)?;
    let scores = outputs.cast(DType::F32).to_vec::<f32>()?;
    let labels = labels.cast(DType::I32).to_vec::<i32>()?;
    let n = n.saturating_mul(each);
    let known = labels.iter().take(n).map(|&class| usize::try_from(class).unwrap_or(usize::MAX)).collect();
    Ok((scores.chunks(classes).take(n).map(<[f32]>::to_vec).collect(), known))
}

/// The class of the greatest score, the first of equals; none where one is NaN.
fn best(scores: &[f32]) -> Option<usize> {
    let greatest = scores.iter().enumerate().fold(0, |best, (k, x)| if *x > scores[best] { k } else { best });
    (!scores.iter().any(|x| x.is_nan())).then_some(greatest)
}

/// The part of samples whose greatest score is that of their class; one with a NaN is wrong.
#[derive(Clone, Debug, Default)]
pub struct Accuracy {
    right: u64,
    seen: u64,
}

impl Metric for Accuracy {
    fn name(&self) -> String {
        "accuracy".into()
    }
    fn update(&mut self, outputs: &Tensor, labels: &Tensor, n: usize) -> Result<()> {
        let (scores, labels) = rows("accuracy", outputs, labels, n)?;
        self.right += scores.iter().zip(&labels).filter(|(s, class)| best(s) == Some(**class)).count() as u64;
        self.seen += labels.len() as u64;
        Ok(())
    }
    fn value(&self) -> f64 {
        self.right as f64 / self.seen.max(1) as f64
    }
    fn reset(&mut self) {
        *self = Accuracy::default();
    }
}

/// The part of samples whose class is among the `k` greatest scores: the first of equals; one with a
/// NaN is wrong.
#[derive(Clone, Debug)]
pub struct TopK {
    k: usize,
    hits: Accuracy,
}

impl TopK {
    /// Among the `k` greatest.
    pub fn new(k: usize) -> TopK {
        TopK { k, hits: Accuracy::default() }
    }
}

impl Metric for TopK {
    fn name(&self) -> String {
        format!("top-{}", self.k)
    }
    fn update(&mut self, outputs: &Tensor, labels: &Tensor, n: usize) -> Result<()> {
        let (scores, labels) = rows("top-k", outputs, labels, n)?;
        let hit = |scores: &[f32], class: usize| {
            let Some(&own) = scores.get(class) else { return false };
            let before = |(k, &x): (usize, &f32)| x > own || (x == own && k < class);
            best(scores).is_some() && scores.iter().enumerate().filter(|&score| before(score)).count() < self.k
        };
        self.hits.right += scores.iter().zip(&labels).filter(|(s, class)| hit(s, **class)).count() as u64;
        self.hits.seen += labels.len() as u64;
        Ok(())
    }
    fn value(&self) -> f64 {
        self.hits.value()
    }
    fn reset(&mut self) {
        self.hits.reset();
    }
}

/// Most classes of a [`Confusion`], whose table then has 8 GiB.
const CLASSES_MAX: usize = 1 << 15;

/// Which class was taken for which; its value is the mean F1 of the classes.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::train::{Confusion, Metric};
/// let device = Device::cpu();
/// let mut confusion = Confusion::new(2);
/// let scores = Tensor::new([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], &device);
/// confusion.update(&scores, &Tensor::new([0, 1, 1], &device), 3)?;
/// assert_eq!(confusion.counts(), [[1, 0], [1, 1]]);
/// assert!((confusion.value() - 2.0 / 3.0).abs() < 1e-9);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Confusion {
    classes: usize,
    /// Nothing, where there are too many classes.
    counts: Vec<Vec<u64>>,
    /// How many samples of each class were taken for none, because a score was NaN.
    lost: Vec<u64>,
}

impl Confusion {
    /// For classes from 0 to `classes` - 1, at most 32768.
    pub fn new(classes: usize) -> Confusion {
        let counted = if classes > CLASSES_MAX { 0 } else { classes };
        Confusion { classes, counts: vec![vec![0; counted]; counted], lost: vec![0; counted] }
    }

    /// How many samples of each class (rows) were taken for each class (columns); one with a NaN for none.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// The harmonic mean of precision and recall of a class; 0 where nothing was right.
    pub fn f1(&self, class: usize) -> f64 {
        let Some(row) = self.counts.get(class) else { return 0.0 };
        let right = row.get(class).copied().unwrap_or(0);
        let lost = self.lost.get(class).copied().unwrap_or(0);
        let (known, taken) =
            (row.iter().sum::<u64>() + lost, self.counts.iter().filter_map(|row| row.get(class)).sum::<u64>());
        2.0 * right as f64 / (known + taken).max(1) as f64
    }
}

impl Metric for Confusion {
    fn name(&self) -> String {
        "F1".into()
    }
    fn update(&mut self, outputs: &Tensor, labels: &Tensor, n: usize) -> Result<()> {
        if self.classes > CLASSES_MAX {
            let fact = format!("{} classes, at most {CLASSES_MAX}", self.classes);
            return Err(Error::new(ErrorKind::Operand, "confusion", fact));
        }
        let (scores, labels) = rows("confusion", outputs, labels, n)?;
        for (scores, class) in scores.iter().zip(labels) {
            let count = match best(scores) {
                Some(best) => self.counts.get_mut(class).and_then(|row| row.get_mut(best)),
                None => self.lost.get_mut(class),
            };
            count.into_iter().for_each(|count| *count += 1);
        }
        Ok(())
    }
    fn value(&self) -> f64 {
        let classes = self.counts.len();
        (0..classes).map(|class| self.f1(class)).sum::<f64>() / classes.max(1) as f64
    }
    fn reset(&mut self) {
        *self = Confusion::new(self.classes);
    }
}

/// A table with classes down the side and what they were taken for along the top; nothing for 0.
impl fmt::Display for Confusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.counts.iter().flatten().copied().max().unwrap_or(0);
        let width = most.to_string().len().max(self.counts.len().to_string().len()).max(3);
        let top: String = (0..self.counts.len()).map(|class| format!(" {class:>width$}")).collect();
        writeln!(f, "is \\ taken for\n{:>14}{top}", "")?;
        for (class, row) in self.counts.iter().enumerate() {
            let cells = row.iter().map(|&n| if n == 0 { format!(" {:>width$}", "·") } else { format!(" {n:>width$}") });
            writeln!(f, "{class:>14}{}", cells.collect::<String>())?;
        }
        Ok(())
    }
}

/// How many classes a model hesitates between on average: `exp` of its mean cross entropy.
///
/// ```
/// # use wgrad::prelude::*;
/// use wgrad::train::{Metric, Perplexity};
/// let scores = Tensor::zeros([2, 3, 5], &Device::cpu()); // two texts of three tokens, five words
/// let mut perplexity = Perplexity::default();
/// perplexity.update(&scores, &Tensor::new([[0, 1, 2], [3, 4, 0]], &Device::cpu()), 2)?;
/// assert!((perplexity.value() - 5.0).abs() < 1e-5);
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Perplexity {
    sum: f64,
    seen: u64,
    ignored: Option<i32>,
}

impl Perplexity {
    /// Passes over labels of class `class`, which stand for no word.
    pub fn ignore_index(mut self, class: i32) -> Perplexity {
        self.ignored = Some(class);
        self
    }
}

impl Metric for Perplexity {
    fn name(&self) -> String {
        "perplexity".into()
    }
    fn update(&mut self, outputs: &Tensor, labels: &Tensor, n: usize) -> Result<()> {
        let (classes, each) = fitting("perplexity", outputs, labels)?;
        let scores = outputs.cast(DType::F32).reshape([-1, classes as isize]);
        let flat = labels.cast(DType::I32).reshape(-1);
        let options = ClassOptions::default().reduce(Reduce::None);
        let options = self.ignored.map_or(options.clone(), |class| options.ignore_index(class));
        let losses = scores.cross_entropy_with(&flat, options);
        crate::realize([&losses, &flat])?;
        let (losses, labels) = (losses.to_vec::<f32>()?, flat.to_vec::<i32>()?);
        for (loss, _) in losses.iter().zip(labels).take(n * each).filter(|(_, class)| Some(*class) != self.ignored) {
            self.sum += f64::from(*loss);
            self.seen += 1;
        }
        Ok(())
    }
    fn value(&self) -> f64 {
        (self.sum / self.seen.max(1) as f64).exp()
    }
    fn reset(&mut self) {
        *self = Perplexity { ignored: self.ignored, ..Perplexity::default() };
    }
    fn greater_is_better(&self) -> bool {
        false
    }
}

/// How far each output of the first `n` samples is from its label.
fn gaps(word: &str, outputs: &Tensor, labels: &Tensor, n: usize) -> Result<Vec<f32>> {
    outputs.check()?;
    labels.check()?;
    if outputs.numel() != labels.numel() {
        let fact = format!("outputs {} for labels {}", outputs.shape(), labels.shape());
        return Err(Error::new(ErrorKind::Operand, word, fact));
    }
    // Small integers would wrap.
    let [outputs, labels] = [outputs, labels].map(|x| x.cast(DType::F32));
    let each = outputs.numel() / outputs.dims().first().map_or(1, |&n| n.max(1));
    let mut gaps = (outputs.reshape(-1) - labels.reshape(-1)).to_vec::<f32>()?;
    gaps.truncate(n.saturating_mul(each));
    Ok(gaps)
}

macro_rules! regression {
    ($(#[$doc:meta])* $name:ident $word:literal, |$d:ident| $each:expr, |$mean:ident| $value:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            sum: f64,
            seen: u64,
        }

        impl Metric for $name {
            fn name(&self) -> String {
                $word.into()
            }
            fn update(&mut self, outputs: &Tensor, labels: &Tensor, n: usize) -> Result<()> {
                let gaps = gaps($word, outputs, labels, n)?;
                self.sum += gaps.iter().map(|&x| { let $d = f64::from(x); $each }).sum::<f64>();
                self.seen += gaps.len() as u64;
                Ok(())
            }
            fn value(&self) -> f64 {
                let $mean = self.sum / self.seen.max(1) as f64;
                $value
            }
            fn reset(&mut self) {
                *self = $name::default();
            }
            fn greater_is_better(&self) -> bool {
                false
            }
        }
    };
}
regression! {
    /// How far outputs are from labels, on average.
    MeanAbsoluteError "MAE", |d| d.abs(), |mean| mean
}
regression! {
    /// The root of the mean square of how far outputs are from labels.
    RootMeanSquareError "RMSE", |d| d * d, |mean| mean.sqrt()
}

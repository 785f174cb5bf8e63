//! Einstein's summation over any number of operands.
//!
//! Reads the equation, takes diagonals, sums what only one operand has, and contracts pairwise
//! from left to right through batched matrix products.

use crate::graph::op::Reduction;
use crate::graph::tensor::Tensor;
use crate::ops::matmul::product_dtype;
use crate::shape::{AxisSet, RANK_MAX, Shape};

/// A letter of the equation, or a dimension of its ellipsis: `Dots(0)` is the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Letter(char),
    Dots(usize),
}

/// An equation fitted to operands: the labels of each operand and of the result, and their sizes.
struct Equation {
    inputs: Vec<Vec<Label>>,
    output: Vec<Label>,
    sizes: Vec<(Label, usize)>,
}

/// An operand under way.
#[derive(Clone)]
struct Term {
    x: Tensor,
    labels: Vec<Label>,
}

impl Tensor {
    /// Einstein's summation, as `numpy.einsum`: letters name dimensions, those that are not after
    /// the arrow are summed, `...` stands for any further dimensions.
    ///
    /// A letter twice in one operand takes the diagonal. Without an arrow the result has the
    /// ellipsis and then every letter that occurs once, in alphabetical order. Dimensions of 1
    /// broadcast to those of other operands. Operands are contracted from left to right.
    ///
    /// ```
    /// # use wgrad::prelude::*;
    /// let x = Tensor::new([[1.0, 2.0], [3.0, 4.0]], &Device::cpu());
    /// let y = Tensor::einsum("ij,kj->ik", &[&x, &x]);
    /// assert_eq!(y.to_vec::<f32>()?, [5.0, 11.0, 11.0, 25.0]);
    /// assert_eq!(Tensor::einsum("ii->", &[&x]).item::<f32>()?, 5.0);
    /// # Ok::<(), wgrad::Error>(())
    /// ```
    #[track_caller]
    pub fn einsum(equation: &str, operands: &[&Tensor]) -> Tensor {
        let shapes: Vec<Shape> = operands.iter().map(|x| *x.shape()).collect();
        let e = given!("einsum", operands, fit(equation, &shapes));
        let dtype = product_dtype(operands.iter().map(|x| x.dtype()));
        let mut terms = Vec::new();
        for (x, labels) in operands.iter().zip(e.inputs) {
            terms.push(Term { x: x.cast(dtype), labels }.simple(&e.sizes));
        }
        let mut result: Option<Term> = None;
        for (n, term) in terms.iter().enumerate() {
            let later = terms.get(n + 1..).unwrap_or(&[]);
            let wanted = |l: &Label| e.output.contains(l) || later.iter().any(|term| term.labels.contains(l));
            result = Some(match result {
                None => term.clone().summed(wanted),
                Some(lhs) => {
                    let term = term.clone().summed(|l| wanted(l) || lhs.labels.contains(l));
                    lhs.contract(term, wanted, &e.sizes)
                }
            });
        }
        match result {
            Some(term) => term.arranged(&e.output).x,
            None => Tensor::build("einsum", &[], || Err(String::new())),
        }
    }
}

impl Term {
    /// Each label once, on a dimension of its full size: repeated labels become their diagonal,
    /// dimensions of 1 that broadcast are dropped.
    #[track_caller]
    fn simple(mut self, sizes: &[(Label, usize)]) -> Term {
        let mut labels = Vec::new();
        let mut dims = Vec::new();
        for (&label, &dim) in self.labels.iter().zip(self.x.dims()) {
            if dim == size_of(sizes, label) {
                labels.push(label);
                dims.push(dim);
            }
        }
        self.x = self.x.to_dims("einsum", &dims);
        self.labels = labels;
        while let Some((first, second, label)) = repeated(&self.labels) {
            let others: Vec<usize> = (0..self.labels.len()).filter(|&k| k != first && k != second).collect();
            let perm: Vec<usize> = others.iter().copied().chain([first, second]).collect();
            let n = size_of(sizes, label);
            let mut dims: Vec<usize> = others.iter().filter_map(|&k| self.x.dims().get(k).copied()).collect();
            let flat = [&dims[..], &[n.saturating_mul(n)]].concat();
            let x = self.x.permute_to("einsum", &perm).to_dims("einsum", &flat);
            dims.push(n);
            let mut step = vec![1; dims.len()];
            if let Some(last) = step.last_mut() {
                *last = n + 1;
            }
            self.x = x.slice_spec("einsum", vec![0; dims.len()], step, &dims);
            self.labels = others.iter().filter_map(|&k| self.labels.get(k).copied()).chain([label]).collect();
        }
        self
    }

    /// Sums over every label that is not wanted.
    #[track_caller]
    fn summed(self, wanted: impl Fn(&Label) -> bool) -> Term {
        let (mut set, mut labels) = (AxisSet::default(), Vec::new());
        for (axis, label) in self.labels.iter().enumerate() {
            match wanted(label) {
                true => labels.push(*label),
                false => set = set.and(axis),
            }
        }
        Term { x: self.x.reduce("einsum", Reduction::Sum, set), labels }
    }

    /// The dimensions in the order of `labels`, all of which this term has.
    #[track_caller]
    fn arranged(self, labels: &[Label]) -> Term {
        let perm: Vec<usize> = labels.iter().filter_map(|l| self.labels.iter().position(|own| own == l)).collect();
        Term { x: self.x.permute_to("einsum", &perm), labels: labels.to_vec() }
    }

    /// Multiplies two terms and sums over the labels they share and nobody wants any more.
    #[track_caller]
    fn contract(self, other: Term, wanted: impl Fn(&Label) -> bool, sizes: &[(Label, usize)]) -> Term {
        let (shared, rows): (Vec<Label>, Vec<Label>) = self.labels.iter().partition(|l| other.labels.contains(l));
        let columns: Vec<Label> = other.labels.iter().filter(|l| !shared.contains(l)).copied().collect();
        let (batch, inner): (Vec<Label>, Vec<Label>) = shared.iter().partition(|l| wanted(l));
        let numel = |labels: &[Label]| labels.iter().map(|&l| size_of(sizes, l)).fold(1, usize::saturating_mul);
        let (b, m, k, n) = (numel(&batch), numel(&rows), numel(&inner), numel(&columns));
        let labels = [&batch[..], &rows, &columns].concat();
        let dims: Vec<usize> = labels.iter().map(|&l| size_of(sizes, l)).collect();
        let lhs = self.arranged(&[&batch[..], &rows, &inner].concat()).x;
        let x = if inner.is_empty() {
            if let Err(fact) = Shape::new(&[b, m, n]) {
                return Term { x: lhs.refuse("einsum", fact), labels };
            }
            let rhs = other.arranged(&[&batch[..], &columns].concat()).x;
            lhs.to_dims("einsum", &[b, m, 1]) * rhs.to_dims("einsum", &[b, 1, n])
        } else if rows.is_empty() && columns.is_empty() {
            // A product of single rows and columns is a reduction, which fuses with what is around it.
            let rhs = other.arranged(&[&batch[..], &inner].concat()).x;
            // As any product, it is rounded once.
            let dtype = lhs.dtype();
            let [lhs, rhs] = [lhs, rhs].map(|x| x.cast(dtype.compute()).to_dims("einsum", &[b, k]));
            (lhs * rhs).reduce("einsum", Reduction::Sum, AxisSet::one(1)).cast(dtype)
        } else {
            let rhs = other.arranged(&[&batch[..], &inner, &columns].concat()).x;
            let from = usize::from(b == 1);
            lhs.to_dims("einsum", &[b, m, k][from..]).dot("einsum", &rhs.to_dims("einsum", &[b, k, n][from..]))
        };
        Term { x: x.to_dims("einsum", &dims), labels }
    }
}

/// The first two places of a label that occurs twice.
fn repeated(labels: &[Label]) -> Option<(usize, usize, Label)> {
    labels.iter().enumerate().find_map(|(second, label)| {
        let first = labels.iter().position(|l| l == label)?;
        (first < second).then_some((first, second, *label))
    })
}

fn size_of(sizes: &[(Label, usize)], label: Label) -> usize {
    sizes.iter().find(|(l, _)| *l == label).map_or(1, |&(_, size)| size)
}

/// Reads `equation` and fits it to operands of `shapes`.
fn fit(equation: &str, shapes: &[Shape]) -> Result<Equation, String> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != shapes.len() {
        return Err(format!("\"{equation}\" names {} operands, got {}", terms.len(), shapes.len()));
    }
    let mut inputs = Vec::new();
    let mut sizes: Vec<(Label, usize)> = Vec::new();
    for (term, shape) in terms.iter().zip(shapes) {
        let (letters, dots) = letters_of(equation, term)?;
        let hidden = shape.rank().checked_sub(letters.len()).filter(|&n| n == 0 || dots.is_some());
        let Some(hidden) = hidden else {
            return Err(format!("\"{term}\" of \"{equation}\" does not fit {shape}"));
        };
        let labels = spelled(&letters, dots.unwrap_or(0), hidden);
        for (&label, &dim) in labels.iter().zip(shape.dims()) {
            let unequal = |size: usize| {
                let name = match label {
                    Label::Letter(c) => c.to_string(),
                    Label::Dots(_) => "...".into(),
                };
                Err(format!("{name} of \"{equation}\" is {size} and {dim}"))
            };
            // Along a diagonal nothing broadcasts.
            let own = labels.iter().zip(shape.dims()).find(|(l, _)| **l == label).map_or(dim, |(_, &own)| own);
            match sizes.iter_mut().find(|(l, _)| *l == label) {
                _ if own != dim => return unequal(own),
                None => sizes.push((label, dim)),
                Some((_, size)) if *size == dim || dim == 1 => {}
                Some((_, size)) if *size == 1 => *size = dim,
                Some((_, size)) => return unequal(*size),
            }
        }
        inputs.push(labels);
    }
    let hidden = (0..RANK_MAX).filter(|&k| sizes.iter().any(|(l, _)| *l == Label::Dots(k))).count();
    let output = match right {
        Some(term) => {
            let (letters, dots) = letters_of(equation, term)?;
            let output = spelled(&letters, dots.unwrap_or(0), if dots.is_some() { hidden } else { 0 });
            let unknown = letters.iter().find(|&&c| !sizes.iter().any(|(l, _)| *l == Label::Letter(c)));
            if let Some(c) = unknown {
                return Err(format!("{c} of the result of \"{equation}\" is in no operand"));
            }
            if let Some((_, _, Label::Letter(c))) = repeated(&output) {
                return Err(format!("{c} is twice in the result of \"{equation}\""));
            }
            output
        }
        None => {
            let mut letters: Vec<char> = left.chars().filter(char::is_ascii_alphabetic).collect();
            letters.sort_unstable();
            let once = |c: &char| letters.iter().filter(|l| *l == c).count() == 1;
            spelled(&letters.iter().copied().filter(once).collect::<Vec<_>>(), 0, hidden)
        }
    };
    Ok(Equation { inputs, output, sizes })
}

/// The letters of one term, and how many of them stand before its ellipsis.
fn letters_of(equation: &str, term: &str) -> Result<(Vec<char>, Option<usize>), String> {
    let (before, after) = match term.split_once("...") {
        Some((before, after)) => (before, Some(after)),
        None => (term, None),
    };
    let letters: Vec<char> = before.chars().chain(after.unwrap_or("").chars()).collect();
    match letters.iter().find(|c| !c.is_ascii_alphabetic()) {
        Some(c) => Err(format!("{c:?} in \"{equation}\" is neither a letter nor part of one ellipsis a term")),
        None => Ok((letters, after.map(|_| before.len()))),
    }
}

/// `letters` with `hidden` dimensions of the ellipsis after the first `before`.
fn spelled(letters: &[char], before: usize, hidden: usize) -> Vec<Label> {
    let (head, tail) = letters.split_at_checked(before).unwrap_or((letters, &[]));
    let letter = |c: &char| Label::Letter(*c);
    head.iter().map(letter).chain((0..hidden).rev().map(Label::Dots)).chain(tail.iter().map(letter)).collect()
}

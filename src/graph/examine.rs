//! How a node comes to be, or an invalid tensor: operands are looked at, a rule is asked, the first
//! mistake is remembered. Knows no rule.

use crate::dtype::DType;
use crate::graph::device::Device;
use crate::graph::op::Op;
use crate::graph::tensor::{Operands, Tensor};
use crate::shape::Shape;

/// What a rule finds: a node's op, shape and dtype, or what is wrong, in words.
pub(crate) type Typed = Result<(Op, Shape, DType), String>;

impl Tensor {
    /// What `rule` finds out about `src`, unless an operand is invalid or elsewhere; otherwise the
    /// invalid tensor that `word` gives.
    #[track_caller]
    pub(crate) fn examine<T>(
        word: &str,
        src: &[&Tensor],
        rule: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, Tensor> {
        if let Some(bad) = Tensor::misfit(word, src) {
            return Err(bad);
        }
        // Not `map_err`: a closure would hide the caller's line.
        match rule() {
            Ok(found) => Ok(found),
            Err(fact) => Err(Tensor::refused(word, src, fact)),
        }
    }

    /// What keeps `src` from being operands of one op. Apart from [`Tensor::examine`], of which every
    /// rule has its own copy in the program.
    #[track_caller]
    fn misfit(word: &str, src: &[&Tensor]) -> Option<Tensor> {
        let Some(first) = src.first() else { return Some(Tensor::invalid(word, "no operands", &Device::nowhere())) };
        if let Some(bad) = src.iter().find(|x| !x.is_valid()) {
            return Some((*bad).clone());
        }
        let unfit = |x: &&Tensor| if let Op::Const(value) = x.0.op { value.fits(x.dtype()).err() } else { None };
        let fact = match src.iter().find_map(unfit) {
            Some(fact) => fact,
            None => {
                let other = src.iter().find(|x| x.device() != first.device())?;
                format!("operands on different devices: {} and {}", first.device(), other.device())
            }
        };
        Some(Tensor::invalid(word, fact, first.device()))
    }

    /// The invalid tensor of operands that a rule refused.
    #[track_caller]
    fn refused(word: &str, src: &[&Tensor], fact: String) -> Tensor {
        Tensor::invalid(word, fact, &src.first().map_or_else(Device::nowhere, |x| x.device().clone()))
    }

    /// The node that a rule found.
    #[track_caller]
    fn typed(src: &[&Tensor], (op, shape, dtype): (Op, Shape, DType)) -> Tensor {
        let device = src.first().map_or_else(Device::nowhere, |x| x.device().clone());
        let mut operands = Operands::new();
        src.iter().for_each(|&x| operands.push(x.clone()));
        Tensor::node(op, operands, shape, dtype, &device)
    }

    /// A node of what `rule` says over `src`, unless an operand is invalid or elsewhere.
    #[track_caller]
    pub(crate) fn build(word: &str, src: &[&Tensor], rule: impl FnOnce() -> Typed) -> Tensor {
        match Tensor::examine(word, src, rule) {
            Ok(found) => Tensor::typed(src, found),
            Err(bad) => bad,
        }
    }
}

//! Test data, closeness, and the check of derivatives against differences.

use wgrad::prelude::*;
use wgrad::reference::{self, Rounding, Values};

/// A small deterministic generator (splitmix64).
pub struct Rng(u64);

impl Rng {
    /// A generator of its own sequence for each `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An integer of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// A number of `range` that an `f32` holds.
    pub fn uniform(&mut self, range: std::ops::Range<f64>) -> f64 {
        let unit = (self.bits() >> 40) as f64 / (1u64 << 24) as f64;
        f64::from((range.start + unit * (range.end - range.start)) as f32)
    }

    /// `n` numbers of `range`.
    pub fn vec(&mut self, n: usize, range: std::ops::Range<f64>) -> Vec<f64> {
        (0..n).map(|_| self.uniform(range.clone())).collect()
    }

    /// A float tensor of `dims` with elements of `range`.
    pub fn tensor(&mut self, dims: &[usize], range: std::ops::Range<f64>) -> Tensor {
        floats(&self.vec(dims.iter().product(), range), dims)
    }
}

/// An `f32` tensor.
pub fn floats(v: &[f64], dims: &[usize]) -> Tensor {
    let v: Vec<f32> = v.iter().map(|&x| x as f32).collect();
    Tensor::from_vec(v, dims, &crate::devices::cpu())
}

/// An `i32` tensor.
pub fn ints(v: &[i32], dims: &[usize]) -> Tensor {
    Tensor::from_slice(v, dims, &crate::devices::cpu())
}

/// A shape that is one.
pub fn shape(dims: &[usize]) -> Shape {
    Shape::new(dims).expect("a small shape")
}

/// The oracle's elements of `x`, unrounded.
#[track_caller]
pub fn exact(x: &Tensor) -> Vec<f64> {
    exact_with(x, &[])
}

/// [`exact`] with other elements in place of those of some tensors.
#[track_caller]
pub fn exact_with(x: &Tensor, overrides: &[(&Tensor, Vec<f64>)]) -> Vec<f64> {
    if let Some(error) = x.error() {
        panic!("{error}");
    }
    match reference::evaluate_with(std::slice::from_ref(x), Rounding::Exact, overrides) {
        Ok(mut found) => match found.values.remove(0) {
            Values::Float(v) => v,
            Values::Bits(v) if x.dtype() == DType::I32 => v.iter().map(|&x| f64::from(x as i32)).collect(),
            Values::Bits(v) => v.iter().map(|&x| f64::from(x)).collect(),
        },
        Err(error) => panic!("{error}"),
    }
}

/// Panics with the first element of `got` that is not `want`, within `tolerance` of the greater of
/// 1 and its size. NaNs agree, and zeros agree in sign when the tolerance is 0.
#[track_caller]
pub fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: how many elements");
    for (k, (&g, &w)) in got.iter().zip(want).enumerate() {
        let same = if tolerance == 0.0 { g.to_bits() == w.to_bits() } else { g == w };
        let close = same || (g.is_nan() && w.is_nan()) || (g - w).abs() <= tolerance * w.abs().max(1.0);
        let close = close && (tolerance > 0.0 || g != 0.0 || same);
        assert!(close, "{what}: element {k} is {g}, not {w}");
    }
}

/// Compares first and second derivatives of `f` at `inputs` with central differences in `f64`:
/// random products of the gradient with directions, in which every element takes part.
///
/// `f` must be smooth within 1e-5 of the inputs, which are float tensors with elements.
#[track_caller]
pub fn directional_check(what: &str, f: impl Fn(&[Tensor]) -> Tensor, inputs: &[Tensor]) {
    let mut rng = Rng::new(what.bytes().fold(7, |n: u64, b| n.wrapping_mul(31) + u64::from(b)));
    let y = f(inputs);
    assert!(y.is_valid(), "{what}: {:?}", y.error());
    let weights = rng.tensor(y.dims(), -1.0..1.0);
    let targets: Vec<&Tensor> = inputs.iter().collect();
    let first = y.vjp(&weights, &targets);
    for (x, dx) in inputs.iter().zip(&first) {
        assert!(dx.is_valid(), "{what}: {:?}", dx.error());
        assert_eq!((dx.dims(), dx.dtype()), (x.dims(), x.dtype()), "{what}: the gradient's type");
    }
    differences(&format!("{what}: first derivative"), &mut rng, &y, &weights, &targets, &first);

    // The gradients as functions of the inputs and of the cotangent that went in.
    let targets: Vec<&Tensor> = inputs.iter().chain([&weights]).collect();
    for (k, dx) in first.iter().enumerate() {
        let around = rng.tensor(dx.dims(), -1.0..1.0);
        let second = dx.vjp(&around, &targets);
        let what = format!("{what}: second derivative of input {k}");
        differences(&what, &mut rng, dx, &around, &targets, &second);
    }
}

/// Compares `sum(dx * direction)` with the difference quotient of `sum(y * weights)`.
#[track_caller]
fn differences(what: &str, rng: &mut Rng, y: &Tensor, weights: &Tensor, inputs: &[&Tensor], dx: &[Tensor]) {
    const STEP: f64 = 1e-5;
    let weights = exact(weights);
    let at: Vec<Vec<f64>> = inputs.iter().map(|x| exact(x)).collect();
    for _ in 0..2 {
        let directions: Vec<Vec<f64>> = at.iter().map(|v| rng.vec(v.len(), -1.0..1.0)).collect();
        let (mut slope, mut size) = (0.0, 1.0);
        for ((dx, v), x) in dx.iter().zip(&directions).zip(inputs) {
            assert!(dx.is_valid(), "{what}: {:?}", dx.error());
            assert_eq!(dx.dims(), x.dims(), "{what}: the gradient's shape");
            let terms = exact(dx).into_iter().zip(v).map(|(dx, v)| dx * v);
            terms.for_each(|term| (slope, size) = (slope + term, size + term.abs()));
        }
        let beside = |step: f64| {
            let moved = |(x, v): (&Vec<f64>, &Vec<f64>)| x.iter().zip(v).map(|(x, v)| x + step * v).collect();
            let moved = at.iter().zip(&directions).map(moved);
            let overrides: Vec<(&Tensor, Vec<f64>)> = inputs.iter().copied().zip(moved).collect();
            exact_with(y, &overrides)
        };
        let change = beside(STEP).into_iter().zip(beside(-STEP)).zip(&weights);
        let quotient: f64 = change.map(|((up, down), w)| (up - down) * w).sum::<f64>() / (2.0 * STEP);
        let close = (slope - quotient).abs() <= 1e-6 * size;
        assert!(close, "{what}: the gradient gives {slope}, differences give {quotient}");
    }
}

/// Random elements of `dims`, always the same.
pub fn random(dims: &[usize]) -> Tensor {
    Rng::new(5).tensor(dims, -2.0..2.0)
}

/// [`directional_check`] at random inputs of the shapes `dims`.
#[track_caller]
pub fn derivatives(what: &str, dims: &[&[usize]], f: impl Fn(&[Tensor]) -> Tensor) {
    let mut rng = Rng::new(11);
    let inputs: Vec<Tensor> = dims.iter().map(|dims| rng.tensor(dims, -2.0..2.0)).collect();
    directional_check(what, f, &inputs);
}

/// The message of an invalid tensor, which must point at the caller's file, without the place.
#[track_caller]
pub fn message(x: &Tensor) -> String {
    let error = x.error().expect("an invalid tensor");
    let (place, caller) = (error.location().expect("a place"), std::panic::Location::caller());
    assert_eq!(place.file(), caller.file(), "{error} is not at the user's line");
    let text = error.to_string();
    text.rsplit_once(" at ").expect("a place in the text").0.to_string()
}

/// Checks that `f` makes no plan once it has run, on a CPU that nobody else has.
#[track_caller]
pub fn makes_no_plan(mut f: impl FnMut(&Device)) {
    let device = wgrad::device::cpu::Cpu::beside();
    f(&device);
    let before = device.plans_made();
    assert!(before > 0, "nothing is run there");
    (0..3).for_each(|_| f(&device));
    assert_eq!(device.plans_made(), before, "later runs make plans");
}

/// Runs `measured` in a process that has nothing else to do and may use 8 GiB of addresses: the
/// test `name`, from its module on, starts itself once more, and its child does the measuring.
pub fn by_itself(name: &str, measured: impl FnOnce()) {
    after("ulimit -v 8388608", name, measured);
}

/// As [`by_itself`], but in a process that the shell starts after `commands`.
pub fn after(commands: &str, name: &str, measured: impl FnOnce()) {
    /// Names the test that a process was started for.
    const CHILD: &str = "WGRAD_TEST_CHILD";
    if std::env::var(CHILD).is_ok_and(|child| child == name) {
        return measured();
    }
    let program = std::env::current_exe().unwrap();
    let command = format!("{commands}; exec \"$0\" {name} --exact --nocapture");
    let mut run = std::process::Command::new("sh");
    let run = run.args(["-c", &command]).arg(program).env(CHILD, name).output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    println!("{text}");
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

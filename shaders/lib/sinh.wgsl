// The hyperbolic sine: near 0, where the difference would lose digits, a polynomial.
fn sinh_(x: f32) -> f32 {
    let z = x * x;
    let near = ((2.0372191e-4 * z + 8.3302838e-3) * z + 1.6666716e-1) * z * x + x;
    return select(0.5 * (exp(x) - exp(-x)), near, abs(x) < 1.0);
}

// The hyperbolic sine: near 0, where the difference would lose digits, a polynomial.
fn sinh_(x: f32) -> f32 {
    let z = x * x;
    let near = ((2.0372191e-4 * z + 8.3302838e-3) * z + 1.6666716e-1) * z * x + x;
    return select(half_exp(x) - half_exp(-x), near, abs(x) < 1.0);
}

// Half of e^x, also where all of it would be infinite.
fn half_exp(x: f32) -> f32 {
    let root = exp(0.5 * x);
    return 0.5 * root * root;
}

// The hyperbolic tangent: near 0 a polynomial, far out 1 (some drivers' own gives NaN there).
fn tanh_(x: f32) -> f32 {
    let a = abs(x);
    let z = x * x;
    let near = ((((-5.7049887e-3 * z + 2.0639089e-2) * z - 5.3739715e-2) * z + 1.3331442e-1) * z - 3.333328e-1) * z * x + x;
    let far = 1.0 - 2.0 / (exp(2.0 * min(a, 20.0)) + 1.0);
    // A NaN fails every comparison and comes out of the polynomial.
    return select(near, select(far, -far, x < 0.0), a >= 0.625);
}

// The error function: the Taylor series near 0, beyond it 1 minus a Chebyshev fit of the
// complement (coefficients as published in Numerical Recipes).
fn erf_(x: f32) -> f32 {
    let a = abs(x);
    let z = x * x;
    let near = 1.1283792 * x * (1.0 - z * (0.33333334 - z * (0.1 - z * (0.023809524 - z * (0.0046296297
        - z * (0.00075757574 - z * (0.00010683761 - z * 0.000013227513)))))));
    let t = 1.0 / (1.0 + 0.5 * a);
    let fit = -1.2655122 + t * (1.0000237 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
        + t * (0.27886807 + t * (-1.135204 + t * (1.4885159 + t * (-0.82215223 + t * 0.17087277))))))));
    let far = 1.0 - t * exp(fit - a * a);
    return select(near, select(far, -far, x < 0.0), a >= 0.84);
}

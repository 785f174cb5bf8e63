// e^x - 1: near 0, where the subtraction would lose digits, the Taylor series to x^8.
fn expm1_(x: f32) -> f32 {
    let series = x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0 * (1.0 + x / 8.0)))))));
    return select(exp(x) - 1.0, series, abs(x) < 0.5);
}

// ln(1 + x): near 0 as 2 atanh(x / (2 + x)), a series in odd powers.
fn log1p_(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let z = s * s;
    let series = 2.0 * s * (1.0 + z * (0.33333334 + z * (0.2 + z * (0.14285715 + z * 0.11111111))));
    return select(ln_(1.0 + x), series, abs(x) < 0.4);
}

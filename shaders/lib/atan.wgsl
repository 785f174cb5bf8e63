// The inverse tangent in three ranges, by a polynomial in t^2 (coefficients as published in the
// Cephes library), and the angle of a point.
fn atan_(x: f32) -> f32 {
    let a = abs(x);
    var base = 0.0;
    var t = a;
    if (a > 2.4142137) {
        base = 1.5707964;
        t = -1.0 / a;
    } else if (a > 0.41421357) {
        base = 0.7853982;
        t = (a - 1.0) / (a + 1.0);
    }
    let z = t * t;
    let r = base + (((8.0537445e-2 * z - 1.3877686e-1) * z + 1.9977711e-1) * z - 3.333295e-1) * z * t + t;
    return select(r, -r, bitcast<u32>(x) >= 0x80000000u);
}

fn atan2_(y: f32, x: f32) -> f32 {
    // The signs of zeros count.
    let side = select(1.0, -1.0, bitcast<u32>(y) >= 0x80000000u);
    let behind = side * select(0.0, 3.1415927, bitcast<u32>(x) >= 0x80000000u);
    if (x == 0.0 && y == 0.0) {
        return behind;
    }
    if (abs(x) == abs(y)) {
        // Two infinities have no quotient.
        return 0.7853982 * side + 0.5 * behind;
    }
    if (abs(x) > abs(y)) {
        return atan_(y / x) + behind;
    }
    return 1.5707964 * side - atan_(x / y);
}

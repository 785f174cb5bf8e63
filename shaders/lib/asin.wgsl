// The inverse sine by a polynomial in x^2 up to 1/2, beyond by the half-angle formula
// (coefficients as published in the Cephes library); drivers' own may be off by 6e-5.
fn asin_(x: f32) -> f32 {
    let a = abs(x);
    let far = a > 0.5;
    let z = select(a * a, 0.5 * (1.0 - a), far);
    let t = select(a, sqrt(z), far);
    let p = ((((4.2163199e-2 * z + 2.4181311e-2) * z + 4.5470026e-2) * z + 7.4953003e-2) * z + 1.6666752e-1) * z * t + t;
    let r = select(p, 1.5707964 - 2.0 * p, far);
    return select(r, -r, bitcast<u32>(x) >= 0x80000000u);
}

// Near 1 pi/2 minus the sine's would lose digits.
fn acos_(x: f32) -> f32 {
    if (x > 0.5) {
        return 2.0 * asin_(sqrt(0.5 - 0.5 * x));
    }
    return 1.5707964 - asin_(x);
}

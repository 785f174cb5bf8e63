// Sine, cosine and tangent: the angle is brought to a quarter turn around 0, then polynomials
// (coefficients as published in the Cephes library). WGSL promises its own only to 2^-11.
// pi/2 has three parts, of which the first two times 12 bits are exact, so the number of quarters has
// two: good to 1e-7 up to an angle of a million. A compiler may reorder sums, but no fma.
fn quarter(x: f32) -> vec3<f32> {
    let n = round(x * 0.63661975);
    let far = 4096.0 * trunc(n * 0.00024414062);
    let near = n - far;
    let coarse = fma(-near, 1.5703125, fma(-far, 1.5703125, x));
    let r = fma(-n, 7.54979e-8, fma(-near, 4.837513e-4, fma(-far, 4.837513e-4, coarse)));
    let z = r * r;
    let s = ((-1.9515296e-4 * z + 8.332161e-3) * z - 1.6666655e-1) * z * r + r;
    let c = ((2.4433157e-5 * z - 1.3887316e-3) * z + 4.1666646e-2) * z * z - 0.5 * z + 1.0;
    // An infinite angle has no quarter, and leaves NaN in the polynomials.
    return vec3<f32>(s, c, n - 4.0 * floor(n * 0.25));
}

fn sin_(x: f32) -> f32 {
    let q = quarter(x);
    let y = select(q.x, q.y, q.z == 1.0 || q.z == 3.0);
    return select(y, -y, q.z >= 2.0);
}

fn cos_(x: f32) -> f32 {
    let q = quarter(x);
    let y = select(q.y, q.x, q.z == 1.0 || q.z == 3.0);
    return select(y, -y, q.z == 1.0 || q.z == 2.0);
}

fn tan_(x: f32) -> f32 {
    let q = quarter(x);
    return select(q.x / q.y, -q.y / q.x, q.z == 1.0 || q.z == 3.0);
}

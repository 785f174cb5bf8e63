//! Inputs that every engine can make: numbers hashed from their position.

use wgrad::prelude::*;

fn hash(i: u32, seed: u32) -> u32 {
    let s = i.wrapping_mul(747_796_405).wrapping_add(2_891_336_453).wrapping_add(seed.wrapping_mul(277_803_737));
    let w = ((s >> ((s >> 28) + 4)) ^ s).wrapping_mul(277_803_737);
    (w >> 22) ^ w
}

/// A number from `-scale` to `scale`.
fn number(i: u32, seed: u32, scale: f32) -> f32 {
    ((hash(i, seed) >> 8) as f32 / 8_388_608.0 - 1.0) * scale
}

/// Numbers from `-scale` to `scale`.
pub fn uniform(dims: &[usize], seed: u32, scale: f32, device: &Device) -> Tensor {
    let n = dims.iter().product::<usize>() as u32;
    Tensor::from_vec((0..n).map(|i| number(i, seed, scale)).collect::<Vec<f32>>(), dims, device)
}

/// The transpose of `uniform(&[rows, columns], ..)`.
pub fn transposed([rows, columns]: [usize; 2], seed: u32, scale: f32, device: &Device) -> Tensor {
    let (down, across) = (0..rows as u32, columns as u32);
    let column = |j| down.clone().map(move |i| number(i * across + j, seed, scale));
    Tensor::from_vec((0..across).flat_map(column).collect::<Vec<f32>>(), [columns, rows], device)
}

/// Whole numbers below `most`.
pub fn integers(dims: &[usize], seed: u32, most: u32, device: &Device) -> Tensor {
    let n = dims.iter().product::<usize>() as u32;
    let number = |i| ((hash(i, seed) >> 8) % most) as i32;
    Tensor::from_vec((0..n).map(number).collect::<Vec<i32>>(), dims, device)
}

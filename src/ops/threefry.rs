//! Threefry-2x32, the counter-based generator behind every random bit.
//!
//! A pure function on the host; knows no tensors. Salmon, Moraes, Dror and Shaw, "Parallel random
//! numbers: as easy as 1, 2, 3" (2011); 20 rounds.

/// Left rotations of the rounds; groups of four alternate between the rows.
pub(crate) const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];

/// The third word of the key schedule is this with both key words xored in.
pub(crate) const PARITY: u32 = 0x1BD1_1BDA;

/// The block of `counter` under `key`.
// Into loops over many counters, which then run in vectors; a page has no bytes for copies.
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let schedule = [key[0], key[1], PARITY ^ key[0] ^ key[1]];
    let [mut x, mut z] = counter;
    x = x.wrapping_add(schedule[0]);
    z = z.wrapping_add(schedule[1]);
    for group in 0..5 {
        for r in ROTATIONS[group % 2] {
            x = x.wrapping_add(z);
            z = z.rotate_left(r) ^ x;
        }
        x = x.wrapping_add(schedule[(group + 1) % 3]);
        z = z.wrapping_add(schedule[(group + 2) % 3]).wrapping_add(group as u32 + 1);
    }
    [x, z]
}

#[cfg(test)]
mod tests {
    use super::threefry2x32;

    /// The known answers of the Random123 distribution.
    #[test]
    fn known_answers() {
        assert_eq!(threefry2x32([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry2x32([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(threefry2x32([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }
}

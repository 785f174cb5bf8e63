//! Loops over many elements, compiled once more for processors with wider vectors.
//!
//! Only the width changes: AVX2 brings no instruction into such a loop that rounds differently, so
//! every machine has the same bits.

/// Defines a function that is compiled twice where that pays, and picks one when it is called.
macro_rules! wide {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $t:ty),*) $body:block) => {
        $(#[$doc])*
        fn $name($($arg: $t),*) {
            #[inline(always)]
            fn plain($($arg: $t),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $t),*) {
                    plain($($arg),*);
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has what the function needs; it was just asked.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*);
        }
    };
}
pub(crate) use wide;

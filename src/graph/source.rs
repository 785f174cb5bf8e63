//! Files of `shaders/` as they go into a program: without comments, indentation and, of a template, without the
//! block of parameters, which the host writes itself. So a web page does not download them.

/// Where a template's own part begins.
const END: &[u8] = b"// -- end of parameters --";

/// The text of a file of `shaders/`.
macro_rules! source {
    ($name:literal) => {{
        const FILE: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl"));
        const KEPT: [u8; $crate::graph::source::keep::<0>(FILE).1] = $crate::graph::source::keep(FILE).0;
        const TEXT: &str = match std::str::from_utf8(&KEPT) {
            Ok(text) => text,
            Err(_) => "",
        };
        TEXT
    }};
}
pub(crate) use source;

/// Whether a program has every form of a kernel. A page that counts its bytes leaves out those that only
/// save memory or make rarer work faster.
pub const ALL_KERNELS: bool = cfg!(any(not(target_arch = "wasm32"), feature = "all-kernels"));

/// The text of a file of `shaders/` that no page can run, and so need not carry.
macro_rules! native_source {
    ($name:literal) => {
        if cfg!(target_arch = "wasm32") { "" } else { $crate::graph::source::source!($name) }
    };
}
pub(crate) use native_source;

/// The first `N` bytes of what is kept of `file`, and how many there are.
pub const fn keep<const N: usize>(file: &[u8]) -> ([u8; N], usize) {
    let (mut kept, mut n) = ([0; N], 0);
    let mut at = 0;
    while at < file.len() {
        let mut end = at;
        while end < file.len() && file[end] != b'\n' {
            end += 1;
        }
        let mut first = at;
        while first < end && file[first] == b' ' {
            first += 1;
        }
        if starts(file, first, END) {
            n = 0;
        } else if !starts(file, first, b"//") && first < end {
            at = first;
            while at <= end && at < file.len() {
                if n < N {
                    kept[n] = file[at];
                }
                n += 1;
                at += 1;
            }
        }
        at = end + 1;
    }
    (kept, n)
}

const fn starts(file: &[u8], at: usize, with: &[u8]) -> bool {
    let mut k = 0;
    while k < with.len() {
        if at + k >= file.len() || file[at + k] != with[k] {
            return false;
        }
        k += 1;
    }
    true
}

//! Where long work is cut, so that no watchdog takes it for a hang.
//!
//! Windows and browsers reset a device that works two seconds on one submission. A step's time is
//! guessed from its operations and bytes by the kind of device, rather too long than too short;
//! a long dispatch is cut along its grid, and a long run into several submissions. Where a product would
//! be cut, natively, it is first measured what the device can do (`roofline::measure_pace`). A guess
//! decides only where work is cut: workgroups know their number in the whole grid, so bits never change.

use std::ops::Range;

use crate::compile::shader::GROUPS_X_MAX;

/// Slices of one dispatch, unless the device's limits ask for more.
const SLICES_MAX: u64 = 4096;

/// How fast a device is, by a careful guess, and how long it may work without a break.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Operations a second.
    pub flops: f64,
    /// Bytes read and written a second.
    pub bytes: f64,
    /// Most seconds of a dispatch, where it can be cut.
    pub dispatch_seconds_max: f64,
    /// Most seconds of a submission of several dispatches.
    pub submit_seconds_max: f64,
}

/// Workgroups that are dispatched together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The number of the first one in the whole grid.
    pub first: u32,
    /// How many there are, filled up to whole rows where there are several.
    pub grid: [u32; 3],
}

impl Pace {
    /// A tenth of what slow devices of the kind reach at their best. A quarter of two seconds is
    /// left for guesses that are wrong. Nothing resets a driver that works on the CPU; its work is
    /// cut so that whoever waits for it is not kept for long.
    pub fn of(device_type: wgpu::DeviceType) -> Pace {
        let (dispatch_seconds_max, submit_seconds_max) = match device_type {
            wgpu::DeviceType::Cpu => (1.0, 4.0),
            _ => (0.25, 0.5),
        };
        let (flops, bytes) = match device_type {
            wgpu::DeviceType::DiscreteGpu => (2e11, 3e10),
            // A browser does not tell what it has.
            wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => (2e10, 4e9),
            wgpu::DeviceType::Cpu => (3e9, 1e9),
        };
        Pace { flops, bytes, dispatch_seconds_max, submit_seconds_max }
    }

    /// The seconds that so much work may take.
    pub fn seconds(&self, flops: u64, bytes: u64) -> f64 {
        flops as f64 / self.flops + bytes as f64 / self.bytes
    }

    /// Whether a dispatch of so many operations would be cut.
    pub fn is_long(&self, flops: u64) -> bool {
        flops as f64 / self.flops > self.dispatch_seconds_max
    }

    /// The pace of a device that reaches `flops_per_second` at its best, of which no product takes ten times as
    /// long as it need.
    pub fn at_best(self, flops_per_second: f64) -> Pace {
        Pace { flops: self.flops.max(flops_per_second / 10.0), ..self }
    }

    /// A linear grid of `groups` that takes `seconds`, cut; `side_max` workgroups fit along one
    /// side of a dispatch. Nothing when a number of a workgroup would not fit into 32 bits.
    pub fn slices(&self, groups: u64, seconds: f64, side_max: u32) -> Option<Vec<Slice>> {
        let (row, last) = (u64::from(GROUPS_X_MAX), u32::try_from(groups.saturating_sub(1)).ok()?);
        let wanted = ((seconds / self.dispatch_seconds_max).ceil().max(1.0) as u64).min(SLICES_MAX);
        let mut each = groups.div_ceil(wanted).max(1);
        // A grid of several rows is filled up to whole ones: only the last slice may be.
        each = match (each > row, u64::from(side_max)) {
            (_, side) if side < row => each.min(side.max(1)),
            (true, side) => each.div_ceil(row).min(side) * row,
            (false, _) => each,
        };
        let firsts = (0..=last).step_by(usize::try_from(each).ok()?).take_while(|_| groups > 0);
        let grid = |count: u64| [count.min(row) as u32, count.div_ceil(row) as u32, 1];
        Some(firsts.map(|first| Slice { first, grid: grid(each.min(groups - u64::from(first))) }).collect())
    }

    /// Dispatches that take `seconds` each, divided into submissions.
    pub fn submissions(&self, seconds: impl IntoIterator<Item = f64>) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut sum = 0.0;
        for (n, seconds) in seconds.into_iter().enumerate() {
            sum += seconds;
            match ranges.last_mut() {
                Some(range) if sum <= self.submit_seconds_max => range.end = n + 1,
                _ => {
                    ranges.push(n..n + 1);
                    sum = seconds;
                }
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { flops: 10.0, bytes: 5.0, dispatch_seconds_max: 1.0, submit_seconds_max: 2.0 };

    #[track_caller]
    fn cut(groups: u64, seconds: f64, side_max: u32) -> Vec<(u32, u32, u32)> {
        let slices = PACE.slices(groups, seconds, side_max).expect("32 bits");
        slices.iter().map(|s| (s.first, s.grid[0], s.grid[1])).collect()
    }

    #[test]
    fn grids_are_cut_where_they_may_be() {
        assert_eq!(PACE.seconds(20, 5), 3.0);
        assert!(PACE.is_long(11) && !PACE.is_long(10) && !PACE.at_best(200.0).is_long(20));
        assert_eq!(PACE.at_best(20.0), PACE);
        assert_eq!(cut(0, 9.0, 65535), []);
        assert_eq!(cut(10, 0.0, 65535), [(0, 10, 1)]);
        assert_eq!(cut(10, 2.5, 65535), [(0, 4, 1), (4, 4, 1), (8, 2, 1)]);
        assert_eq!(cut(3, 100.0, 65535), [(0, 1, 1), (1, 1, 1), (2, 1, 1)]);
        assert_eq!(cut(131_072, 0.0, 65535), [(0, 32768, 4)]);
        assert_eq!(cut(200_000, 0.0, 65535), [(0, 32768, 7)]);
        assert_eq!(cut(200_000, 2.0, 65535), [(0, 32768, 4), (131_072, 32768, 3)]);
        assert_eq!(cut(60_000, 1.5, 70_000), [(0, 30_000, 1), (30_000, 30_000, 1)]);
        assert_eq!(cut(40_000, 0.0, 20_000), [(0, 20_000, 1), (20_000, 20_000, 1)]);
        assert_eq!(PACE.slices(1 << 33, 0.0, 65535), None);
    }

    #[test]
    fn runs_are_divided_by_their_seconds() {
        assert_eq!(PACE.submissions([]), []);
        assert_eq!(PACE.submissions([1.0, 1.0, 1.0]), [0..2, 2..3]);
        assert_eq!(PACE.submissions([9.0, 0.5, 0.5, 9.0]), [0..1, 1..3, 3..4]);
    }
}

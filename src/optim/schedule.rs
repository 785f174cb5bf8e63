//! [`Schedule`]: how the learning rate changes from step to step, as values that compose.

use crate::graph::float::sin_cos;

/// A factor on the learning rate for every step, which are counted from 0.
///
/// ```
/// use wgrad::optim::Schedule;
/// let schedule = Schedule::linear_warmup(10).then(Schedule::cosine(100, 0.1));
/// assert_eq!((schedule.at(4), schedule.at(10), schedule.at(1000)), (0.5, 1.0, 0.1));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Constant(f64),
    Step { every: u64, gamma: f64 },
    Exponential { gamma: f64 },
    Cosine { steps: u64, end: f64 },
    Polynomial { steps: u64, power: f64, end: f64 },
    Warmup { steps: u64 },
    OneCycle { steps: u64, rise: f64, start: f64, end: f64 },
    Then(Box<Schedule>, u64, Box<Schedule>),
    Times(Box<Schedule>, Box<Schedule>),
}

impl Schedule {
    /// 1 always.
    pub fn constant() -> Schedule {
        Schedule(Kind::Constant(1.0))
    }

    /// Times `gamma` after every `every` steps.
    pub fn step(every: u64, gamma: f64) -> Schedule {
        Schedule(Kind::Step { every: every.max(1), gamma })
    }

    /// Times `gamma` after every step.
    pub fn exponential(gamma: f64) -> Schedule {
        Schedule(Kind::Exponential { gamma })
    }

    /// Half a cosine from 1 down to `end` over `steps` steps, and `end` from there on.
    pub fn cosine(steps: u64, end: f64) -> Schedule {
        Schedule(Kind::Cosine { steps, end })
    }

    /// `(1 - t)^power` from 1 down to `end` over `steps` steps, and `end` from there on.
    pub fn polynomial(steps: u64, power: f64, end: f64) -> Schedule {
        Schedule(Kind::Polynomial { steps, power, end })
    }

    /// A line up to 1, which the `steps`-th step has; 1 from there on.
    pub fn linear_warmup(steps: u64) -> Schedule {
        Schedule(Kind::Warmup { steps })
    }

    /// From 1/25 up to 1 in the first 30 % of `steps` steps and down to 1/250,000, by cosines.
    pub fn one_cycle(steps: u64) -> Schedule {
        Schedule(Kind::OneCycle { steps, rise: 0.3, start: 1.0 / 25.0, end: 4e-6 })
    }

    /// `next`, counted from 0, once this one is over; [`Schedule::constant`], [`Schedule::step`] and
    /// [`Schedule::exponential`] never are.
    pub fn then(self, next: Schedule) -> Schedule {
        let steps = self.steps().unwrap_or(u64::MAX);
        Schedule(Kind::Then(Box::new(self), steps, Box::new(next)))
    }

    /// This one's factor times the other's.
    pub fn times(self, other: Schedule) -> Schedule {
        Schedule(Kind::Times(Box::new(self), Box::new(other)))
    }

    /// How many steps it takes, if it has an end; a product has that of its factors.
    fn steps(&self) -> Option<u64> {
        match &self.0 {
            Kind::Constant(_) | Kind::Step { .. } | Kind::Exponential { .. } => None,
            Kind::Cosine { steps, .. }
            | Kind::Polynomial { steps, .. }
            | Kind::Warmup { steps }
            | Kind::OneCycle { steps, .. } => Some(*steps),
            Kind::Then(_, steps, next) => Some(steps.saturating_add(next.steps()?)),
            Kind::Times(a, b) => a.steps().max(b.steps()),
        }
    }

    /// The factor of step `step`, from 0.
    pub fn at(&self, step: u64) -> f64 {
        let part = |steps: u64| if steps == 0 { 1.0 } else { (step as f64 / steps as f64).min(1.0) };
        let wave = |from: f64, to: f64, t: f64| to + (from - to) * (1.0 + sin_cos(t / 2.0)[1]) / 2.0;
        match &self.0 {
            Kind::Constant(factor) => *factor,
            Kind::Step { every, gamma } => libm::pow(*gamma, (step / every) as f64),
            Kind::Exponential { gamma } => libm::pow(*gamma, step as f64),
            Kind::Cosine { steps, end } => wave(1.0, *end, part(*steps)),
            Kind::Polynomial { steps, power, end } => end + (1.0 - end) * libm::pow(1.0 - part(*steps), *power),
            Kind::Warmup { steps } => ((step as f64 + 1.0) / (*steps).max(1) as f64).min(1.0),
            Kind::OneCycle { steps, rise, start, end } => {
                let (t, top, last) = (step as f64, rise * *steps as f64 - 1.0, *steps as f64 - 1.0);
                let fall = ((t - top) / (last - top)).min(1.0);
                if t < top { wave(*start, 1.0, t / top) } else { wave(1.0, *end, fall) }
            }
            Kind::Then(first, steps, next) => match step.checked_sub(*steps) {
                Some(step) => next.at(step),
                None => first.at(step),
            },
            Kind::Times(a, b) => a.at(step) * b.at(step),
        }
    }
}

/// Lowers the learning rate when a metric no longer falls: give what [`Plateau::observe`] returns to
/// [`Optimizer::set_factor`](super::Optimizer::set_factor).
///
/// ```
/// use wgrad::optim::Plateau;
/// let mut plateau = Plateau::new(0.1, 1);
/// let factors: Vec<f64> = [3.0, 2.0, 2.0, 2.0].map(|loss| plateau.observe(loss)).into();
/// assert_eq!(factors, [1.0, 1.0, 1.0, 0.1]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Plateau {
    factor: f64,
    patience: u32,
    best: f64,
    waited: u32,
    present: f64,
}

impl Plateau {
    /// Times `factor` when the metric has not fallen for more than `patience` observations.
    pub fn new(factor: f64, patience: u32) -> Plateau {
        Plateau { factor, patience, best: f64::INFINITY, waited: 0, present: 1.0 }
    }

    /// Looks at the metric, which should fall by a ten-thousandth of itself; gives the factor.
    pub fn observe(&mut self, metric: f64) -> f64 {
        let better =
            if self.best.is_finite() { metric < self.best - 1e-4 * self.best.abs() } else { metric < self.best };
        if better {
            (self.best, self.waited) = (metric, 0);
        } else {
            self.waited += 1;
        }
        if self.waited > self.patience {
            (self.present, self.waited) = (self.present * self.factor, 0);
        }
        self.present
    }
}

//! Random numbers are those JAX draws: `tests/data/jax_reference.py` says how its file was made.

use std::collections::HashMap;

use wgrad::prelude::*;

/// One case of the file: its op, its options and what JAX gave, by kind.
struct Case {
    name: &'static str,
    op: &'static str,
    options: HashMap<&'static str, &'static str>,
    outs: HashMap<&'static str, Vec<&'static str>>,
}

fn cases(op: &str) -> Vec<Case> {
    let text = include_str!("../data/jax_reference.txt");
    text.split("\n\n").filter_map(case).filter(|case| case.op == op).collect()
}

fn case(text: &'static str) -> Option<Case> {
    let mut lines = text.lines();
    let name = lines.next()?.strip_prefix("case ")?;
    let mut words = lines.next()?.split(' ').skip(1);
    let op = words.next()?;
    let outs = lines.filter_map(|line| {
        let (head, values) = line.split_once(" : ")?;
        Some((head.split(' ').nth(1)?, values.split(' ').collect()))
    });
    Some(Case { name, op, options: words.filter_map(|word| word.split_once('=')).collect(), outs: outs.collect() })
}

impl Case {
    fn numbers<T: std::str::FromStr>(&self, option: &str) -> Vec<T> {
        let text = self.options.get(option).copied().unwrap_or("");
        text.split(',').filter_map(|part| part.parse().ok()).collect()
    }

    fn number<T: std::str::FromStr>(&self, option: &str) -> T {
        self.numbers(option).remove(0)
    }

    /// The case's key twice: with words the host knows, and as the result of an op.
    fn keys(&self) -> [Tensor; 2] {
        let key = Tensor::from_vec(self.numbers::<u32>("key"), [2], &Device::cpu());
        let computed = &key + 0;
        [key, computed]
    }

    /// Runs `draw` with both keys and compares the part that stands in the file by `same`.
    fn compare<T: wgrad::Element + PartialEq>(
        &self,
        kind: &str,
        draw: impl Fn(&Tensor) -> Tensor,
        same: impl Fn(T, &str) -> bool,
    ) {
        let Some(want) = self.outs.get(kind) else { return };
        for key in self.keys() {
            let got = match draw(&key).to_vec::<T>() {
                Ok(got) => got,
                Err(error) => panic!("{}: {error}", self.name),
            };
            let part = match self.numbers::<usize>("range")[..] {
                [from, to] => &got[from..to],
                _ => &got[..],
            };
            assert_eq!(part.len(), want.len(), "{}", self.name);
            for (k, (&got, want)) in part.iter().zip(want).enumerate() {
                assert!(same(got, want), "{}: element {k} is not {want}", self.name);
            }
        }
    }

    fn same_integers(&self, draw: impl Fn(&Tensor) -> Tensor) {
        self.compare("u32", &draw, |got: u32, want| want.parse() == Ok(got));
        self.compare("i32", &draw, |got: i32, want| want.parse() == Ok(got));
    }

    fn same_bits(&self, draw: impl Fn(&Tensor) -> Tensor) {
        self.compare("hex", &draw, |got: f32, want| u32::from_str_radix(want, 16) == Ok(got.to_bits()));
    }

    fn close(&self, draw: impl Fn(&Tensor) -> Tensor, tolerance: f32) {
        self.compare("f32", &draw, |got: f32, want| {
            want.parse().is_ok_and(|want: f32| (got - want).abs() <= tolerance * want.abs().max(1.0))
        });
    }
}

macro_rules! draws {
    ($($op:ident |$case:ident| $check:expr;)*) => {$(
        #[test]
        fn $op() {
            let cases = cases(stringify!($op));
            assert!(!cases.is_empty());
            for $case in cases {
                $check;
            }
        }
    )*};
}

draws! {
    bits |case| case.same_integers(|key| Tensor::bits(case.numbers::<usize>("shape"), key));
    uniform |case| {
        let dims = case.numbers::<usize>("shape");
        let draw = |key: &Tensor| match case.options.contains_key("lo") {
            true => Tensor::uniform_in(dims.clone(), case.number("lo")..case.number("hi"), key),
            false => Tensor::uniform(dims.clone(), key),
        };
        case.same_bits(draw);
        case.close(draw, 1e-6);
    };
    normal |case| case.close(|key| Tensor::normal(case.numbers::<usize>("shape"), key), 3e-6);
    bernoulli |case| case.compare(
        "bool",
        |key| Tensor::bernoulli(case.numbers::<usize>("shape"), case.number::<f64>("p"), key),
        |got: bool, want| want == if got { "1" } else { "0" },
    );
    randint |case| case.same_integers(|key| {
        Tensor::randint(case.numbers::<usize>("shape"), case.number("lo")..case.number("hi"), key)
    });
    permutation |case| case.same_integers(|key| Tensor::permutation(case.number("n"), key));
    categorical |case| case.same_integers(|key| {
        let (rows, classes) = (case.number::<usize>("rows"), case.number::<usize>("classes"));
        let logits: Vec<f32> = (0..rows * classes).map(|i| (i * 37 % 101) as f32 / 16.0).collect();
        Tensor::from_vec(logits, [rows, classes], key.device()).categorical(key)
    });
    split |case| case.same_integers(|key| Tensor::stack(&key.split_key(case.number("n")), 0));
    fold_in |case| {
        let data: u32 = case.number("data");
        case.same_integers(|key| key.fold_in(data));
        case.same_integers(|key| key.fold_in(Tensor::new(data, &Device::cpu())));
    };
    key |case| case.same_integers(|_| Tensor::key(case.number("seed"), &Device::cpu()));
}

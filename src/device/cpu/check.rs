//! What must hold of a kernel before it runs: every number it uses names something, and which
//! stores are provably apart.

use crate::compile::index::{Atom, Lin, Var};
use crate::compile::kernel::{Access, Expr, I, J, K, Kernel, Kind, O, Store};
use crate::device::cpu::code::operands;

/// Extents of the variables; 0 where the kernel has no such variable.
type Extents = [usize; 4];

/// The fact that is wrong with `kernel`.
pub(super) fn check(kernel: &Kernel) -> Result<(), String> {
    let n = kernel.body.len();
    if kernel.dtypes.len() != n {
        return Err(format!("{n} expressions have {} dtypes", kernel.dtypes.len()));
    }
    for (id, expr) in kernel.body.iter().enumerate() {
        let mut late = false;
        operands(expr, &mut |src| late |= src as usize >= id);
        if late {
            return Err(format!("v{id} comes before an operand"));
        }
        if let Expr::Index(index)
        | Expr::Inside { index, .. }
        | Expr::Load { index, .. }
        | Expr::Random { counter: index, .. } = expr
            && !names_only(index, &[O, I, J, K], true)
        {
            return Err(format!("v{id} depends on a variable that is not there"));
        }
        match expr {
            Expr::Load { buffer, .. } if *buffer >= kernel.buffers.len() => {
                return Err(format!("v{id} loads from buffer {buffer}, which is not there"));
            }
            Expr::Checked { fault, .. } if *fault >= kernel.faults.len() => {
                return Err(format!("v{id} raises fault {fault}, which is not there"));
            }
            _ => {}
        }
    }
    let expr = |id: u32| if (id as usize) < n { Ok(()) } else { Err(format!("there is no v{id}")) };
    let buffer = |at: usize, write: bool| match kernel.buffers.get(at) {
        Some(buffer) if !write || buffer.access != Access::Read => Ok(()),
        Some(_) => Err(format!("buffer {at} is stored to but only read")),
        None => Err(format!("there is no buffer {at}")),
    };
    for store in stores(kernel) {
        expr(store.value)?;
        buffer(store.buffer, true)?;
        let mut missing = None;
        store.index.visit(&mut |atom| match atom {
            Atom::Value(id, _) if *id as usize >= n => missing = Some(*id),
            _ => {}
        });
        missing.map_or(Ok(()), expr)?;
    }
    let deps = kernel.dependencies();
    let over = |id: u32, vars: &[Var], reduced: u64| {
        expr(id)?;
        let allowed = vars.iter().fold(reduced << 8, |set, v| set | 1 << v);
        match deps[id as usize] & !allowed {
            0 => Ok(()),
            _ => Err(format!("v{id} depends on what is not known there")),
        }
    };
    let store_over = |store: &Store, vars: &[Var], reduced: u64| {
        let mut outside = Ok(());
        store.index.visit(&mut |atom| match atom {
            Atom::Var(v, _) if !vars.contains(v) => outside = Err("a store depends on what is not known there".into()),
            Atom::Value(id, _) if outside.is_ok() => outside = over(*id, vars, reduced),
            _ => {}
        });
        outside.and_then(|()| over(store.value, vars, reduced))
    };
    match &kernel.kind {
        Kind::Loop(spec) => {
            let known = |stage: usize| {
                let earlier = spec.reduces.iter().enumerate().filter(|(_, reduce)| reduce.stage < stage);
                earlier.fold(0u64, |set, (n, _)| set | 1 << n.min(55))
            };
            for reduce in &spec.reduces {
                if reduce.stage >= spec.reduces.len() {
                    return Err(format!("stage {} of {} reductions", reduce.stage, spec.reduces.len()));
                }
                over(reduce.value, &[O, I], known(reduce.stage))?;
            }
            for store in &spec.stores {
                let vars: &[Var] = if store.each_element { &[O, I] } else { &[O] };
                store_over(store, vars, known(usize::MAX))?;
            }
        }
        Kind::Dot(spec) => {
            over(spec.lhs, &[O, I, K], 0)?;
            over(spec.rhs, &[O, K, J], 0)?;
            spec.stores.iter().try_for_each(|store| store_over(store, &[O, I, J], 1))?;
            for (sum, var) in spec.sums.iter().zip([I, J]) {
                sum.iter().try_for_each(|store| store_over(store, &[var], 2))?;
            }
        }
        Kind::Scatter(spec) => {
            over(spec.base, &[O, I], 0)?;
            over(spec.index, &[O, J], 0)?;
            over(spec.value, &[O, J], 0)?;
            spec.order.map_or(Ok(()), |order| over(order, &[O, K], 0))?;
            buffer(spec.out, true)?;
            if !names_only(&spec.out_index, &[O, I], false) {
                return Err("the elements written depend on what is not known there".into());
            }
        }
        Kind::Scan(spec) => {
            over(spec.value, &[O, I], 0)?;
            store_over(&Store { value: spec.value, ..spec.store.clone() }, &[O, I], 0)?;
        }
        Kind::Sort(spec) => {
            buffer(spec.keys, false)?;
            buffer(spec.out, true)?;
            spec.runs.map_or(Ok(()), |runs| buffer(runs, false))?;
        }
        Kind::Custom(spec) => return Err(format!("{} is a shader; the CPU runs its definition", spec.name)),
    }
    Ok(())
}

/// Whether an index is made of `vars` only, and of kernel values where `values` says so.
fn names_only(index: &Lin, vars: &[Var], values: bool) -> bool {
    let mut only = true;
    index.visit(&mut |atom| match atom {
        Atom::Var(v, _) => only &= vars.contains(v),
        Atom::Value(..) => only &= values,
        Atom::Div(..) | Atom::Mod(..) => {}
    });
    only
}

fn stores(kernel: &Kernel) -> &[Store] {
    match &kernel.kind {
        Kind::Loop(spec) => &spec.stores,
        Kind::Dot(spec) => &spec.stores,
        Kind::Scan(spec) => std::slice::from_ref(&spec.store),
        Kind::Scatter(_) | Kind::Sort(_) | Kind::Custom(_) => &[],
    }
}

fn extents(kernel: &Kernel) -> Extents {
    match &kernel.kind {
        Kind::Loop(spec) => [spec.outer, spec.inner, 0, 0],
        Kind::Dot(spec) => [spec.batch, spec.m, spec.n, spec.k],
        Kind::Scatter(spec) => [spec.lines, spec.axis, spec.updates, 0],
        Kind::Scan(spec) => [spec.lines, spec.n, 0, 0],
        Kind::Sort(_) | Kind::Custom(_) => [0; 4],
    }
}

/// Whether every element of a buffer is used at one point of the iteration only: what makes plain
/// accesses of several threads sound.
pub(super) fn is_apart(kernel: &Kernel, buffer: usize) -> bool {
    let n = extents(kernel);
    let mut stores = stores(kernel).iter().filter(|store| store.buffer == buffer);
    let (lin, vars): (&Lin, &[Var]) = match (&kernel.kind, stores.next(), stores.next()) {
        (Kind::Loop(_), Some(store), None) if store.each_element => (&store.index, &[O, I]),
        (Kind::Loop(_), Some(store), None) => (&store.index, &[O]),
        (Kind::Dot(_), Some(store), None) => (&store.index, &[O, I, J]),
        (Kind::Scan(_), Some(store), None) => (&store.index, &[O, I]),
        (Kind::Scatter(spec), ..) if spec.out == buffer => (&spec.out_index, &[O, I]),
        // Lines of a sort follow one another.
        (Kind::Sort(spec), ..) => return spec.out == buffer && spec.keys != buffer && spec.runs != Some(buffer),
        _ => return false,
    };
    let loads = |expr: &Expr| matches!(expr, Expr::Load { buffer: from, index, .. } if *from == buffer && index != lin);
    is_mixed_radix(lin, vars, &n) && !kernel.body.iter().any(loads)
}

/// Whether `lin` is a constant and `vars`, or their quotients and remainders, with coefficients that
/// keep all their values apart.
fn is_mixed_radix(lin: &Lin, vars: &[Var], extents: &Extents) -> bool {
    let mut digits = Vec::new();
    for (atom, c) in &lin.terms {
        let Some(v) = variable(atom).filter(|v| vars.contains(v)) else { return false };
        let n = extents[usize::from(v)];
        let n = match atom {
            Atom::Div(_, d) => n.div_ceil((*d).max(1)),
            Atom::Mod(_, d) => n.min((*d).max(1)),
            _ => n,
        };
        digits.push((c.unsigned_abs(), n));
    }
    // A variable is known from its value, or from a quotient and a remainder.
    let named = |v: Var| {
        let own = || lin.terms.iter().map(|(atom, _)| atom).filter(|atom| variable(atom) == Some(v));
        let remainder = |by: usize| own().any(|atom| matches!(atom, Atom::Mod(_, d) if *d == by));
        own().any(|atom| match atom {
            Atom::Div(_, by) => remainder(*by),
            Atom::Mod(..) => false,
            _ => true,
        })
    };
    digits.sort_unstable();
    let mut span = 0u128;
    digits.iter().all(|&(c, n)| {
        let apart = u128::from(c) > span;
        span += u128::from(c) * (n as u128).saturating_sub(1);
        apart
    }) && vars.iter().all(|&v| extents[usize::from(v)] <= 1 || named(v))
}

/// The variable that `atom` is, or is a quotient or remainder of.
fn variable(atom: &Atom) -> Option<Var> {
    match atom {
        Atom::Var(v, _) => Some(*v),
        Atom::Div(x, _) | Atom::Mod(x, _) => match &x.terms[..] {
            [(Atom::Var(v, _), 1)] if x.constant == 0 => Some(*v),
            _ => None,
        },
        Atom::Value(..) => None,
    }
}

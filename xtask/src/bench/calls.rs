//! A typed call into a component that is warm.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use vac_host::Val;

use super::compute::{Vac, into};
use super::figure::{Figure, Goal};
use super::plain::{self, Plain};
use super::timing::{Side, medians, time};
use super::{Result, prebuilt, text};

const BATCHES: usize = 400;
/// Calls in one batch; one call is too short for the clock.
const BATCH_CALLS: usize = 250;
const RATIO_GOAL: f64 = 2.0;
const BYTES: usize = 64;

/// `nop` and `echo`, against both ways that wasmtime calls them.
pub(super) fn run() -> Result<Vec<Figure>> {
    let bytes = prebuilt("bench")?;
    let nop = measure(&bytes, "nop", &[], |plain| {
        let typed = plain.func("nop")?.typed::<(), ()>(&plain.store).map_err(text)?;
        Ok(Box::new(move || batch(|| typed.call(&mut plain.store, ()).map_err(text))))
    })?;
    let list = [Val::List(vec![Val::U8(0x56); BYTES])];
    let echo = measure(&bytes, "echo", &list, |plain| {
        let typed = plain.func("echo")?.typed::<(&[u8],), (Vec<u8>,)>(&plain.store).map_err(text)?;
        Ok(Box::new(move || batch(|| typed.call(&mut plain.store, (&[0x56; BYTES],)).map_err(text))))
    })?;
    Ok(nop.into_iter().chain(echo).collect())
}

fn measure<'a>(
    bytes: &[u8],
    name: &str,
    args: &'a [Val],
    typed: impl FnOnce(&'a mut Plain) -> Result<Side<'a>>,
) -> Result<Vec<Figure>> {
    let mut vac = Vac::start(bytes)?;
    let index = vac.find(name)?;
    let callee = vac.instance.callee(&index).map_err(text)?;
    let mut plain = Plain::start(&plain::config(), bytes)?;
    let func = plain.func(name)?;
    let mut on_stack = Plain::start(&plain::config(), bytes)?;
    let func_on_stack = on_stack.func(name)?;
    let results = func.ty(&plain.store).results().len();
    // The benchmark ends soon after; a leak lets the typed side borrow its store for as long as it likes.
    let typed_plain = Box::leak(Box::new(Plain::start(&plain::config(), bytes)?));
    let mut sides: [Side<'_>; 4] = [
        Box::new(|| batch(|| vac.instance.call_callee(&callee, args).map_err(|stopped| text(into(stopped))))),
        Box::new(|| {
            batch(|| {
                let mut results = vec![Val::Bool(false); results];
                func.call(&mut plain.store, args, &mut results).map_err(text)?;
                Ok(results)
            })
        }),
        typed(typed_plain)?,
        Box::new(|| {
            batch(|| {
                let mut results = vec![Val::Bool(false); results];
                ready(func_on_stack.call_async(&mut on_stack.store, args, &mut results))?;
                Ok(results)
            })
        }),
    ];
    let medians = medians(BATCHES, &mut sides)?;
    let figure = |baseline| Figure::new(format!("call `{name}`, p50"), "ns", medians[0], baseline);
    let goal = Goal::RatioAtMost(RATIO_GOAL);
    Ok(vec![
        figure(("plain, dynamic values", medians[1])).goal(goal),
        figure(("plain, on its own stack", medians[3]))
            .note("`call_async`: a kernel that can be stopped runs on a stack of its own"),
        figure(("plain, static types", medians[2]))
            .note("static types are for hosts that know the component when they are built; VAC does not"),
    ])
}

/// The result of a future that never waits.
fn ready<T>(future: impl Future<Output = wasmtime::Result<T>>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result.map_err(text),
        Poll::Pending => Err("expected a call that does not wait".to_owned()),
    }
}

/// Nanoseconds a call, over one batch.
fn batch<T>(mut call: impl FnMut() -> Result<T>) -> Result<f64> {
    let ns =
        time(|| (0..BATCH_CALLS).try_for_each(|_| call().map(|value| drop(std::hint::black_box(value)))))?;
    Ok(ns / BATCH_CALLS as f64)
}

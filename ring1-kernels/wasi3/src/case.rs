//! What every case needs: words to the outside, and several things at once.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::pin;
use std::task::Poll;

use crate::bindings::wasi::cli::{exit, stderr, stdout};
use crate::bindings::wit_stream;

/// Writes a line to the standard output.
pub(crate) async fn say(line: &str) {
    let (mut to, from) = wit_stream::new();
    let done = stdout::write_via_stream(from);
    let left = to.write_all(format!("{line}\n").into_bytes()).await;
    drop(to);
    if !left.is_empty() || done.await.is_err() {
        exit::exit_with_code(3);
    }
}

/// Says what is wrong and ends.
pub(crate) async fn wrong(what: &str) {
    let (mut to, from) = wit_stream::new();
    let done = stderr::write_via_stream(from);
    to.write_all(format!("wrong: {what}\n").into_bytes()).await;
    drop(to);
    let _ = done.await;
    exit::exit(Err(()));
}

/// Ends if two values differ.
pub(crate) async fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) {
    if got != expected {
        wrong(&format!("{what}: expected {expected:?}, got {got:?}")).await;
    }
}

/// Does both, by turns.
pub(crate) async fn both<A: IntoFuture, B: IntoFuture>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a.into_future()), pin!(b.into_future()));
    let (mut got_a, mut got_b) = (None, None);
    poll_fn(move |context| {
        if got_a.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(context)
        {
            got_a = Some(value);
        }
        if got_b.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(context)
        {
            got_b = Some(value);
        }
        match (got_a.take(), got_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (got_a, got_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Does both until one is done. Whether it was the first.
pub(crate) async fn first(a: impl Future<Output = ()>, b: impl Future<Output = ()>) -> bool {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|context| {
        if a.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        b.as_mut().poll(context).map(|()| false)
    })
    .await
}

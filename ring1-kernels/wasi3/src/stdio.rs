//! The standard streams.

use std::pin::pin;

use wit_bindgen::StreamResult;

use crate::bindings::wasi::cli::{environment, stderr, stdin, stdout};
use crate::bindings::wasi::cli::{terminal_stderr, terminal_stdin, terminal_stdout};
use crate::bindings::wit_stream;
use crate::case::{both, same, say, wrong};

/// What the guest is told at its start.
pub(crate) async fn hello() {
    say(&format!("args {:?}", environment::get_arguments())).await;
    say(&format!("env {:?}", environment::get_environment())).await;
    same("folder", environment::get_initial_cwd(), None).await;
    same("terminal", terminal_stdin::get_terminal_stdin().is_none(), true).await;
    same("terminal", terminal_stdout::get_terminal_stdout().is_none(), true).await;
    same("terminal", terminal_stderr::get_terminal_stderr().is_none(), true).await;
}

/// Copies the standard input to the output, five bytes at a time.
pub(crate) async fn echo() {
    let (mut from, ended) = stdin::read_via_stream();
    let (mut to, data) = wit_stream::new();
    let done = stdout::write_via_stream(data);
    loop {
        let (result, bytes) = from.read(Vec::with_capacity(5)).await;
        match result {
            StreamResult::Complete(_) => drop(to.write_all(bytes).await),
            _ => break,
        }
    }
    drop(to);
    same("end of the input", ended.await, Ok(())).await;
    same("end of the output", done.await, Ok(())).await;
}

/// Waits for a byte of the standard input.
pub(crate) async fn line() {
    let (mut from, _) = stdin::read_via_stream();
    drop(from.read(Vec::with_capacity(1)).await);
}

/// Gives the standard input to the output as it is.
pub(crate) async fn pass() {
    let (from, ended) = stdin::read_via_stream();
    let done = stdout::write_via_stream(from);
    same("both ends", both(ended, done).await, (Ok(()), Ok(()))).await;
}

/// Streams and futures that one side gives up.
pub(crate) async fn drops() {
    let (from, ended) = stdin::read_via_stream();
    drop(from);
    same("input given up", ended.await, Ok(())).await;

    let (from, ended) = stdin::read_via_stream();
    drop((ended, from));

    let (to, data) = wit_stream::new::<u8>();
    let done = stderr::write_via_stream(data);
    drop(to);
    same("output given up", done.await, Ok(())).await;

    let (mut to, data) = wit_stream::new();
    drop(stdout::write_via_stream(data));
    same("its end is not asked for", to.write_all(b"still\n".to_vec()).await, Vec::new()).await;
    let (result, _) = to.write(Vec::new()).await;
    same("nothing written", result, StreamResult::Complete(0)).await;
    drop(to);

    let (mut from, _ended) = stdin::read_via_stream();
    let (result, bytes) = from.read(Vec::new()).await;
    same("nothing read", (result, bytes), (StreamResult::Complete(0), Vec::new())).await;
    let (result, bytes) = from.read(Vec::with_capacity(3)).await;
    same("some read", (result, bytes.as_slice()), (StreamResult::Complete(3), &b"abc"[..])).await;
    // A read that is not waited for has read, or has not; either way it ends.
    let result = pin!(from.read(Vec::with_capacity(3))).cancel().0;
    match result {
        StreamResult::Complete(3) | StreamResult::Cancelled => {}
        other => wrong(&format!("a read that was given up: {other:?}")).await,
    }

    // Two readers take turns on one input.
    let (second, _) = stdin::read_via_stream();
    drop(from);
    let rest = second.collect().await;
    say(&format!("rest {:?}", String::from_utf8_lossy(&rest))).await;
}

/// Goes on after its result was given.
pub(crate) async fn late() {
    wit_bindgen::spawn_local(async {
        crate::bindings::wasi::clocks::monotonic_clock::wait_for(1_000_000).await;
        say("late").await;
    });
    say("early").await;
}

/// One write that is longer than the host takes at once.
pub(crate) async fn much() {
    const LEN: usize = 3 << 20;
    let (mut to, data) = wit_stream::new();
    let done = stdout::write_via_stream(data);
    let (result, mut left) = to.write(vec![b'x'; LEN]).await;
    let StreamResult::Complete(mut written) = result else { return wrong("the first part").await };
    let mut parts = 1;
    while left.remaining() > 0 {
        let (result, rest) = to.write_buf(left).await;
        let StreamResult::Complete(n) = result else { return wrong("another part").await };
        (written, parts, left) = (written + n, parts + 1, rest);
    }
    drop(to);
    same("done", done.await, Ok(())).await;
    same("length", written, LEN).await;
    same("several parts", parts > 1, true).await;
}

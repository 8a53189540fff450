//! Kernel `wasi3`: a command and a service of WASI 0.3 that tests its host. Its first argument says what to do;
//! `tests/tests/wasi3.rs` says what must come out.
//!
//! What a case finds wrong it says on the standard error, and then it ends with status 1.

mod case;
mod clocks;
mod files;
mod http;
mod net;
mod odds;
mod stdio;

#[allow(missing_docs, reason = "generated; the documentation is in the WIT")]
mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "vac:wasi3/wasi3",
        additional_derives: [PartialEq, Eq],
        generate_all,
    });
}

use bindings::wasi::cli::environment;
use bindings::wasi::http::types::{ErrorCode as HttpError, Request, Response};
use case::wrong;

struct Wasi3;

impl bindings::exports::wasi::cli::run::Guest for Wasi3 {
    async fn run() -> Result<(), ()> {
        let args = environment::get_arguments();
        match args.get(1).map_or("", String::as_str) {
            "hello" => stdio::hello().await,
            "echo" => stdio::echo().await,
            "pass" => stdio::pass().await,
            "drops" => stdio::drops().await,
            "late" => stdio::late().await,
            "much" => stdio::much().await,
            "timers" => clocks::timers().await,
            "race" => clocks::race().await,
            "spin" => clocks::spin().await,
            "random" => odds::random().await,
            "http" => http::all().await,
            "sockets" => odds::sockets().await,
            "tcp" => net::tcp().await,
            "pair" => net::pair().await,
            "listens" => net::listens().await,
            "udp" => net::udp().await,
            "again" => net::again().await,
            "names" => net::names().await,
            "fetch" => net::fetch().await,
            "exit" => odds::exit(),
            "fail" => return Err(()),
            "stuck" => odds::stuck().await,
            "hoard" => odds::hoard(),
            "forever" => odds::forever().await,
            "read" => files::read().await,
            "files" => files::all().await,
            "denied" => files::denied().await,
            other => wrong(&format!("no case `{other}`")).await,
        }
        Ok(())
    }
}

impl bindings::exports::wasi::http::handler::Guest for Wasi3 {
    async fn handle(request: Request) -> Result<Response, HttpError> {
        net::answer(request).await
    }
}

bindings::export!(Wasi3 with_types_in bindings);

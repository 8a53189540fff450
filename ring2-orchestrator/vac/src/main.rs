//! `vac`: the terminal's side of VAC. One file a command; nothing below this crate knows about
//! terminals, JSON or the environment.

use std::process::ExitCode;

use clap::Parser;
use vac_core::fault::HostAbort;
use vac_host::limits::THREAD_STACK_BYTES;

mod cli;
mod client;
mod commands;
mod compile;
mod exit;
mod h1;
mod host;
#[cfg(target_os = "linux")]
mod jail;
mod limits;
mod scrub;
mod serve;
mod show;
mod streams;
mod tiers;
mod ui;

fn main() -> ExitCode {
    // Before anything else: this is how `vac` starts itself to compile, and nobody types it.
    let args: Vec<String> =
        std::env::args_os().skip(1).take(5).filter_map(|arg| arg.into_string().ok()).collect();
    if let Some((compile::SUBCOMMAND, rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest))
    {
        return compile::child(rest);
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
                let message = error.to_string().lines().next().unwrap_or_default().to_owned();
                let error = ui::error_json(&vac_core::fault::Usage::new(message).into());
                ui::print_json(&serde_json::json!({ "error": error }));
            }
            // Help and version are not mistakes.
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    let is_json = cli.global.json;
    // Kernels run on this thread's stack, which no system says the size of.
    let done = vac_host::stack::with(THREAD_STACK_BYTES, || commands::dispatch(cli));
    match done.unwrap_or_else(|e| Err(HostAbort::io("start", "a thread", &e).into())) {
        // What was to be told did not arrive.
        Ok(exit::OK) if ui::is_lost() => ExitCode::from(exit::FAILURE),
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            ui::error(&error, is_json);
            ExitCode::from(exit::of_error(&error))
        }
    }
}

//! One file a command. Each takes its part of the command line and gives an exit code.

use std::sync::Arc;

use vac_core::fault::Result;
use vac_engine::Home;

use crate::cli::{Cli, Command, Global};
use crate::host;
use crate::tiers::Opener;

mod bisect;
mod call;
mod export_replay;
mod fork;
mod inspect;
mod learn;
mod log;
mod mem;
mod mem_watch;
mod probe;
mod replay;
mod revoke;
mod run;
mod runs;
pub(crate) mod seek;
mod serve;
mod store;
mod tier;
mod upgrade;
mod verify;

/// Does what was typed.
pub(crate) fn dispatch(cli: Cli) -> Result<u8> {
    let global = cli.global;
    match cli.command {
        Command::Run(args) => run::run(&global, args),
        Command::Call(args) => call::call(&global, args),
        Command::Serve(args) => serve::serve(&global, args),
        Command::Inspect(args) => inspect::inspect(&global, &args),
        Command::Learn(args) => learn::learn(&global, args),
        Command::Runs(args) => runs::runs(&global, &args),
        Command::Log(args) => log::log(&global, args),
        Command::Replay(args) => replay::replay(&global, &args),
        Command::ExportReplay(args) => export_replay::export_replay(&global, &args),
        Command::Probe(args) => probe::probe(&global, args),
        Command::Seek(args) => seek::seek(&global, &args),
        Command::Bisect(args) => bisect::bisect(&global, &args),
        Command::Fork(args) => fork::fork(&global, args),
        Command::Revoke(args) => revoke::revoke(&global, &args),
        Command::Verify(args) => verify::verify(&global, &args),
        Command::Mem(args) => mem::mem(&global, args),
        Command::Store(args) => store::store(&global, args),
        Command::Tier(args) => tier::tier(&global, args),
    }
}

/// The home, for commands that write to it.
pub(crate) fn home(global: &Global) -> Result<Home> {
    Ok(Home::open(&host::home_path(global.home.clone())?)?.with_tiers(opener(global)))
}

/// The home, for commands that only look.
fn home_to_read(global: &Global) -> Result<Home> {
    Ok(Home::open_read_only(&host::home_path(global.home.clone())?)?.with_tiers(opener(global)))
}

/// The home, for commands that look at memories: what they need from a tier below is kept, where the home can be
/// written to.
fn home_of_memories(global: &Global) -> Result<Home> {
    let looking = home_to_read(global)?;
    match vac_engine::tiers::list(&looking)?.is_empty() {
        true => Ok(looking),
        false => home(global).or(Ok(looking)),
    }
}

fn opener(global: &Global) -> Arc<Opener> {
    Arc::new(Opener { is_quiet: global.quiet })
}

//! Ring 2 of VAC: decides what runs, with what, and what is kept. It knows no terminal and no
//! HTTP; time comes in through [`HostClock`].
//!
//! - [`home`]: where everything is kept
//! - [`grants`]: what the operator allows, from text to open directories; [`grants_file`]: from a file
//! - [`net_grants`], [`namespace`], [`secrets`]: the network, values by key, and what a guest may use unseen
//! - [`manifest`]: what a program asks for, and what comes of it
//! - [`learn`]: the least manifest that a run really needed
//! - [`limits`]: what a run may use up
//! - [`target`]: a program or script, by path, CID or name
//! - [`tiers`]: what stands below the store of a home
//! - [`tree`]: directories as objects, and `copies` of them for runs
//! - [`journal`]: the one place where events are written, or compared with a record; `scribe` writes them beside the
//!   guest
//! - [`session`]: one run, the only writer of its ledger
//! - [`run`]: running a command or a script
//! - [`calls`]: typed calls in one instance
//! - [`revoke`]: taking a grant back from a run that goes on
//! - [`script`]: Starlark over handles
//! - [`replay`]: running again from the ledger alone; `header` checks what the ledger says of the run
//! - [`export_replay`]: a run as one component that needs no store
//! - [`history`]: another version of a program against a record; `quirks` of older versions
//! - [`memory`]: memories by name; `working`: those that a run has open; [`watching`]: what their pagers
//!   do, with what `rereads` counts
//! - [`recording`]: how much of a run is kept
//! - [`probe`]: one program several times, with something different around it
//! - [`seek`]: a replay that stops at a point, and what is there
//! - [`bisect`]: where two runs part, and what led to it
//! - [`snapshot`]: the state between two calls, where a replay may begin; [`fork`]: another future from an event
//! - [`verify`]: checking that everything a ledger names is there and is itself
//! - [`report`]: runs and events as data for those who show them

mod ahead;
pub mod bisect;
pub mod calls;
pub mod clock;
mod copies;
pub mod export_replay;
pub mod fork;
pub mod grants;
pub mod grants_file;
mod header;
pub mod history;
pub mod home;
pub mod journal;
pub mod learn;
pub mod limits;
pub mod manifest;
pub mod memory;
pub mod namespace;
pub mod net_grants;
pub mod probe;
mod quirks;
pub mod recording;
pub mod replay;
pub mod report;
mod rereads;
pub mod revoke;
pub mod run;
mod scribe;
pub mod script;
pub mod secrets;
pub mod seek;
pub mod session;
pub mod snapshot;
mod strict_toml;
pub mod target;
pub mod tiers;
pub mod tree;
pub mod verify;
pub mod watching;
mod working;
mod worlds;

pub use clock::{Deadline, HostClock};
pub use home::Home;
pub use limits::{Limit, Limits};
pub use recording::Recording;

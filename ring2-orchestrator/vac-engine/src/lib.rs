//! Ring 2 of VAC: decides what runs, with what, and what is kept. It knows no terminal and no
//! HTTP; time comes in through [`HostClock`].
//!
//! - [`home`]: where everything is kept
//! - [`grants`]: what the operator allows, from text to open directories
//! - [`limits`]: what a run may use up
//! - [`target`]: a program or script, by path, CID or name
//! - [`journal`]: the one place where events are written, or compared with a record
//! - [`session`]: one run, the only writer of its ledger
//! - [`run`]: running a command, a call or a script
//! - [`revoke`]: taking a grant back from a run that goes on
//! - [`script`]: Starlark over handles
//! - [`replay`]: running again from the ledger alone
//! - [`verify`]: checking that everything a ledger names is there and is itself
//! - [`report`]: runs and events as data for those who show them

pub mod clock;
pub mod grants;
pub mod home;
pub mod journal;
pub mod limits;
pub mod replay;
pub mod report;
pub mod revoke;
pub mod run;
pub mod script;
pub mod session;
pub mod target;
pub mod verify;

pub use clock::{Deadline, HostClock};
pub use home::Home;
pub use limits::{Limit, Limits};

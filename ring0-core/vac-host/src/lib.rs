//! Ring 0 of VAC, the engine's side: compiles, links and runs kernels behind one recorded wall.
//!
//! The only crate that names wasmtime. It has mechanism and no policy: what a kernel may reach
//! comes in with its [`Setup`], and every call that crosses goes through the [`Recorder`].
//!
//! - [`engine`]: the profiles of determinism, compiling, the cache of compiled code
//! - [`rewrite`]: what a program becomes before it is compiled
//! - [`load`]: what a file is, and turning WASI 0.1 modules into components
//! - [`sections`]: what a program's maker put beside its code
//! - [`instance`]: a kernel that runs
//! - [`calls`]: several calls in one instance, with what they give kept between them
//! - [`link`]: joining components, the exports of one being the imports of another
//! - [`memory`]: the linear memory of a core module, from outside
//! - [`export`]: a run as one component that needs no host of ours
//! - [`look`]: what a kernel that was stopped looks like inside
//! - [`state`]: memories and globals of an instance between two calls, and putting them into a fresh one
//! - [`inspect`]: what a kernel imports and exports, and which grants it would need
//! - [`nearest`]: the name that was meant
//! - [`value`]: values as WAVE text and in canonical form
//! - [`wall`]: where every call crosses
//! - [`host`]: what stands behind the wall; [`fs`] for files, [`net`] for what of the network is granted,
//!   [`http`] for requests and secrets
//! - [`stack`]: threads on which kernels may run without a stack of their own
//! - [`limits`]: every bound

mod adapt;
mod adapter;
mod apart;
pub mod calls;
mod clock;
mod core_module;
mod dirty;
pub mod engine;
mod entropy;
pub mod export;
mod floats;
mod foreign;
pub mod fs;
mod held;
pub mod host;
pub mod http;
mod identity;
pub mod inspect;
pub mod instance;
mod kernel_files;
mod kernel_memory;
pub mod limits;
pub mod link;
pub mod load;
pub mod look;
pub mod memory;
mod meter;
mod moves;
pub mod nearest;
mod nesting;
pub mod net;
mod own_end;
mod past;
mod piece;
mod readiness;
pub mod rewrite;
mod schedule;
mod secret_text;
pub mod sections;
pub mod shards;
mod socket;
pub mod stack;
pub mod state;
mod timers;
pub mod value;
pub mod wall;
mod wasi;
mod wasi3;
mod watchdog;
mod wire;

pub use engine::{Backend, Coder, Compiled, Compiler, Engine, Origin, Profile};
pub use host::{Bucket, Console, Host, KeyValue, NoConsole, Out, Preopen, Setup};
pub use instance::{Budget, Ending, Instance, NoWatch, Spent, Watch};
pub use load::{Kind, Loaded};
pub use look::{Lens, Look};
pub use piece::Form;
pub use wall::{Answered, Crossing, Function, NoRecorder, Recorder, Response, State};
pub use wire::Wire;

/// Values of the component model, and their types.
pub use wasmtime::component::{ResourceAny, Type, Val};

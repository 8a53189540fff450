//! `vac serve`: a component that answers HTTP requests.

use std::sync::Arc;

use vac_core::fault::Result;
use vac_engine::Limit;
use vac_engine::target::Target;

use crate::cli::{Global, Serve};
use crate::serve::Listener;
use crate::ui;

pub(crate) fn serve(global: &Global, args: Serve) -> Result<u8> {
    let home = super::home(global)?;
    let mut request = super::run::request(&home, args.given, args.args)?;
    request.ignores_manifest = args.no_manifest;
    let target = Target::find_within(&home, &args.target, request.limits.max(Limit::Module))?;
    crate::scrub::beside(global, args.scrub)?;
    let addr = args.addr;
    super::run::with_console(
        global,
        &target.name,
        &request.limits,
        &request.grants,
        |_| Ok(()),
        |outside, progress| {
            let progress = progress.clone();
            vac_engine::run::serve(&home, &target, &request, outside, move |watch| {
                let (listener, at) = Listener::bind(addr, Arc::clone(watch))?;
                progress.stop();
                ui::note(format_args!("Serving HTTP on http://{at}"));
                Ok(Box::new(listener))
            })
        },
    )
}

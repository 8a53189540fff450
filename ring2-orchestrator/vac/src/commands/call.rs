//! `vac call`: a typed export of any component.

use vac_core::fault::Result;
use vac_engine::target::Target;

use super::run::{request, with_console};
use crate::cli::{Call, Global};

pub(crate) fn call(global: &Global, args: Call) -> Result<u8> {
    let (mut request, limit) = request(args.given, Vec::new())?;
    request.ignores_manifest = args.no_manifest;
    let home = super::home(global)?;
    let target = Target::find(&home, &args.target)?;
    with_console(global, &target.name, limit, &request.grants, |outside| {
        vac_engine::run::call(&home, &target, &args.call, &request, outside)
    })
}

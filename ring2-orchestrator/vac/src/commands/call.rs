//! `vac call`: a typed export of any component.

use vac_core::fault::Result;
use vac_engine::Limit;
use vac_engine::target::Target;

use super::run::{request, with_console};
use crate::cli::{Call, Global};

pub(crate) fn call(global: &Global, args: Call) -> Result<u8> {
    let request = request(args.given, Vec::new())?;
    let home = super::home(global)?;
    let target = Target::find_within(&home, &args.target, request.limits.max(Limit::Module))?;
    with_console(global, &target.name.clone(), &request.limits, |outside| {
        vac_engine::run::call(&home, &target, &args.call, &request, outside)
    })
}

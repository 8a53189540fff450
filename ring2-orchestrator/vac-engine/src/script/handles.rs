//! Values that a script holds and cannot make: kernels, their exports, directories.

use std::cell::Cell;
use std::fmt;

use starlark::any::ProvidesStaticType;
use starlark::eval::{Arguments, Evaluator};
use starlark::starlark_simple_value;
use starlark::values::{Heap, NoSerialize, StarlarkValue, Value, ValueLike, starlark_value};
use vac_core::fault::{Usage, quote};
use vac_host::Val;
use vac_host::inspect::{Export, natural};
use vac_host::nearest::nearest;

use super::functions::shared;
use super::{Context, Pass, Shared, values};

/// A directory.
#[derive(Debug, ProvidesStaticType, NoSerialize, allocative::Allocative)]
pub(super) struct DirHandle {
    pub(super) index: usize,
    pub(super) name: String,
}
starlark_simple_value!(DirHandle);

impl fmt::Display for DirHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<dir {}>", self.name)
    }
}

#[starlark_value(type = "dir")]
impl<'v> StarlarkValue<'v> for DirHandle {}

impl DirHandle {
    /// The handle that `value` is.
    pub(super) fn of<'v>(value: Value<'v>) -> starlark::Result<&'v Self> {
        value.downcast_ref::<Self>().ok_or_else(|| {
            let message =
                format!("expected a handle from `dir(path)` or `grant(text)`, got `{}`", value.get_type());
            starlark::Error::new_other(std::io::Error::other(message))
        })
    }
}

/// Something else that was granted.
#[derive(Debug, ProvidesStaticType, NoSerialize, allocative::Allocative)]
pub(super) struct GrantHandle {
    #[allocative(skip)]
    pub(super) pass: Pass,
    pub(super) name: String,
}
starlark_simple_value!(GrantHandle);

impl fmt::Display for GrantHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<grant {}>", self.name)
    }
}

#[starlark_value(type = "grant")]
impl<'v> StarlarkValue<'v> for GrantHandle {}

/// What a handle in `grants = [...]` passes on.
fn pass_of(value: Value<'_>) -> starlark::Result<Pass> {
    match value.downcast_ref::<GrantHandle>() {
        Some(handle) => Ok(handle.pass),
        None => Ok(Pass::Dir(DirHandle::of(value)?.index)),
    }
}

/// A kernel. Its attributes are its exports.
#[derive(Debug, ProvidesStaticType, NoSerialize, allocative::Allocative)]
pub(super) struct KernelHandle {
    pub(super) index: usize,
    pub(super) name: String,
}
starlark_simple_value!(KernelHandle);

impl fmt::Display for KernelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<kernel {}>", self.name)
    }
}

#[starlark_value(type = "kernel")]
impl<'v> StarlarkValue<'v> for KernelHandle {
    /// Whether the export exists is known when it is called: only then the kernel is at hand.
    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        Some(heap.alloc(BoundExport {
            kernel: self.index,
            kernel_name: self.name.clone(),
            export: attribute.to_owned(),
        }))
    }
}

/// An export of a kernel, to be called.
#[derive(Debug, ProvidesStaticType, NoSerialize, allocative::Allocative)]
struct BoundExport {
    kernel: usize,
    kernel_name: String,
    export: String,
}
starlark_simple_value!(BoundExport);

impl fmt::Display for BoundExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}.{}>", self.kernel_name, self.export)
    }
}

#[starlark_value(type = "export")]
impl<'v> StarlarkValue<'v> for BoundExport {
    /// A function of a resource: `K.codec.make`.
    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        Some(heap.alloc(BoundExport {
            kernel: self.kernel,
            kernel_name: self.kernel_name.clone(),
            export: format!("{}.{attribute}", self.export),
        }))
    }

    fn invoke(
        &self,
        _me: Value<'v>,
        args: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let shared = shared(eval)?;
        let export =
            shared.with(|context| find(context.exports(self.kernel)?, &self.kernel_name, &self.export))?;
        invoke(shared, &export, None, args, eval.heap(), |context, live, vals, passes| {
            context.check_kernel(self.kernel, live)?;
            context.call(self.kernel, &export, vals, passes)
        })
    }
}

/// Calls `export` with what a script gave, after `receiver` if that is a method's.
fn invoke<'v>(
    shared: &Shared<'_>,
    export: &Export,
    receiver: Option<Value<'v>>,
    args: &Arguments<'v, '_>,
    heap: Heap<'v>,
    call: impl FnOnce(
        &mut Context<'_>,
        Option<usize>,
        Vec<Val>,
        &[Pass],
    ) -> vac_core::fault::Result<(Vec<Val>, usize)>,
) -> starlark::Result<Value<'v>> {
    let (mut given, passes) = arguments(args, heap, export)?;
    given.splice(0..0, receiver);
    let live = Cell::new(None);
    let vals = shared.with(|context| {
        let context = &*context;
        values::to_vals(export, &given, &|handle| {
            if live.replace(Some(handle.live)).is_some_and(|other| other != handle.live) {
                let message = format!("`{}` is of another instance than the one before it", handle.shown);
                return Err(Usage::new(message).into());
            }
            context.handle(handle.live, handle.number)
        })
    })?;
    let (results, live) = shared.with(|context| call(context, live.get(), vals, &passes))?;
    let result = shared.with(|_| values::result(export, results))?;
    result.alloc(heap, &|value| {
        let (number, shown) = shared.with(|context| Ok(context.describe(live, value))).ok()??;
        Some(ResourceHandle { live, number, shown })
    })
}

/// A resource that a kernel gave. Its attributes are its methods.
#[derive(Debug, ProvidesStaticType, NoSerialize, allocative::Allocative)]
pub(super) struct ResourceHandle {
    /// The instance that it is of.
    live: usize,
    number: u64,
    pub(super) shown: String,
}
starlark_simple_value!(ResourceHandle);

impl fmt::Display for ResourceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[starlark_value(type = "resource")]
impl<'v> StarlarkValue<'v> for ResourceHandle {
    /// Whether there is such a method is known when it is called.
    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        Some(heap.alloc(BoundMethod {
            live: self.live,
            number: self.number,
            shown: self.shown.clone(),
            method: attribute.to_owned(),
        }))
    }
}

/// A method of a resource, to be called.
#[derive(Debug, ProvidesStaticType, NoSerialize, allocative::Allocative)]
struct BoundMethod {
    live: usize,
    number: u64,
    shown: String,
    method: String,
}
starlark_simple_value!(BoundMethod);

impl fmt::Display for BoundMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}.{}>", self.shown, self.method)
    }
}

#[starlark_value(type = "method")]
impl<'v> StarlarkValue<'v> for BoundMethod {
    fn invoke(
        &self,
        _me: Value<'v>,
        args: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let (shared, heap) = (shared(eval)?, eval.heap());
        let (live, number, shown) = (self.live, self.number, self.shown.clone());
        let export = shared.with(|context| context.method(live, number, &shown, &self.method))?;
        let receiver = heap.alloc(ResourceHandle { live, number, shown });
        invoke(shared, &export, Some(receiver), args, heap, |context, _, vals, passes| {
            context.call_live(live, &export, vals, passes)
        })
    }
}

/// Positional arguments, and what is in `grants`.
fn arguments<'v>(
    args: &Arguments<'v, '_>,
    heap: Heap<'v>,
    export: &Export,
) -> starlark::Result<(Vec<Value<'v>>, Vec<Pass>)> {
    let given: Vec<Value<'v>> = args.positions(heap)?.collect();
    let mut passes = Vec::new();
    for (name, value) in args.names_map()? {
        if name.as_str() != "grants" {
            let message = format!(
                "`{}` has no keyword argument `{}`, did you mean `grants`?",
                export.name,
                quote(name.as_str())
            );
            return Err(starlark::Error::new_other(std::io::Error::other(message)));
        }
        for handle in value.iterate(heap)? {
            passes.push(pass_of(handle)?);
        }
    }
    Ok((given, passes))
}

/// The export that a script means by `name`: Starlark has no hyphens, so `_` stands for one.
fn find(exports: Vec<Export>, kernel: &str, name: &str) -> vac_core::fault::Result<Export> {
    let plain = |export: &Export| natural(&export.name).replace('-', "_");
    let names: Vec<String> = exports.iter().map(plain).collect();
    match exports.into_iter().find(|export| plain(export) == name) {
        Some(export) => Ok(export),
        None => {
            let usage = Usage::new(format!("the kernel `{kernel}` has no export `{}`", quote(name)));
            Err(match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => usage.hint(format!("did you mean `{near}`?")),
                None => usage.hint(format!(
                    "it has {}",
                    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
                )),
            }
            .into())
        }
    }
}

//! The functions that a script can call.

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::bytes::StarlarkBytes;

use super::handles::{DirHandle, GrantHandle, KernelHandle};
use super::{Pass, Shared};

/// What the functions work on.
pub(super) fn shared<'a, 'e>(evaluator: &Evaluator<'_, 'a, 'e>) -> starlark::Result<&'a Shared<'e>> {
    let found = evaluator.extra.and_then(|extra| extra.downcast_ref::<Shared<'e>>());
    found.ok_or_else(|| {
        starlark::Error::new_other(std::io::Error::other("this function works only inside a run"))
    })
}

#[starlark_module]
pub(super) fn functions(builder: &mut GlobalsBuilder) {
    /// A kernel: `builtin:NAME`, a file below the script's folder, or a CID.
    fn kernel<'v>(target: &str, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<KernelHandle> {
        let shared = shared(eval)?;
        let index = shared.with(|context| context.kernel(target))?;
        Ok(KernelHandle { index, name: target.to_owned() })
    }

    /// A directory: below the script's folder to read, below `out` to write, or as granted.
    fn dir<'v>(
        path: &str,
        #[starlark(default = false)] write: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<DirHandle> {
        let index = shared(eval)?.with(|context| context.dir(path, write))?;
        Ok(DirHandle { index, name: path.to_owned() })
    }

    /// Something that the operator granted, or less of it, to pass on to a kernel: `grant("http:GET=HOST")`.
    fn grant<'v>(text: &str, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<GrantHandle> {
        let index = shared(eval)?.with(|context| context.grant(text))?;
        Ok(GrantHandle { pass: Pass::Grant(index), name: text.to_owned() })
    }

    /// A secret that the operator gave, to pass on to a kernel, which finds a placeholder in its configuration.
    fn secret<'v>(name: &str, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<GrantHandle> {
        let index = shared(eval)?.with(|context| context.secret(name))?;
        Ok(GrantHandle { pass: Pass::Secret(index), name: format!("secret {name}") })
    }

    /// The text of a file in a directory.
    fn read<'v>(dir: Value<'v>, name: &str, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<String> {
        let dir = DirHandle::of(dir)?.index;
        shared(eval)?.with(|context| context.read(dir, name))
    }

    /// The bytes of a file in a directory.
    fn read_bytes<'v>(
        dir: Value<'v>,
        name: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let dir = DirHandle::of(dir)?.index;
        let bytes = shared(eval)?.with(|context| context.read_bytes(dir, name))?;
        Ok(eval.heap().alloc(StarlarkBytes::new(&bytes)))
    }

    /// Writes text or bytes to a file in a directory, and gives the CID of what was written.
    fn write<'v>(
        dir: Value<'v>,
        name: &str,
        data: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<String> {
        let dir = DirHandle::of(dir)?.index;
        let data = super::values::data(data)?;
        Ok(shared(eval)?.with(|context| context.write(dir, name, &data))?.to_string())
    }

    /// Puts text or bytes into the store, and gives their CID.
    fn put<'v>(data: Value<'v>, eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<String> {
        let data = super::values::data(data)?;
        Ok(shared(eval)?.with(|context| context.put(&data))?.to_string())
    }
}

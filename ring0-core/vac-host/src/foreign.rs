//! Programs that were made for another host: which one, and what to do instead.
//!
//! Most `.wasm` files of the registries are one half of something whose other half is JavaScript. Their
//! imports tell what made them, and that tells more to their user than the imports do.
//!
//! Invariant: nothing here decides whether a program is refused, only what is said of it.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentType, ComponentTypeRef,
    InstanceTypeDeclaration, Parser, Payload,
};

use crate::adapt::WASI_01;
use crate::core_module::Foreign;
use crate::link::is_of_the_wall;

/// What an import tells, and what that means.
struct Sign {
    /// Whether an import of this module and name is one.
    is: fn(module: &str, name: &str) -> bool,
    /// Who made the program for what, and what would run.
    means: &'static str,
}

/// The first that fits is said, so the telling ones come before those of which there are many.
const SIGNS: [Sign; 15] = [
    Sign {
        is: |module, _| module == "wasi_unstable",
        means: "it was made for the draft of 2019 that came before WASI 0.1; a newer build of it imports \
                `wasi_snapshot_preview1`",
    },
    Sign {
        is: |module, name| module == "emnapi" || name.starts_with("napi_") || name.starts_with("_emnapi_"),
        means: "it is an add-on for Node.js, whose objects it works on; it is no program by itself",
    },
    Sign {
        is: |module, name| module.starts_with("wasix_") || (module == "wasi" && name == "thread-spawn"),
        means: "it was made for several threads or for WASIX; a build for `wasm32-wasip1` has one thread and runs",
    },
    Sign {
        is: |module, name| module == WASI_01 && name.starts_with("sock_"),
        means: "WASI 0.1 has no such function: some hosts added sockets of their own to it; a build for \
                `wasm32-wasip2` has those of WASI 0.2, which run",
    },
    Sign {
        is: |module, _| module == "gojs" || (module == "go"),
        means: "Go made it for a web page (`GOOS=js`); `GOOS=wasip1 GOARCH=wasm go build` makes one that runs",
    },
    Sign {
        is: |module, name| {
            module == "wbg"
                || module.starts_with("__wbindgen")
                || module.ends_with("_bg.js")
                || name.starts_with("__wbg_")
                || name.starts_with("__wbindgen_")
        },
        means: "wasm-bindgen made it for JavaScript; the same crate built for `wasm32-wasip1` or `wasm32-wasip2` runs",
    },
    Sign {
        is: |module, name| module == "env" && name.starts_with("proxy_"),
        means: "it is a filter of proxy-wasm, which a proxy calls with what passes through it",
    },
    Sign {
        is: |module, _| module.starts_with("extism:"),
        means: "it is a plug-in of Extism, which calls it with functions of its own; it is no program by itself",
    },
    Sign {
        is: |module, name| module == "env" && name.starts_with("opa_"),
        means: "it is a policy of Open Policy Agent, which calls it with functions of its own",
    },
    Sign {
        is: |module, name| module == "env" && name == "__indirect_function_table",
        means: "it is a part that a dynamic linker joins with a main module; it is no program by itself",
    },
    Sign {
        is: |module, name| {
            module.starts_with("GOT.")
                || name.starts_with("emscripten_")
                || (module == "env" && name.starts_with("__sys"))
                || (module == "env" && (name.starts_with("invoke_") || name.starts_with("__cxa_")))
                || (module == "a" && name.len() <= 2)
        },
        means: "Emscripten made it for its own JavaScript; a build with wasi-sdk runs, and packages of those often \
                have `wasi` in their name",
    },
    Sign {
        is: |module, name| module == "env" && ["db_read", "db_write", "addr_validate"].contains(&name),
        means: "it is a contract of CosmWasm, which calls its chain",
    },
    Sign {
        is: |module, name| module == "env" && name == "abort",
        means: "AssemblyScript made it for JavaScript; built with `--use abort=` or with its WASI shim it runs",
    },
    Sign { is: |module, _| module.starts_with("wasm:js-"), means: "it works on strings of JavaScript" },
    Sign {
        is: |module, _| module.contains(':'),
        means: "it is the core of a component; with the WIT that it was made for, `wasm-tools component embed` and \
                `wasm-tools component new` make one of it",
    },
];

/// What a module that imports `foreign` was made for, as a hint.
pub(crate) fn hint(foreign: &[Foreign]) -> String {
    let has = |sign: &&Sign| foreign.iter().any(|import| (sign.is)(&import.module, &import.name));
    let means = SIGNS.iter().find(has).map_or("they are functions of a host of its own", |sign| sign.means);
    format!("{means}. Nothing is passed through that cannot be recorded")
}

/// What can be done about a component that imports interfaces which the host does not have.
pub(crate) fn hint_of_component(missing: &[String]) -> String {
    match missing.iter().all(|name| is_of_the_wall(name)) {
        true => {
            "this version of `vac` does not have it; nothing is passed through that cannot be recorded".into()
        }
        false => {
            "`--link OTHER.wasm` joins it with a component that exports what is missing, if you have one"
                .into()
        }
    }
}

/// Interfaces and functions that a component imports and that only another component can have. Of what cannot be read, or
/// has no functions, nothing is said: whoever links it finds what it lacks.
pub(crate) fn imports_of(component: &[u8]) -> Vec<String> {
    let (mut types, mut imports, mut depth) = (Vec::new(), Vec::new(), 0_u32);
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(payload) if depth == 0 && note_imports(&payload, &mut types, &mut imports).is_ok() => {}
            Ok(_) if depth > 0 => {}
            _ => return Vec::new(),
        }
    }
    imports
}

/// `types` says of each type so far whether it is of an instance with functions.
fn note_imports(
    payload: &Payload<'_>,
    types: &mut Vec<bool>,
    imports: &mut Vec<String>,
) -> wasmparser::Result<()> {
    match payload {
        Payload::ComponentTypeSection(section) => {
            for ty in section.clone() {
                types.push(matches!(ty?, ComponentType::Instance(all) if all.iter().any(is_function)));
            }
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section.clone() {
                use ComponentAlias::{InstanceExport, Outer};
                let is_type = matches!(
                    alias?,
                    InstanceExport { kind: ComponentExternalKind::Type, .. }
                        | Outer { kind: ComponentOuterAliasKind::Type, .. }
                );
                types.extend(is_type.then_some(false));
            }
        }
        Payload::ComponentExportSection(section) => {
            for export in section.clone() {
                types.extend((export?.kind == ComponentExternalKind::Type).then_some(false));
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section.clone() {
                let import = import?;
                let has_functions = match import.ty {
                    ComponentTypeRef::Func(_) => true,
                    ComponentTypeRef::Instance(ty) => types.get(ty as usize).copied().unwrap_or_default(),
                    _ => false,
                };
                types.extend(matches!(import.ty, ComponentTypeRef::Type(_)).then_some(false));
                let name = import.name.name;
                imports.extend((has_functions && !is_of_the_wall(name)).then(|| name.to_owned()));
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_function(declared: &InstanceTypeDeclaration<'_>) -> bool {
    matches!(declared, InstanceTypeDeclaration::Export { ty: ComponentTypeRef::Func(_), .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(imports: &[(&str, &str)]) -> String {
        let foreign = |(module, name): &(&str, &str)| Foreign {
            module: (*module).to_owned(),
            name: (*name).to_owned(),
            ty: String::new(),
        };
        hint(&imports.iter().map(foreign).collect::<Vec<_>>())
    }

    #[test]
    fn imports_tell_what_a_program_was_made_for() {
        for (imports, word) in [
            (&[("env", "memory"), ("env", "napi_create_error")][..], "Node.js"),
            (&[("gojs", "runtime.wasmExit")], "GOOS=wasip1"),
            (&[("./x_bg.js", "__wbg_now_1")], "wasm-bindgen"),
            (&[("./mitex_wasm_bg.js", "__wbindgen_string_new")], "wasm-bindgen"),
            (&[("env", "proxy_log")], "proxy-wasm"),
            (&[("a", "a"), ("a", "ba")], "Emscripten"),
            (&[("env", "__syscall_openat")], "Emscripten"),
            (&[("wasi_unstable", "fd_write")], "2019"),
            (&[("extism:host/env", "input_length")], "Extism"),
            (&[("env", "malloc"), ("env", "__indirect_function_table")], "dynamic linker"),
            (&[("wasi_snapshot_preview1", "sock_connect")], "WASI 0.2"),
            (&[("wasi:http/types@0.2.0", "[constructor]fields")], "core of a component"),
            (&[("host", "call")], "host of its own"),
        ] {
            assert!(said(imports).contains(word), "{imports:?}: {}", said(imports));
        }
    }
}

//! `cargo xtask kernels`: builds the kernels into `ring1-kernels/prebuilt`; with `--check`, proves them.
//!
//! A reader of this repository runs the prebuilt components, so they must be what the sources say:
//!
//! 1. Every prebuilt file has the CID and the imports, and every kernel the sources, that
//!    `manifest.toml` names. Needs no compiler.
//! 2. Two builds from copies in two folders give the same bytes, and with the manifest's toolchain the
//!    prebuilt ones.
//!
//! The digest of a kernel's sources is BLAKE3-256 over its files in the order of their paths, each as
//!
//! ```text
//!   path length: u64 LE | path | content length: u64 LE | content
//! ```
//!
//! with paths relative to the repository and parts joined by `/`. Its files are all under
//! `ring1-kernels/NAME`, `ring1-kernels/sdk` and `wit`, and `ring1-kernels/{.cargo/config.toml, Cargo.toml,
//! Cargo.lock}`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use vac_core::cid::Cid;
use wasmparser::{ComponentTypeRef, Encoding, Parser, Payload};

type Result<T> = std::result::Result<T, String>;

/// A kernel and all that it may import.
struct Kernel {
    name: &'static str,
    imports: &'static [&'static str],
}

const KERNELS: [Kernel; 8] = [
    Kernel { name: "bench", imports: &[] },
    Kernel { name: "bench-host", imports: &["vac:bench/host@0.1.0"] },
    Kernel {
        name: "probe",
        imports: &[
            "wasi:io/error@0.2.6",
            "wasi:io/poll@0.2.6",
            "wasi:io/streams@0.2.6",
            "wasi:http/types@0.2.3",
            "wasi:http/outgoing-handler@0.2.3",
            "wasi:keyvalue/store@0.2.0-draft",
            "wasi:keyvalue/batch@0.2.0-draft",
            "wasi:keyvalue/atomics@0.2.0-draft",
            "wasi:config/store@0.2.0-rc.1",
            "wasi:logging/logging",
            "wasi:clocks/monotonic-clock@0.2.6",
            "wasi:sockets/network@0.2.6",
            "wasi:sockets/instance-network@0.2.6",
            "wasi:sockets/udp@0.2.6",
            "wasi:sockets/udp-create-socket@0.2.6",
            "wasi:sockets/tcp@0.2.6",
            "wasi:sockets/tcp-create-socket@0.2.6",
            "wasi:sockets/ip-name-lookup@0.2.6",
        ],
    },
    Kernel { name: "plot", imports: &[] },
    Kernel { name: "series", imports: &["vac:kernel/files@0.1.0"] },
    Kernel { name: "sorter", imports: &["vac:memory/shards@0.1.0"] },
    Kernel { name: "trend", imports: &[] },
    Kernel { name: "wasi3", imports: &WASI_3 },
];

/// What a command of WASI 0.3 that tests its host imports: all of it.
const WASI_3: [&str; 23] = [
    "wasi:cli/environment@0.3.0",
    "wasi:cli/exit@0.3.0",
    "wasi:cli/types@0.3.0",
    "wasi:cli/stdin@0.3.0",
    "wasi:cli/stdout@0.3.0",
    "wasi:cli/stderr@0.3.0",
    "wasi:cli/terminal-input@0.3.0",
    "wasi:cli/terminal-stdin@0.3.0",
    "wasi:cli/terminal-output@0.3.0",
    "wasi:cli/terminal-stdout@0.3.0",
    "wasi:cli/terminal-stderr@0.3.0",
    "wasi:clocks/types@0.3.0",
    "wasi:clocks/monotonic-clock@0.3.0",
    "wasi:clocks/system-clock@0.3.0",
    "wasi:filesystem/types@0.3.0",
    "wasi:filesystem/preopens@0.3.0",
    "wasi:random/random@0.3.0",
    "wasi:random/insecure@0.3.0",
    "wasi:random/insecure-seed@0.3.0",
    "wasi:sockets/types@0.3.0",
    "wasi:sockets/ip-name-lookup@0.3.0",
    "wasi:http/types@0.3.0",
    "wasi:http/client@0.3.0",
];

const USAGE: &str = "expected `cargo xtask kernels` or `cargo xtask kernels --check`";
const TARGET: &str = "wasm32-unknown-unknown";
const GUESTS: &str = "ring1-kernels";
const MANIFEST: &str = "ring1-kernels/prebuilt/manifest.toml";
/// What every kernel is made of beside its own folder.
const SHARED_SOURCES: [&str; 5] = [
    "ring1-kernels/.cargo/config.toml",
    "ring1-kernels/Cargo.lock",
    "ring1-kernels/Cargo.toml",
    "ring1-kernels/sdk",
    "wit",
];
const MANIFEST_HEAD: &str = "\
# The built kernels: written by `cargo xtask kernels`, proved by `cargo xtask kernels --check`.
# `sources` is a BLAKE3-256 digest; xtask/src/kernels.rs says of what.
";

/// Components by the names of their kernels.
type Built = BTreeMap<&'static str, Vec<u8>>;

/// Builds the kernels and rewrites the manifest, or with `--check` compares and writes nothing.
///
/// # Errors
///
/// What differs, or why something could not be built.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let root = root()?;
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => rebuild(&root),
        ["--check"] => check(&root),
        _ => Err(USAGE.to_owned()),
    }
}

/// The repository.
fn root() -> Result<PathBuf> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    parent.map(Path::to_owned).ok_or_else(|| "expected xtask in a folder of the repository".to_owned())
}

fn rebuild(root: &Path) -> Result<()> {
    let toolchain = Toolchain::find(root)?;
    let built = build(root, &toolchain, &root.join(GUESTS).join("target"))?;
    for (name, bytes) in &built {
        write(&prebuilt_path(root, name), bytes)?;
    }
    write(&root.join(MANIFEST), manifest(root, &toolchain.identity, &built)?.as_bytes())?;
    for (name, bytes) in &built {
        println!("{name:<12}{:>8} bytes  {}", bytes.len(), Cid::of_raw(bytes));
    }
    Ok(())
}

fn check(root: &Path) -> Result<()> {
    let prebuilt = read_prebuilt(root)?;
    let text = fs::read_to_string(root.join(MANIFEST)).map_err(|e| format!("{MANIFEST}: {e}"))?;
    let identity = toolchain_of(&text)?;
    compare_manifests(&text, &manifest(root, identity, &prebuilt)?)?;
    println!("kernels: prebuilt files, imports and sources are as the manifest says");
    let toolchain = Toolchain::find(root)?;
    let built = build_twice(root, &toolchain)?;
    println!("kernels: two builds in different folders gave the same bytes");
    if toolchain.identity != identity {
        println!("kernels: NOT compared with prebuilt: this toolchain is not the manifest's");
        println!("--- manifest\n{identity}--- here\n{}", toolchain.identity);
        return Ok(());
    }
    compare_builds(("a fresh build", &built), ("prebuilt", &prebuilt))?;
    println!("kernels: a fresh build gave the prebuilt bytes");
    Ok(())
}

// --- the manifest ---

/// The whole manifest for these components and the sources as they are now.
fn manifest(root: &Path, identity: &str, built: &Built) -> Result<String> {
    let mut text = format!("{MANIFEST_HEAD}\n{identity}");
    for kernel in &KERNELS {
        let bytes = built.get(kernel.name).ok_or_else(|| format!("{}: expected a component", kernel.name))?;
        text.push_str(&entry(root, kernel, bytes)?);
    }
    Ok(text)
}

fn entry(root: &Path, kernel: &Kernel, bytes: &[u8]) -> Result<String> {
    let imports =
        imports(bytes).ok_or_else(|| format!("{}: expected a component with plain imports", kernel.name))?;
    if imports != kernel.imports {
        return Err(format!("{}: expected imports {:?}, got {imports:?}", kernel.name, kernel.imports));
    }
    let (name, cid, sources) = (kernel.name, Cid::of_raw(bytes), sources_digest(root, kernel.name)?);
    Ok(format!(
        "\n[[kernel]]\nname = \"{name}\"\nfile = \"{name}.wasm\"\ncid = \"{cid}\"\nsize = {}\n\
         sources = \"{sources}\"\nimports = {imports:?}\n",
        bytes.len()
    ))
}

/// The `[toolchain]` table of a manifest.
fn toolchain_of(manifest: &str) -> Result<&str> {
    let start = manifest.find("[toolchain]\n");
    let end = manifest.find("\n[[kernel]]\n");
    let table = start.zip(end).and_then(|(start, end)| manifest.get(start..end));
    table.ok_or_else(|| format!("{MANIFEST}: expected `[toolchain]` before `[[kernel]]`"))
}

/// Finds the first line of the manifest that is not what the files on disk would give.
fn compare_manifests(manifest: &str, actual: &str) -> Result<()> {
    let mut kernel = "";
    for (number, (said, is)) in (1..).zip(padded_lines(manifest).zip(padded_lines(actual))) {
        kernel = is.strip_prefix("name = ").unwrap_or(kernel);
        if said != is {
            let hint = "if the change is meant, `cargo xtask kernels` builds and writes it";
            return Err(format!(
                "{MANIFEST} line {number}, kernel {kernel}: it says `{said}`, the files give `{is}`; {hint}"
            ));
        }
        if said.is_empty() && is.is_empty() && number > manifest.lines().count() {
            break;
        }
    }
    Ok(())
}

/// Lines, and then empty ones for ever.
fn padded_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().chain(std::iter::repeat(""))
}

// --- sources ---

fn sources_digest(root: &Path, kernel: &str) -> Result<String> {
    let own = format!("{GUESTS}/{kernel}");
    let mut files = BTreeMap::new();
    for source in SHARED_SOURCES.into_iter().chain([own.as_str()]) {
        collect(root, source, &mut files)?;
    }
    let mut hasher = blake3::Hasher::new();
    for (path, content) in &files {
        for part in [path.as_bytes(), content] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }
    Ok(hasher.finalize().to_string())
}

/// Reads `path`, and all below it when it is a folder.
fn collect(root: &Path, path: &str, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let at = |e: std::io::Error| format!("{path}: {e}");
    let full = root.join(path);
    if !full.is_dir() {
        files.insert(path.to_owned(), fs::read(&full).map_err(at)?);
        return Ok(());
    }
    for entry in fs::read_dir(&full).map_err(at)? {
        let name = entry.map_err(at)?.file_name();
        let name = name.to_str().ok_or_else(|| format!("{path}: expected names in UTF-8, got {name:?}"))?;
        collect(root, &format!("{path}/{name}"), files)?;
    }
    Ok(())
}

// --- building ---

/// Builds in two temporary folders and compares the two. Both at once: most of the time goes into optimising each kernel as one
/// unit, which takes one processor.
fn build_twice(root: &Path, toolchain: &Toolchain) -> Result<Built> {
    let build_below = |below: &str| {
        let scratch = tempfile::tempdir().map_err(|e| format!("temporary folder: {e}"))?;
        let copy = scratch.path().join(below);
        copy_sources(root, &copy)?;
        build(&copy, toolchain, &scratch.path().join(format!("target-{}", below.len())))
    };
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| build_below("one"));
        let two = build_below("two/deeper");
        (one.join().unwrap_or_else(|_| Err("a thread that built kernels panicked".to_owned())), two)
    });
    let (one, two) = (one?, two?);
    compare_builds(("one build", &one), ("another", &two))?;
    Ok(one)
}

fn copy_sources(root: &Path, copy: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    let folders = KERNELS.iter().map(|kernel| format!("{GUESTS}/{}", kernel.name));
    let shared = SHARED_SOURCES.into_iter().chain(["rust-toolchain.toml"]).map(str::to_owned);
    for source in folders.chain(shared) {
        collect(root, &source, &mut files)?;
    }
    files.iter().try_for_each(|(path, content)| write(&copy.join(path), content))
}

/// Builds every kernel under `root`. One call a kernel: what another one asks of a library that both use
/// must not change its bytes.
fn build(root: &Path, toolchain: &Toolchain, target_dir: &Path) -> Result<Built> {
    let flags = remap_flags(root)?;
    let mut built = Built::new();
    for kernel in &KERNELS {
        let mut cargo = cargo(root);
        cargo.args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "--package",
            kernel.name,
        ]);
        cargo.env("RUSTC", &toolchain.rustc).env("CARGO_TARGET_DIR", target_dir);
        cargo.env("CARGO_ENCODED_RUSTFLAGS", &flags);
        output(&mut cargo)?;
        let file = format!("{TARGET}/release/{}.wasm", kernel.name.replace('-', "_"));
        built.insert(kernel.name, read(&target_dir.join(file))?);
    }
    Ok(built)
}

fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root.join(GUESTS));
    cargo
}

/// Sources of libraries are named in panic messages by where they lie; they are mapped to `/cargo`, so
/// that a kernel says nothing about the machine that built it.
fn remap_flags(root: &Path) -> Result<OsString> {
    // First fetched, so that the folders exist.
    output(cargo(root).args(["fetch", "--quiet", "--locked"]))?;
    let sources = cargo_home()?.join("registry/src");
    let registries = fs::read_dir(&sources).map_err(|e| format!("{}: {e}", sources.display()))?;
    let folders: BTreeSet<PathBuf> = registries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let mut flags = OsString::new();
    for folder in folders {
        // 0x1f stands between flags.
        flags.push(if flags.is_empty() { "--remap-path-prefix=" } else { "\u{1f}--remap-path-prefix=" });
        flags.push(folder);
        flags.push("=/cargo");
    }
    Ok(flags)
}

fn cargo_home() -> Result<PathBuf> {
    let default = || std::env::home_dir().map(|home| home.join(".cargo"));
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(default);
    home.ok_or_else(|| "expected a home directory or CARGO_HOME".to_owned())
}

fn compare_builds((a_name, a): (&str, &Built), (b_name, b): (&str, &Built)) -> Result<()> {
    for (name, bytes) in a {
        let other = b.get(name).map_or(&[][..], Vec::as_slice);
        if bytes != other {
            let same = bytes.iter().zip(other).take_while(|(a, b)| a == b).count();
            let (len, other_len) = (bytes.len(), other.len());
            return Err(format!(
                "kernel `{name}`: {a_name} ({len} bytes) and {b_name} ({other_len} bytes) differ from byte {same} on"
            ));
        }
    }
    Ok(())
}

// --- the compiler ---

/// A compiler for the kernels.
struct Toolchain {
    rustc: PathBuf,
    /// All that decides a kernel's bytes beside its sources: the `[toolchain]` table of a manifest.
    identity: String,
}

impl Toolchain {
    /// The private one if it is there, else rustup's if it has the target, else the private one after
    /// making it.
    fn find(root: &Path) -> Result<Self> {
        let private = root.join(".toolchain/rust-wasm");
        let whole = private.join("packages.txt");
        if !whole.exists() {
            if rustup_has_target(root) {
                return Self::identify(root, PathBuf::from("rustc"), "");
            }
            println!("kernels: no compiler for {TARGET}; running tools/wasm-toolchain.sh");
            output(Command::new(root.join("tools/wasm-toolchain.sh")).arg(&private))?;
        }
        let packages = fs::read_to_string(&whole).map_err(|e| format!("{}: {e}", whole.display()))?;
        Self::identify(root, private.join("bin/rustc"), &packages)
    }

    fn identify(root: &Path, rustc: PathBuf, packages: &str) -> Result<Self> {
        let version = output(Command::new(&rustc).arg("-vV").current_dir(root))?;
        let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
        let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"]).current_dir(root))?;
        let tools = Path::new(sysroot.trim()).join("lib/rustlib").join(field("host: ")).join("bin");
        let linker = output(Command::new(tools.join("wasm-component-ld")).arg("--version"))?;
        let identity = format!(
            "[toolchain]\nrustc = {:?}\nllvm = {:?}\ncargo = {:?}\nlinker = {:?}\npackages = {:?}\n",
            version.lines().next().unwrap_or(""),
            field("LLVM version: "),
            output(cargo(root).arg("-V"))?.trim(),
            linker.trim(),
            packages.lines().collect::<Vec<_>>(),
        );
        Ok(Self { rustc, identity })
    }
}

fn rustup_has_target(root: &Path) -> bool {
    let targets = output(Command::new("rustup").args(["target", "list", "--installed"]).current_dir(root));
    targets.is_ok_and(|targets| targets.lines().any(|target| target == TARGET))
}

/// Runs a command to its end; its standard output.
fn output(command: &mut Command) -> Result<String> {
    let done = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(format!("{command:?}: {}\n{}", done.status, String::from_utf8_lossy(&done.stderr)))
}

// --- files ---

fn prebuilt_path(root: &Path, kernel: &str) -> PathBuf {
    root.join(GUESTS).join("prebuilt").join(format!("{kernel}.wasm"))
}

/// All prebuilt components. A file that no kernel explains is an error.
fn read_prebuilt(root: &Path) -> Result<Built> {
    let mut files = BTreeMap::new();
    collect(root, &format!("{GUESTS}/prebuilt"), &mut files)?;
    let known: BTreeSet<PathBuf> = KERNELS.iter().map(|kernel| prebuilt_path(root, kernel.name)).collect();
    let stray = files.keys().find(|path| path.as_str() != MANIFEST && !known.contains(&root.join(path)));
    if let Some(path) = stray {
        return Err(format!("{path}: expected only the manifest and the kernels in it"));
    }
    KERNELS.iter().map(|kernel| Ok((kernel.name, read(&prebuilt_path(root, kernel.name))?))).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    let done = fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes));
    done.map_err(|e| format!("{}: {e}", path.display()))
}

// --- the imports of a component ---

/// The names of what a component imports, or `None` for bytes that are not a component. Types that it only
/// names are no imports.
fn imports(bytes: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.ok()? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return None,
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let import = import.ok()?;
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        names.push(import.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_read_from_the_top_level() {
        let preamble = b"\0asm\x0d\0\x01\0";
        let mut component = preamble.to_vec();
        component.extend([0, 2, 1, b'x']); // a custom section
        component.extend([7, 5, 1, 0x40, 0, 1, 0]); // the type of a function
        component.extend([10, 8, 1, 0, 3, b'a', b':', b'b', 1, 0]);
        assert_eq!(imports(&component), Some(vec!["a:b".to_owned()]));
        assert_eq!(imports(&component[..component.len() - 1]), None, "an import without its type");
        assert_eq!(imports(preamble), Some(vec![]));
        assert_eq!(imports(b"\0asm\x01\0\0\0"), None, "a core module");
    }

    #[test]
    fn the_first_difference_is_named() {
        let text = "# head\n\n[toolchain]\nrustc = \"1\"\n\n[[kernel]]\nname = \"a\"\nsize = 1\n";
        assert_eq!(toolchain_of(text), Ok("[toolchain]\nrustc = \"1\"\n"));
        assert_eq!(compare_manifests(text, text), Ok(()));
        let error = compare_manifests(text, &text.replace("size = 1", "size = 2")).unwrap_err();
        assert!(
            error.contains("line 8, kernel \"a\": it says `size = 1`, the files give `size = 2`"),
            "{error}"
        );
        assert!(compare_manifests(text, &format!("{text}more = 1\n")).is_err());
        assert!(compare_manifests(&format!("{text}more = 1\n"), text).is_err());
    }

    #[test]
    fn builds_that_differ_say_where() {
        let build = |bytes: &[u8]| Built::from([("a", bytes.to_vec())]);
        let (one, two) = (build(b"abc"), build(b"abd"));
        assert_eq!(compare_builds(("x", &one), ("y", &one)), Ok(()));
        let error = compare_builds(("x", &one), ("y", &two)).unwrap_err();
        assert_eq!(error, "kernel `a`: x (3 bytes) and y (3 bytes) differ from byte 2 on");
    }
}

#!/bin/bash
# A Rust compiler with a standard library for wasm32-unknown-unknown, on Debian, beside rustup's.
#
# usage: tools/wasm-toolchain.sh [PREFIX]        default: .toolchain/rust-wasm of this repository
#
# Where `rustup target add wasm32-unknown-unknown` works, nobody needs this. Elsewhere Debian has the
# compiler, the sources of its standard library and its LLVM as packages. They are unpacked into PREFIX and
# never installed, so rustup stays in charge of everything else; then the library is compiled once.
# A PREFIX whose packages and linkers are the current ones is left as it is.
#
# needs: rustup with the toolchain of rust-toolchain.toml (its cargo, rust-lld and wasm-component-ld), apt-get
# with lists that are up to date (`apt-get update`), the crates registry, 900 MB of disk. Not root.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
prefix=${1:-$root/.toolchain/rust-wasm}
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)
cd "$root"    # rustup chooses its toolchain by folder

say() { echo "wasm-toolchain: $*" >&2; }
fail() { say "$*"; exit 1; }

# Package names that hold a version come from the dependencies of those that do not.
depends() { apt-cache depends "$1" 2>/dev/null | awk -v want="$2" '$1 == "Depends:" && index($2, want) == 1 { print $2; exit }'; }
candidate() { apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'; }

# One line a package, `name=version`.
wanted_packages() {
    local std llvm name version
    std=$(depends libstd-rust-web-dev libstd-rust-web-)
    llvm=$(depends "${std:-none}" libllvm)
    [ -n "$std" ] && [ -n "$llvm" ] || return 0
    for name in "$llvm" "$std" libstd-rust-web-dev rust-web-src rustc-web; do
        version=$(candidate "$name")
        [ -n "$version" ] || return 0
        echo "$name=$version"
    done
}

unpack() {
    local debs=$1 deb
    mapfile -t names <<<"$packages"
    # apt drops root to a user that may not see this folder; there is nothing here to protect from root.
    (cd "$debs" && apt-get -q -o APT::Sandbox::User=root download "${names[@]}")
    for deb in "$debs"/rustc-web_*.deb "$debs"/libstd-rust-web-*.deb "$debs"/libllvm*.deb; do
        dpkg -x "$deb" "$prefix"
    done
    version=$(dpkg-deb -f "$debs"/rustc-web_*.deb Version | cut -d+ -f1)
    dpkg --fsys-tarfile "$debs"/rust-web-src_*.deb | tar -x -C "$prefix" "./usr/src/rustc-$version/library"
}

# A wrapper finds the compiler's own LLVM; rustup's linkers are found by name from the compiler's folder.
link_tools() {
    local tools=usr/lib/rustlib/$host/bin rustup_tools
    rustup_tools=$(rustc --print sysroot)/lib/rustlib/$host/bin
    mkdir -p "$prefix/bin" "$prefix/$tools" "$prefix/usr/lib/rustlib/src"
    ln -sfn "../../../src/rustc-$version" "$prefix/usr/lib/rustlib/src/rust"
    ln -sfn "$rustup_tools/rust-lld" "$prefix/$tools/rust-lld"
    ln -sfn "$rustup_tools/wasm-component-ld" "$prefix/$tools/wasm-component-ld"
    ln -sfn "$rustup_tools/gcc-ld/wasm-ld" "$prefix/$tools/wasm-ld"
    cat >"$prefix/bin/rustc" <<WRAPPER
#!/bin/sh
prefix=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")
LD_LIBRARY_PATH="\$prefix/usr/lib/${host/-unknown/}" exec "\$prefix/usr/bin/rustc" "\$@"
WRAPPER
    chmod +x "$prefix/bin/rustc"
}

# Paths end up in panic messages: they are mapped to ones that are the same on every machine.
remap_flags() {
    local source
    echo -n "--remap-path-prefix=$prefix/usr/lib/rustlib/src/rust=/rustc/$version"
    echo -n " --remap-path-prefix=$prefix/usr/src/rustc-$version=/rustc/$version"
    for source in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        echo -n " --remap-path-prefix=$source=/cargo"
    done
}

build_std() {
    local work=$1 target=wasm32-unknown-unknown
    mkdir -p "$work/src"
    echo '#![no_std]' >"$work/src/lib.rs"
    cat >"$work/Cargo.toml" <<'MANIFEST'
[package]
name = "sysroot"
version = "0.0.0"
edition = "2024"
[profile.release]
panic = "abort"
[workspace]
MANIFEST
    export RUSTC="$prefix/bin/rustc" RUSTC_BOOTSTRAP=1
    # First fetched, so that the folders to remap exist.
    cargo fetch -q --locked --target $target --manifest-path "$prefix/usr/src/rustc-$version/library/Cargo.toml"
    (cd "$work" && CARGO_TARGET_DIR="$work/target" RUSTFLAGS="-Cembed-bitcode=yes $(remap_flags)" \
        cargo build -q --release --target $target -Zbuild-std=std,panic_abort)
    local lib="$prefix/usr/lib/rustlib/$target/lib"
    rm -rf "$lib"
    mkdir -p "$lib"
    find "$work/target/$target/release/deps" -name '*.rlib' ! -name 'libsysroot-*' -exec cp {} "$lib/" \;
}

packages=$(wanted_packages)
linkers=$(rustc -V)
host=$(rustc -vV | awk '$1 == "host:" { print $2 }')
if [ -z "$packages" ]; then
    [ -e "$prefix/packages.txt" ] || fail "expected the package rustc-web in apt's lists: run \`apt-get update\` (Debian 12 or later)"
    say "apt's lists do not name the packages: using $prefix as it is"
    exit 0
fi
if [ "$(cat "$prefix/packages.txt" 2>/dev/null)" = "$packages" ] && [ "$(cat "$prefix/linkers.txt")" = "$linkers" ]; then
    say "$prefix is up to date"
    exit 0
fi

rm -rf "${prefix:?}"/{bin,usr,packages.txt,linkers.txt}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/debs" "$scratch/std"
unpack "$scratch/debs"
link_tools
build_std "$scratch/std"
echo "$linkers" >"$prefix/linkers.txt"
echo "$packages" >"$prefix/packages.txt"    # last: it says that the rest is whole
say "$("$prefix/bin/rustc" -V) in $prefix"

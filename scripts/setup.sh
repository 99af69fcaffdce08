#!/usr/bin/env bash
# Installs what building Sheaf needs beside a Rust toolchain and a C++ compiler: clang and libclang, for RocksDB and its
# bindings. Does nothing where they are there. Without apt, or without the right to use it, says what to install.
set -euo pipefail

missing=()
command -v git >/dev/null || missing+=(git)
command -v make >/dev/null || missing+=(make)
command -v clang++ >/dev/null || missing+=(clang)
if [ -z "$(find /usr/lib* -name 'libclang*.so*' -print -quit 2>/dev/null)" ]; then
    missing+=(libclang-dev)
fi

if ! command -v cargo >/dev/null; then
    echo "error: no Rust toolchain" >&2
    echo "hint: install one from https://rustup.rs; rust-toolchain.toml names the version" >&2
    exit 1
fi
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
if command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; }; then
    echo "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "error: missing: ${missing[*]} (Debian's names)" >&2
    echo "hint: install them with your system's packages, then run this again" >&2
    exit 1
fi

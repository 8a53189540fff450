"""Runs `vac` in the test runner of WebAssembly/wasi-testsuite; see README.md beside this file.

The runner loads an adapter as a module, asks its four functions and starts the command that
`compute_argv` gives. The order and shape of that function's arguments have changed over the
years; all that are known are understood.

    VAC        the program, with options if need be; default `vac`
    VAC_HOME   where runs are kept; default a folder that is removed when the runner ends
    VAC_WASI_VERSIONS   the versions whose tests are run; default both that the suite has
"""

import atexit
import os
import shlex
import shutil
import subprocess
import tempfile

VAC = shlex.split(os.getenv("VAC", "vac"))


def get_name():
    return "vac"


def get_version():
    shown = subprocess.run(VAC[:1] + ["--version"], encoding="UTF-8", capture_output=True, check=True)
    return shown.stdout.split()[1]


def get_wasi_versions():
    return os.getenv("VAC_WASI_VERSIONS", "wasm32-wasip1,wasm32-wasip3").split(",")


def get_wasi_worlds():
    return ["wasi:cli/command", "wasi:http/service"]


# What the tests of a proposal connect to and listen on is this machine; `*` is for names, one of which
# must not resolve.
GRANTS = {
    "sockets": ["tcp:0.0.0.0/0", "tcp:::/0", "tcp:listen=*", "udp:0.0.0.0/0", "udp:::/0", "udp:listen=*"],
    "http": ["http:127.0.0.0/8:*", "http:[::1]:*", "http:*:*", "net:127.0.0.0/8", "net:::1"],
}


def compute_argv(test_path, *rest):
    args, env, dirs = _wanted(rest)
    argv = [*VAC, "--home", _home(), "--quiet"]
    if "wasi:http/service" in rest[1:]:
        # The runner finds the address in the first line of the standard error.
        argv += ["serve", str(test_path), "--addr", "127.0.0.1:0"]
    else:
        argv += ["run", str(test_path)]
    proposals = next((item for item in rest[1:] if isinstance(item, list)), [])
    for proposal in proposals if isinstance(rest[0], tuple) else []:
        for grant in GRANTS.get(proposal, []):
            argv += ["--grant", grant]
    for host, guest in dirs:
        argv += ["--grant", f"dir:rw={host}::{guest}"]
    for name, value in env.items():
        argv += ["--env", f"{name}={value}"]
    # The runner gives every test a standard input, and some read it.
    argv += ["--grant", "stdin"]
    return argv + ["--", *args]


def _wanted(rest):
    """Arguments, environment, and directories as pairs of the host's and the guest's path.

    Known, from the newest to the oldest:
        ((args, env, root), proposals, world, version)     root is one directory, shown as `/`
        ((args, env, dirs), proposals, world, version)     and without `world` before that
        (args, env, dirs, version)                         and without `version` before that
    """
    if isinstance(rest[0], tuple) and len(rest[0]) == 3:
        args, env, dirs = rest[0]
    else:
        args, env, dirs = rest[:3]
    if dirs is None:
        dirs = []
    if isinstance(dirs, (str, os.PathLike)):
        dirs = [(dirs, "/")]
    return args, env, [pair if isinstance(pair, tuple) else (pair, pair) for pair in dirs]


def _home():
    """One home for all tests: code that was compiled once is used again."""
    if "VAC_HOME" not in os.environ:
        os.environ["VAC_HOME"] = tempfile.mkdtemp(prefix="vac-conformance-")
        atexit.register(shutil.rmtree, os.environ["VAC_HOME"], ignore_errors=True)
    return os.environ["VAC_HOME"]

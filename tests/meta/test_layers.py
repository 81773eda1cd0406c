# SPDX-License-Identifier: Apache-2.0
"""Section 4 of the design: packages are named by what they may touch, and import in one direction only."""

from __future__ import annotations

import re
import sys

import pytest
from source_tree import MODULES, PACKAGE, Module

#: What each layer may import of the package, besides itself.
BELOW = {
    "errors": set(),
    "model": {"errors"},
    "control": {"errors", "model"},
    "kernel": {"errors", "model"},
    # the programs inside a pool's workers and templates, which share the words of the wire with the runtime
    "worker": {"errors", "model", "kernel"},  # the template forks by native code; the serving loop imports none of it (test_import_cost.py)
    "runtime": {"errors", "model", "control", "kernel", "worker"},
    "daemon": {"errors", "model", "control", "kernel", "runtime"},
    "cli": {"errors", "model", "control", "kernel", "runtime", "daemon"},
}
#: At the top: the package itself exports lazily, and ``python -m supervisor`` is the command.
TOP = {"", "__main__"}
#: Annotations only: the error that carries an outcome names its type.
TYPING_EXCEPTIONS = {("supervisor.errors", "supervisor.model.outcome")}

#: Modules of the standard library that touch the world, and the like from elsewhere.
IMPURE = {
    "os",
    "io",
    "asyncio",
    "socket",
    "time",
    "select",
    "selectors",
    "signal",
    "subprocess",
    "threading",
    "multiprocessing",
    "concurrent",
    "pathlib",
    "shutil",
    "tempfile",
    "glob",
    "random",
    "secrets",
    "fcntl",
    "resource",
    "ctypes",
    "mmap",
    "pwd",
    "grp",
    "sys",
    "logging",
    "cffi",
    "psutil",
    "prctl",
    "jeepney",
    "_thread",
    "_posixsubprocess",
}
IMPURE_CALLS = {"open", "input", "print", "exec", "eval", "__import__"}
ASYNCIO_LAYERS = {"runtime", "daemon", "cli"}
SYNCHRONOUS = {"supervisor.runtime.oneshot", "supervisor.runtime.execution", "supervisor.runtime.conclude"}

SUPERVISORD = {
    "childutils",
    "compat",
    "confecho",
    "datatypes",
    "dispatchers",
    "events",
    "http",
    "http_client",
    "loggers",
    "medusa",
    "options",
    "pidproxy",
    "poller",
    "process",
    "rpcinterface",
    "scripts",
    "skel",
    "socket_manager",
    "states",
    "supervisorctl",
    "supervisord",
    "templating",
    "tests",
    "ui",
    "web",
    "xmlrpc",
}
VAGUE = {"manager", "managers", "helper", "helpers", "util", "utils", "base", "info", "data"}
#: The glossary's init helper.
ALLOWED_CLASSES = {"HelperTree", "HelperLaunch"}

every_module = pytest.mark.parametrize("module", MODULES, ids=[module.dotted for module in MODULES])
pure_module = pytest.mark.parametrize(
    "module", [module for module in MODULES if module.layer in ("errors", "model", "control")], ids=lambda module: module.dotted
)


def layer_of(dotted: str) -> str:
    return dotted.split(".")[1] if "." in dotted else ""


def test_the_package_is_found_and_holds_only_known_layers() -> None:
    assert {"errors", "model", "control", "kernel", "runtime"} <= {module.layer for module in MODULES} <= set(BELOW) | TOP


@pytest.mark.parametrize("module", [module for module in MODULES if module.layer not in TOP], ids=lambda module: module.dotted)
def test_imports_point_downwards_only(module: Module) -> None:
    """errors <- model <- {control, kernel <- worker} <- runtime <- daemon <- cli; control and kernel never see each other."""
    for found in module.imports():
        assert not found.module.startswith("."), f"line {found.line}: imports are absolute"
        if found.module.split(".")[0] != "supervisor" or (module.dotted, found.module) in TYPING_EXCEPTIONS:
            continue
        assert found.module != "supervisor" or found.name == "_native" or module.layer in ("daemon", "cli"), (
            f"line {found.line}: names a submodule"
        )
        target = layer_of(found.module)
        allowed = BELOW[module.layer] | {module.layer, "_native", ""}
        assert target in allowed, f"line {found.line}: {module.layer} must not import {found.module}"


def test_the_package_itself_imports_nothing_until_a_name_is_used() -> None:
    top = next(module for module in MODULES if module.dotted == "supervisor")
    assert [found.module for found in top.imports() if not found.typing_only] in (["__future__", "importlib"], ["__future__"])


@pure_module
def test_pure_layers_touch_nothing(module: Module) -> None:
    """No os, asyncio, socket, time, io and the like in errors, model and control, and no open()."""
    touched = {found.module.split(".")[0] for found in module.imports() if not found.typing_only} & IMPURE
    assert not touched
    assert not module.names_called() & IMPURE_CALLS


@every_module
def test_asyncio_stays_in_runtime_daemon_and_cli(module: Module) -> None:
    uses = [found.line for found in module.imports() if found.module.split(".")[0] == "asyncio"]
    assert not uses or (module.layer in ASYNCIO_LAYERS and module.dotted not in SYNCHRONOUS)


@every_module
def test_only_the_native_boundary_imports_the_native_module(module: Module) -> None:
    if module.dotted == "supervisor.kernel.native":
        return
    for found in module.imports():
        assert found.module != "supervisor._native", f"line {found.line}"
        assert (found.module, found.name) != ("supervisor", "_native"), f"line {found.line}"


@every_module
def test_only_kernel_modules_see_the_native_library_itself(module: Module) -> None:
    taken = {found.name for found in module.imports() if found.module == "supervisor.kernel.native"}
    assert module.layer == "kernel" or not taken & {"ffi", "lib"}


def test_no_name_at_the_top_of_the_package_is_one_of_supervisords() -> None:
    """Both can be installed in one environment, in either order, and keep their files."""
    ours = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path.is_dir() and path.name != "__pycache__")}
    assert not ours & SUPERVISORD


def words(name: str) -> set[str]:
    """The words of a name in snake_case or CamelCase, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


def test_words_of_a_name() -> None:
    assert words("JobManager") == words("job_manager") == {"job", "manager"}
    assert words("HTTPData") == words("http_data") == {"http", "data"}


@every_module
def test_nothing_is_named_manager_helper_util_base_info_or_data(module: Module) -> None:
    vague = [name for name in module.classes() if name not in ALLOWED_CLASSES and words(name) & VAGUE]
    assert not vague
    assert not words(module.dotted.rpartition(".")[2]) & VAGUE


def test_the_lists_above_name_modules_of_the_standard_library() -> None:
    others = {"cffi", "psutil", "prctl", "jeepney"}
    assert IMPURE - others <= set(sys.stdlib_module_names)

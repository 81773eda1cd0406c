# SPDX-License-Identifier: Apache-2.0
"""What a worker takes over from its pool before the first task: where modules are found, and the main program.

The pool's ``__main__`` is loaded only when a task names something in it, and then under the name
``__mp_main__``, as multiprocessing does: ``if __name__ == "__main__":`` keeps it from running twice.
"""

from __future__ import annotations

import sys
from _pickle import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

MAIN: Final = "__mp_main__"


def prepare(given: dict[str, Any]) -> None:
    """Take over what is given, import ``preload``, call ``initializer``. Raises what these raise."""
    take_over(given)
    import_all(given["preload"])
    if given["initializer"] is not None:
        function, args = loads(given["initializer"])
        function(*args)


def take_over(given: dict[str, Any]) -> None:
    """The pool's module path, arguments and main program."""
    sys.path[:] = given["path"]
    sys.argv[:] = given["argv"]
    _expect_main(*given["main"])


def import_all(names: list[str]) -> None:
    """Import the modules, the pool's main program among them where it is named; what is imported already costs nothing."""
    for name in names:
        if name != "__main__":
            __import__(name)
        elif MAIN not in sys.modules:
            sys.modules["__main__"].load_main()


def _expect_main(module_name: str, path: str) -> None:
    """Load the pool's main program when something in it is asked for: by its module's name, or by its path."""
    ours = vars(sys.modules["__main__"])

    def find(name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # asked by introspection, not by a task
        if not module_name and not path:
            raise NameError(f"{name!r} was defined in an interactive session, where a worker cannot find it: put it into a module")
        return getattr(_load_main(module_name, path), name)

    ours["__getattr__"] = find  # PEP 562
    ours["load_main"] = lambda: _load_main(module_name, path)


def _load_main(module_name: str, path: str) -> Any:
    loaded = sys.modules.get(MAIN)
    if loaded is not None:
        return loaded
    import runpy
    from types import ModuleType

    main = sys.modules[MAIN] = ModuleType(MAIN)
    try:
        found = runpy.run_module(module_name, run_name=MAIN, alter_sys=True) if module_name else runpy.run_path(path, run_name=MAIN)
    except BaseException:
        del sys.modules[MAIN]
        raise
    main.__dict__.update(found)
    sys.modules["__main__"] = sys.modules[MAIN] = main
    return main

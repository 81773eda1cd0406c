# SPDX-License-Identifier: Apache-2.0
"""Why a sandbox could not be built, and what to do about it."""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from supervisor.model.plan import LaunchPlan

_NO_NAMESPACES: Final = (
    "this host or container does not let us make namespaces; 'ringfence doctor' says more "
    "(Docker: --security-opt seccomp=unconfined, or a profile that allows clone and unshare)"
)
_OLD_KERNEL: Final = "this kernel lacks a mount call of Linux 5.12"
_HINTS: Final = {
    ("clone", errno.EPERM): _NO_NAMESPACES,
    ("clone", errno.ENOSPC): "a limit on namespaces is reached (sysctl user.max_*_namespaces), or they are nested too deep",
    ("clone", errno.EUSERS): "user namespaces are nested too deep",
    ("clone", errno.EINVAL): "this kernel lacks one of the namespaces",
    ("user_map", errno.EPERM): _NO_NAMESPACES,
    ("user_map", errno.EACCES): "this process may not be looked into (PR_SET_DUMPABLE is 0), so its user namespace cannot be set up",
    ("proc", errno.EPERM): (
        "the surroundings cover parts of /proc, so the kernel lets nobody mount a fresh one "
        "(Docker: --security-opt systempaths=unconfined; Kubernetes: procMount: Unmasked)"
    ),
    ("bind", errno.ENOENT): "the source does not exist",
    ("bind", errno.EACCES): "the source may not be reached by the user this runs as",
    ("bind", errno.ENOSYS): _OLD_KERNEL,
    ("root", errno.ENOSYS): _OLD_KERNEL,
    ("root", errno.EPERM): _NO_NAMESPACES,
    ("private_mounts", errno.EPERM): _NO_NAMESPACES,
    ("overlay", errno.ENOENT): "the source does not exist",
    ("overlay", errno.EINVAL): "the file system of the source or of upper cannot be a layer of an overlay",
    ("overlay", errno.EPERM): "overlays in a user namespace need Linux 5.11",
    ("overlay", errno.EBUSY): "upper is in use by another job",
    ("target", errno.ELOOP): "the target goes through a symbolic link; name the place itself",
    ("target", errno.ENOENT): "the target must exist, for it lies in what the host or another bind shows, where nothing is made",
    ("target", errno.ENOTDIR): "the target is a file, or goes through one, and the source is a directory",
    ("target", errno.EISDIR): "the target is a directory and the source is a file",
    ("working_directory", errno.ENOENT): "it does not exist in the sandbox; bind it, or start elsewhere",
    ("working_directory", errno.EACCES): "it cannot be entered in the sandbox",
}


def sandbox_hint(stage: str, number: int) -> str:
    """``: what to do`` for a failed step of a sandbox, or nothing."""
    hint = _HINTS.get((stage, number))
    return "" if hint is None else f": {hint}"


def not_inside(program: str, plan: LaunchPlan) -> str:
    """The command was not found in a root of its own."""
    shown = [hook.text for hook in plan.hooks if hook.stage == "bind" and not hook.text.startswith(("/dev/", "/etc/"))]
    return f"{program}: not found in the sandbox, which shows {'; '.join(shown)}; bind what the command needs"

# SPDX-License-Identifier: Apache-2.0
"""Hostile: asks the host's services to start something outside."""

import os
import socket

from attack import attempt


def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


for path in (
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    f"/run/user/{os.getuid()}/bus",
    "/run/user/1000/bus",
    "/run/user/1001/bus",
    "/run/user/1000/systemd/private",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
):
    attempt(path, lambda path=path: connect(path))
print("environment", [name for name in os.environ if name.startswith(("DBUS", "XDG", "SSH", "DOCKER"))])

"""The host's half of the virtual-machine test tier; see README.md beside this package."""

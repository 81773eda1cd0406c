# shellcheck shell=sh
# Sourced by the scripts beside it: installs what the host lacks, then hands over to vm.py.

# command:package, as Debian and Ubuntu name them.
needed='mmdebstrap:mmdebstrap mke2fs:e2fsprogs mkswap:util-linux setpriv:util-linux python3:python3 git:git tar:tar'
case $(uname -m) in
	aarch64) needed="$needed qemu-system-aarch64:qemu-system-arm" ;;
	*) needed="$needed qemu-system-x86_64:qemu-system-x86" ;;
esac
# Without root, owners inside the image need user namespaces and fakeroot.
[ "$(id -u)" = 0 ] || needed="$needed newuidmap:uidmap fakeroot:fakeroot"

PATH=$PATH:/usr/sbin:/sbin

missing_packages() {
	for pair in $needed; do
		command -v "${pair%%:*}" >/dev/null || printf '%s ' "${pair#*:}"
	done
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || printf 'debian-archive-keyring '
	if command -v python3 >/dev/null; then
		python3 -c 'import sys, importlib.util as u; sys.exit(3 if sys.version_info < (3, 11) else not u.find_spec("pip"))'
		case $? in
			0) ;;
			3) echo 'vm: Python 3.11 or newer is needed as python3' >&2 && exit 125 ;;
			*) printf 'python3-pip ' ;;
		esac
	fi
}

install_missing() {
	packages=$(missing_packages) || return
	[ -n "$packages" ] || return 0
	if ! command -v apt-get >/dev/null; then
		echo "vm: missing on this host and no apt-get to install it: $packages" >&2
		return 125
	fi
	as_root=
	if [ "$(id -u)" != 0 ]; then
		if ! sudo -n true 2>/dev/null && ! [ -t 0 ]; then
			echo "vm: missing on this host and no way to become root: apt-get install $packages" >&2
			return 125
		fi
		as_root=sudo
	fi
	echo "vm: installing $packages" >&2
	# shellcheck disable=SC2086  # a list of package names
	if ! { $as_root apt-get update && $as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-install-recommends $packages; } >&2; then
		echo "vm: apt-get could not install: $packages" >&2
		return 125
	fi
	packages=$(missing_packages)
	[ -z "$packages" ] || { echo "vm: still missing after installing: $packages" >&2; return 125; }
}

install_missing || exit

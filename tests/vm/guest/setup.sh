#!/bin/sh
# Runs once, inside the new root file system, on the host's own processor (chroot, not emulation).
set -eu

useradd --create-home --shell /bin/bash --uid 1000 tester
install -d /job /scratch /var/lib/systemd/linger
install -d -m 1777 /out
# Lingering: the user manager is started at boot, without a login.
: > /var/lib/systemd/linger/tester
echo vm > /etc/hostname
echo '127.0.0.1 localhost vm' > /etc/hosts

# The clock jumps when the snapshot is restored, so every timer would fire at once; consoles are not used.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
	logrotate.timer man-db.timer systemd-tmpfiles-clean.timer systemd-pcrphase.service e2scrub_reap.service \
	getty@tty1.service serial-getty@ttyS0.service serial-getty@ttyAMA0.service systemd-networkd.service \
	systemd-networkd.socket systemd-networkd-wait-online.service; do
	ln -sf /dev/null "/etc/systemd/system/$unit"
done
systemctl enable ringfence-vm-agent.service

install -d /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n' > /etc/systemd/journald.conf.d/ringfence.conf

# --system-site-packages lets Debian's python3-prctl be seen: it has no wheel.
python3 -m venv --system-site-packages /opt/venv
/opt/venv/bin/python3 -m pip install --quiet --no-cache-dir --no-index --find-links /opt/wheels \
	--root-user-action ignore -r /opt/wheels/requirements.txt
# The project's own wheel comes with each run, unpacked on the job disk.
echo /job/site > "$(echo /opt/venv/lib/python3.*/site-packages)/ringfence-vm.pth"


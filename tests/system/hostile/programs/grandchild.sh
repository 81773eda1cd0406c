# SPDX-License-Identifier: Apache-2.0
# Hostile: a grandchild keeps standard output and error open.
(sleep 1000 & sleep 1000) &
echo done

# SPDX-License-Identifier: Apache-2.0
# Hostile: sleeps for ever.
sleep 1000

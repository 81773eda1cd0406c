#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Real work: compile this project's own C, each file into an object of its own.
# usage: compile.sh SOURCE_FOLDER OBJECT_FOLDER
set -eu
for source in "$1"/*.c; do
    cc -std=gnu11 -O2 -Wall -Wextra -D_GNU_SOURCE -I "$1" -c "$source" -o "$2/$(basename "$source" .c).o"
    echo "$source"
done

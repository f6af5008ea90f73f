#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles the library, the stand-ins and the tests, and runs the tests. Needs JDK 17 or later.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
build="$(mktemp -d)"
trap 'rm -rf "$build"' EXIT
mkdir "$build/main" "$build/stubs" "$build/test"

# compile <output directory> <class path> <source directory>
compile() {
    find "$3" -name '*.java' | sort | sed 's/.*/"&"/' > "$build/sources"
    javac --release 17 -encoding UTF-8 -Xlint:all -Werror -cp "$2" -d "$1" "@$build/sources"
}

compile "$build/main" "$build/main" "$here/src/main/java"
compile "$build/stubs" "$build/stubs" "$here/stubs"
compile "$build/test" "$build/main:$build/stubs" "$here/src/test/java"

java -cp "$build/main:$build/stubs" dev.kdexamples.stubs.RunTests "$build/test"

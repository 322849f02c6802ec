#!/bin/sh
# Runs a TypeScript file on the project's own Node, installing the npm packages first where they are missing or stale.
# The machine's Node may be older than ours: it serves npm only.
set -eu
cd "$(dirname "$0")/.."
stamp=node_modules/.meshctl-lock
if ! cmp -s package-lock.json "$stamp" 2>/dev/null; then
  printf 'Installing npm packages ...\n' >&2
  npm ci --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json "$stamp"
fi
case "$(uname -m)" in
  x86_64) arch=x64 ;;
  aarch64) arch=arm64 ;;
  *) printf 'meshctl: no Node runtime for %s; x86_64 and aarch64 are supported\n' "$(uname -m)" >&2; exit 1 ;;
esac
exec "node_modules/node-linux-$arch/bin/node" --disable-warning=ExperimentalWarning "$@"

#!/bin/sh
# Runs a TypeScript file on the project's own Node, installing the npm packages first where they are missing or stale.
# The machine's Node may be older than ours: it serves npm only.
set -eu
cd "$(dirname "$0")/.."
case "$(uname -m)" in
  x86_64) arch=x64 ;;
  aarch64) arch=arm64 ;;
  *) printf 'meshctl: no Node runtime for %s; x86_64 and aarch64 are supported\n' "$(uname -m)" >&2; exit 1 ;;
esac
node="node_modules/node-linux-$arch/bin/node"
stamp=node_modules/.meshctl-lock
if [ ! -x "$node" ] || ! cmp -s package-lock.json "$stamp" 2>/dev/null; then
  command -v npm >/dev/null || { printf 'meshctl: npm is missing; run: apt-get install npm\n' >&2; exit 1; }
  mkdir -p node_modules
  (
    # Two commands may start at once on a fresh checkout.
    flock 9
    if [ ! -x "$node" ] || ! cmp -s package-lock.json "$stamp" 2>/dev/null; then
      printf 'Installing npm packages ...\n' >&2
      # Not `npm ci`: it refuses a lock file that lacks optional packages of other platforms, which registries that
      # mirror only some platforms produce. Versions and hashes are the lock file's here too. No install script is
      # needed, and none gets to run.
      npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error >&2
      cp package-lock.json "$stamp"
    fi
  ) 9>node_modules/.meshctl-installing
fi
# The runtime needs libatomic.so.1, which a small Debian lacks; apt has it.
if ! "$node" --version >/dev/null 2>&1; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    printf 'Installing the Debian package libatomic1 ...\n' >&2
    { apt-get install -q -y libatomic1 || { apt-get update -q && apt-get install -q -y libatomic1; }; } >/dev/null 2>&1 || true
  fi
  "$node" --version >/dev/null || { printf 'meshctl: the Node runtime does not start; run: apt-get install libatomic1 libstdc++6\n' >&2; exit 1; }
fi
exec "$node" --disable-warning=ExperimentalWarning "$@"

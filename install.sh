#!/bin/sh
# Puts a self-contained meshctl on this machine: command, programs, templates and their own Node runtime.
#   ./install.sh [--prefix DIR] [--arch x64|arm64] [--uninstall]
# From a checkout it needs npm, to fetch packages and build; from an unpacked release (dist/ with a runtime inside) nothing.
# Running it again upgrades: each release has a folder named by its content, and one link is swapped.
set -eu

prefix=/usr/local
arch=
action=install

usage() {
  cat <<'TEXT'
usage: ./install.sh [--prefix DIR] [--arch x64|arm64] [--uninstall]

  --prefix DIR   where to: DIR/bin/meshctl and DIR/lib/meshctl (default /usr/local)
  --arch ARCH    for another machine: lays the files only (default: this machine's)
  --uninstall    removes what an earlier run put there; meshes, contexts and hosts stay as they are
TEXT
}
say() { printf '%s\n' "$*"; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  case "$1" in
    --prefix) [ $# -ge 2 ] || die '--prefix needs a folder'; prefix=$2; shift ;;
    --prefix=*) prefix=${1#--prefix=} ;;
    --arch) [ $# -ge 2 ] || die '--arch needs x64 or arm64'; arch=$2; shift ;;
    --arch=*) arch=${1#--arch=} ;;
    --uninstall) action=uninstall ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
  esac
  shift
done
case "$prefix" in
  /*) ;;
  *) prefix=$(pwd)/$prefix ;;
esac
lib=$prefix/lib/meshctl
command=$prefix/bin/meshctl

if [ "$action" = uninstall ]; then
  if [ ! -e "$lib" ] && [ ! -L "$command" ] && [ ! -e "$command" ]; then
    say "nothing of meshctl under $prefix"
    exit 0
  fi
  if [ -e "$command" ] && ! grep -qs 'installed by meshctl' "$command"; then
    die "$command is not ours; leave it or remove it by hand"
  fi
  rm -f "$command"
  rm -rf "$lib"
  rmdir "$prefix/lib" "$prefix/bin" 2>/dev/null || true
  say "removed $command and $lib"
  exit 0
fi

here=$(cd "$(dirname "$0")" && pwd)
case "$(uname -s)" in Linux) ;; *) die "meshctl runs on Linux; this is $(uname -s)" ;; esac
case "$(uname -m)" in
  x86_64) machine=x64 ;;
  aarch64) machine=arm64 ;;
  *) die "no runtime for $(uname -m); x86_64 and aarch64 are supported" ;;
esac
[ -n "$arch" ] || arch=$machine
case "$arch" in x64|arm64) ;; *) die "--arch must be x64 or arm64, not $arch" ;; esac
if [ -e "$command" ] && ! grep -qs 'installed by meshctl' "$command"; then
  die "$command exists and is not ours; choose another --prefix or move it away"
fi
mkdir -p "$prefix/bin" "$lib/releases" 2>/dev/null || die "cannot write to $prefix; run as root or choose another --prefix"

# An unpacked release brings everything; a checkout is built first.
if [ -f "$here/package.json" ] && [ -d "$here/src" ]; then
  command -v npm >/dev/null || die 'building from a checkout needs npm; run: apt-get install npm'
  (cd "$here" && sh scripts/run.sh scripts/build.ts --release "$arch") >&2 || die 'the build failed'
  source=$here/.cache/release-$arch
else
  source=$here
fi
for file in cli.js agent.js proxy.js worker.js control.js node libatomic.so.1 version templates; do
  [ -e "$source/$file" ] || die "$source/$file is missing; this release is not whole"
done

# Named by content: an unchanged release is not copied again, a changed one never overwrites files in use.
hash=$(cd "$source" && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-16)
release=$lib/releases/$hash
if [ ! -d "$release" ]; then
  rm -rf "$lib"/releases/.new.*
  cp -R "$source" "$lib/releases/.new.$$"
  chmod -R go-w,a+rX "$lib/releases/.new.$$"
  mv "$lib/releases/.new.$$" "$release"
fi
if [ "$arch" = "$machine" ]; then
  LD_LIBRARY_PATH=$release "$release/node" "$release/cli.js" --version >/dev/null || die 'the new release does not start; nothing was changed'
fi
before=$(readlink "$lib/current" 2>/dev/null || true)
ln -sfn "releases/$hash" "$lib/current.new"
mv -fT "$lib/current.new" "$lib/current"
cat > "$command.new" <<TEXT
#!/bin/sh
# installed by meshctl's install.sh; remove with install.sh --uninstall --prefix $prefix
here=\$(readlink -f '$lib/current')
export LD_LIBRARY_PATH="\$here\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "\$here/node" --disable-warning=ExperimentalWarning "\$here/cli.js" "\$@"
TEXT
chmod 0755 "$command.new"
mv -f "$command.new" "$command"

# The release before stays for commands that still run; older ones go.
for old in "$lib"/releases/*; do
  case "releases/${old##*/}" in "releases/$hash" | "$before") ;; *) rm -rf "$old" ;; esac
done

version=$(cat "$release/version")
if [ -z "$before" ]; then say "installed meshctl $version at $command"
elif [ "$before" = "releases/$hash" ]; then say "meshctl $version at $command is up to date"
else say "upgraded meshctl to $version at $command"
fi
case ":$PATH:" in
  *":$prefix/bin:"*) say 'next: meshctl init' ;;
  *) say "next: add $prefix/bin to your PATH, then: meshctl init" ;;
esac

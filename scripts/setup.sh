#!/bin/sh
# From a fresh Debian or Ubuntu machine to a running sandbox: installs what banger needs, builds dist/banger, makes the default
# image and boots it, and prints the guest's `uname -a`. Again, it only does what is left to do.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$ROOT"
# shellcheck source=scripts/prepare.sh
. "$ROOT/scripts/prepare.sh"

case $(uname -sm) in
  'Linux x86_64') ;;
  *) fail $STATUS_HOST_UNSUPPORTED "this is $(uname -sm); banger runs on Linux x86_64" ;;
esac
needs=$RUN_NEEDS
[ "$(id -u)" = 0 ] || needs="$needs$USER_NEEDS"
install_packages "$needs"
install_node_modules
build_banger

say "Starting a sandbox (the first time, its image is built from the Debian archive: some minutes)"
dist/banger vm run --rm -- uname -a
say ""
say "That was a Linux guest with a kernel of its own; it is gone again. Now yours:"
say "  $ROOT/dist/banger run            a shell in a fresh sandbox"
say "  $ROOT/dist/banger --help         everything else"
say "  sh install.sh --from-source --user   puts banger into ~/.local/bin"

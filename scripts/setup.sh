#!/bin/sh
# From a fresh Debian or Ubuntu machine to a running VM: installs what banger needs, builds dist/banger and the default image, boots a
# VM and prints its `uname -a`. A second run skips what is already done.
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

say "Starting a VM (the first time, this builds its image from the Debian archive, which takes some minutes)"
dist/banger vm run --rm -- uname -a
say ""
say "That was a VM with its own kernel; it is deleted again. Next steps:"
say "  $ROOT/dist/banger run            opens a shell in a new VM"
say "  $ROOT/dist/banger --help         lists all commands"
say "  sh install.sh --from-source --user   installs banger into ~/.local/bin"

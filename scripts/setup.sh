#!/bin/sh
# Sets up a fresh Debian or Ubuntu machine: installs what banger needs, builds dist/banger, makes the default image,
# boots it and prints the guest's `uname -a`. Running it again only does what is missing.
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
say "That was a Linux guest with its own kernel; it has been removed. Now start your own:"
say "  $ROOT/dist/banger run            a shell in a new VM"
say "  $ROOT/dist/banger --help         everything else"
say "  sh install.sh --from-source --user   puts banger into ~/.local/bin"

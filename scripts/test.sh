#!/bin/sh
# `npm test`: installs what the tests need, builds dist/banger, and runs every test that this machine can run. Names
# what can't run, with the reason; the last line counts the results.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$ROOT"
# shellcheck source=scripts/prepare.sh
. "$ROOT/scripts/prepare.sh"

needs=$RUN_NEEDS$TEST_NEEDS
if [ "$(id -u)" = 0 ]; then
  needs="$needs$ROOT_TEST_NEEDS"
  if command -v apt-get >/dev/null 2>&1; then needs="$needs$OPTIONAL_TEST_NEEDS"; fi
else
  needs="$needs$USER_NEEDS"
fi
install_packages "$needs"
install_node_modules
build_banger
exec bun scripts/test.ts "$@"

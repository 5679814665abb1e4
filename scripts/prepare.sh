# shellcheck shell=sh disable=SC2034 # the scripts that source this use the lists
# Shared by setup.sh and test.sh, which source it with ROOT set: installs the distribution's programs, Bun and the
# libraries of package-lock.json, and builds dist/banger. POSIX sh.

# Distributions keep some needed programs out of a plain user's PATH.
PATH="$ROOT/node_modules/.bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

STATUS_HOST_UNSUPPORTED=30

say() {
  printf '%s\n' "$*" >&2
}

fail() {
  status=$1
  shift
  say "error: $*"
  exit "$status"
}

# One program or file a line, and the package that has it. Those banger itself needs are in src/shared/host-needs.ts; a test compares.
RUN_NEEDS='
qemu-system-x86_64 qemu-system-x86
qemu-img qemu-utils
mmdebstrap mmdebstrap
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
gpgv gpgv
mkfs.ext4 e2fsprogs
debugfs e2fsprogs
xz xz-utils
zstd zstd
setpriv util-linux
ssh openssh-client
ssh-keygen openssh-client
git git
/etc/ssl/certs/ca-certificates.crt ca-certificates
npm npm
gcc gcc
/usr/include/stdio.h libc6-dev
'
# Only for plain users: as root, banger builds images without a user namespace.
USER_NEEDS='
newuidmap uidmap
'
TEST_NEEDS='
lz4 lz4
curl curl
openssl openssl
script bsdutils
pgrep procps
'
# Used by tests that only root can run.
ROOT_TEST_NEEDS='
ip iproute2
iptables iptables
ebtables ebtables
nft nftables
losetup mount
runuser util-linux
'
# Used by tests that are skipped without them; installed only where that takes no question. Not openssh-server: its
# installation starts a server on this machine.
OPTIONAL_TEST_NEEDS='
zsh zsh
fish fish
'

# Prints each missing package once.
missing_packages() {
  printf '%s\n' "$1" | while read -r need package; do
    case $need in
      '') ;;
      /*) [ -e "$need" ] || printf '%s\n' "$package" ;;
      *) command -v "$need" >/dev/null 2>&1 || printf '%s\n' "$package" ;;
    esac
  done | sort -u | tr '\n' ' ' | sed 's/ $//'
}

# Installs the missing packages of a list if this is root and the distribution has apt-get; otherwise prints how to and
# stops.
install_packages() {
  missing=$(missing_packages "$1")
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    say "Missing on this machine: $missing"
    say "Install it, then run the same command again:"
    say ""
    say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing"
    say ""
    exit $STATUS_HOST_UNSUPPORTED
  fi
  command -v apt-get >/dev/null 2>&1 ||
    fail $STATUS_HOST_UNSUPPORTED "missing packages (Debian's names): $missing; install them with this system's package manager"
  say "Installing from the distribution: $missing"
  log=$(mktemp)
  # shellcheck disable=SC2086 # a list of package names
  if ! { DEBIAN_FRONTEND=noninteractive apt-get update &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } </dev/null >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    fail $STATUS_HOST_UNSUPPORTED "apt-get could not install: $missing"
  fi
  rm -f "$log"
  left=$(missing_packages "$1")
  [ -z "$left" ] || fail $STATUS_HOST_UNSUPPORTED "still missing after the installation: $left"
}

# Installs Bun and the libraries at exactly the versions in package-lock.json.
install_node_modules() {
  stamp="$ROOT/node_modules/.package-lock.sum"
  sum=$(cksum <"$ROOT/package-lock.json")
  if [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && bun_works; then return 0; fi
  command -v npm >/dev/null 2>&1 || fail $STATUS_HOST_UNSUPPORTED "npm is missing; on Debian and Ubuntu: sudo apt-get install -y npm"
  say "Installing Bun $(bun_version) and banger's libraries into node_modules (npm registry, versions of package-lock.json)"
  # npm runs no package's script, because npm versions differ in whether they would. Bun's script only puts its
  # executable in place.
  npm ci --prefix "$ROOT" --ignore-scripts --include=dev --include=optional --no-audit --no-fund --loglevel=error >&2 ||
    fail 40 "npm could not install the packages of package-lock.json"
  bun_works || place_bun
  bun_works || fail $STATUS_HOST_UNSUPPORTED "the Bun in node_modules does not run on this machine"
  # With an old Node, npm omits optional packages that need a newer one; Bun, which runs them here, adds them.
  if ! bun --bun "$ROOT/node_modules/oxlint/bin/oxlint" --version >/dev/null 2>&1; then
    (cd "$ROOT" && bun install --frozen-lockfile --ignore-scripts >&2) || say "oxlint could not be installed completely: lint will fail"
  fi
  printf '%s\n' "$sum" >"$stamp"
}

bun_version() {
  sed -n 's/^ *"bun": "\([0-9.]*\)".*/\1/p' "$ROOT/package.json"
}

bun_works() {
  [ "$("$ROOT/node_modules/.bin/bun" --version 2>/dev/null)" = "$(bun_version)" ]
}

# There is a package with the executable for each kind of machine; npm has installed those that may run here.
place_bun() {
  for candidate in "$ROOT"/node_modules/@oven/bun-linux-*/bin/bun; do
    [ "$("$candidate" --version 2>/dev/null)" = "$(bun_version)" ] || continue
    for name in bun bunx; do
      rm -f "$ROOT/node_modules/bun/bin/$name.exe"
      ln "$candidate" "$ROOT/node_modules/bun/bin/$name.exe" 2>/dev/null ||
        cp "$candidate" "$ROOT/node_modules/bun/bin/$name.exe"
    done
    return 0
  done
}

build_banger() {
  say "Building dist/banger"
  bun "$ROOT/scripts/build.ts" >&2 || fail 1 "the build failed"
}

# shellcheck shell=sh disable=SC2034 # sourced: who uses the lists is elsewhere
# What setup.sh and test.sh share: programs of the distribution, Bun and the libraries of package-lock.json, dist/banger.
# Sourced by them, with ROOT set. POSIX sh.

# Distributions keep some of what is needed out of a plain user's PATH.
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
'
# As root, banger builds images without a user namespace.
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
# What tests that only root can run drive.
ROOT_TEST_NEEDS='
ip iproute2
iptables iptables
ebtables ebtables
nft nftables
losetup mount
runuser util-linux
'

# Prints the packages that are missing, once each.
missing_packages() {
  printf '%s\n' "$1" | while read -r need package; do
    case $need in
      '') ;;
      /*) [ -e "$need" ] || printf '%s\n' "$package" ;;
      *) command -v "$need" >/dev/null 2>&1 || printf '%s\n' "$package" ;;
    esac
  done | sort -u | tr '\n' ' ' | sed 's/ $//'
}

# Installs what is missing of a list when this is root and the distribution has apt-get; else says how and stops.
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
    fail $STATUS_HOST_UNSUPPORTED "missing packages (Debian's names): $missing; install them yourself, because there is no apt-get here"
  say "Installing packages of the distribution: $missing"
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

# Bun and the libraries, exactly as package-lock.json has them.
install_node_modules() {
  stamp="$ROOT/node_modules/.package-lock.sum"
  sum=$(cksum <"$ROOT/package-lock.json")
  if [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && bun_works; then return 0; fi
  command -v npm >/dev/null 2>&1 || fail $STATUS_HOST_UNSUPPORTED "npm is missing; on Debian and Ubuntu: sudo apt-get install -y npm"
  say "Installing Bun $(bun_version) and banger's libraries from the npm registry into node_modules"
  # No package's script is run by npm, whose versions differ in whether they would. Bun's only puts its executable in place.
  npm ci --prefix "$ROOT" --ignore-scripts --include=dev --include=optional --no-audit --no-fund --loglevel=error >&2 ||
    fail 40 "npm could not install the packages of package-lock.json"
  bun_works || place_bun
  bun_works || fail $STATUS_HOST_UNSUPPORTED "Bun in node_modules does not run on this machine"
  # For an old Node, npm leaves out the optional packages that ask for a newer one; Bun, which runs them here, adds them.
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

# The executable is in a package for each kind of machine; npm has installed those that this one may run.
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

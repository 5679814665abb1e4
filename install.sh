#!/bin/sh
# Installs banger. Read it first if you like: nothing runs before the last line, so half a download does nothing.
#
#   sh install.sh --from-source --user   in a checkout: builds banger and puts it into ~/.local/bin; no root
#   sh install.sh --from-source          in a checkout: builds it and installs the system's services (asks for sudo)
#   sh install.sh [--user]               the same with the newest release, downloaded and verified
#
#   --user        ~/.local/bin/banger, for this user, rootless
#   --version V   this release instead of the newest, even if it is older than the installed one
#   --yes         doesn't ask
#
# Exit statuses are banger's: 2 wrong usage, 30 something is missing here, 40 network, 41 digest or signature.

set -eu
umask 022

# Filled in by scripts/release.ts. Without both, nothing is downloaded: a download that can't be verified is not installed.
RELEASE_HOST=''
RELEASE_KEY=''

MANIFEST_LIMIT=1048576
SUMS_LIMIT=16384
SIGNATURE_LIMIT=1024
BINARY_LIMIT=268435456

SAFE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
staging=''
staged=''

say() {
  printf '%s\n' "$*" >&2
}

die() {
  status=$1
  shift
  say "error: $*"
  exit "$status"
}

clean_up() {
  [ -z "$staged" ] || rm -f -- "$staged"
  [ -z "$staging" ] || rm -rf -- "$staging"
}

# Asks on the terminal, which standard input isn't when this script comes through a pipe.
confirm() {
  [ "$yes" = no ] || return 0
  if ! (: </dev/tty) 2>/dev/null; then die 2 "can't ask without a terminal; use --yes to install without asking"; fi
  printf '%s [y/N] ' "$1" >/dev/tty
  answer=''
  read -r answer </dev/tty || :
  case $answer in
    y | Y | yes) ;;
    *) die 1 "nothing was installed" ;;
  esac
}

need() {
  command -v "$1" >/dev/null 2>&1 || die 30 "$1 is missing, which $2; on Debian and Ubuntu: sudo apt-get install -y $3"
}

# download URL FILE LIMIT: over https only, after redirects as well. wget can't promise that, so with it there are none.
download() {
  case $1 in
    https://*) ;;
    *) die 41 "$1 is not an https address; banger is downloaded over https only" ;;
  esac
  if command -v curl >/dev/null 2>&1; then
    curl -fsSL --proto '=https' --proto-redir '=https' --tlsv1.2 --connect-timeout 30 --max-time 1800 --max-filesize "$3" \
      -o "$2" -- "$1" || die 40 "could not download $1"
  elif command -v wget >/dev/null 2>&1; then
    wget -q -T 30 -t 1 --max-redirect=0 -O "$2" -- "$1" || die 40 "could not download $1; if it redirects, install curl"
  else
    die 30 "curl or wget is missing, which downloads the release; on Debian and Ubuntu: sudo apt-get install -y curl"
  fi
  [ "$(wc -c <"$2")" -le "$3" ] || die 41 "$1 is larger than the limit of $3 bytes"
}

# One line, and nothing in it that a path, a shell or a pattern reads.
is_version() {
  case $1 in
    *[!0-9A-Za-z.-]*) return 1 ;;
  esac
  printf '%s\n' "$1" | grep -Eqx '[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}(-[0-9A-Za-z.]{1,32})?'
}

# is_older A B: whether version A comes before B. Source: semver.org, 11.
is_older() {
  awk -v a="$1" -v b="$2" '
    function suffix(v) { return index(v, "-") ? substr(v, index(v, "-") + 1) : "" }
    BEGIN {
      split(a, left, /[.-]/); split(b, right, /[.-]/)
      for (i = 1; i <= 3; i++) if (left[i] + 0 != right[i] + 0) exit !(left[i] + 0 < right[i] + 0)
      a = suffix(a); b = suffix(b)
      if (a == b || a == "") exit 1
      if (b == "") exit 0
      n = split(a, left, "."); m = split(b, right, ".")
      for (i = 1; i <= n && i <= m; i++) {
        if (left[i] == right[i]) continue
        isLeft = left[i] ~ /^[0-9]+$/; isRight = right[i] ~ /^[0-9]+$/
        if (isLeft && isRight) exit !(left[i] + 0 < right[i] + 0)
        if (isLeft != isRight) exit !isLeft
        exit !((left[i] "") < (right[i] ""))
      }
      exit !(n < m)
    }'
}

# The version of the banger that this would replace; nothing where there is none, or one that does not say.
installed_version() {
  if [ "$scope" = user ]; then current=${HOME:-}/.local/bin/banger; else current=/usr/local/bin/banger; fi
  [ -x "$current" ] || return 0
  said=$(cd / && env -i HOME="$staging" PATH=$SAFE_PATH "$current" version 2>/dev/null) || return 0
  if is_version "${said#banger }"; then printf '%s\n' "${said#banger }"; fi
}

architecture() {
  case $(uname -sm) in
    'Linux x86_64') echo x86_64 ;;
    'Linux aarch64') echo aarch64 ;;
    *) die 30 "there is no banger for $(uname -sm)" ;;
  esac
}

# Downloads a release, proves it, and leaves the executable as $staging/banger.
fetch_release() {
  if [ -z "$RELEASE_HOST" ] || [ -z "$RELEASE_KEY" ]; then
    die 41 "this install.sh has no release host or key, so it can't download a release; in a checkout: sh install.sh --from-source"
  fi
  arch=$(architecture)
  need openssl "verifies the release's signature" openssl
  need sha256sum "verifies the release's digest" coreutils
  need zstd "unpacks the release" zstd
  need base64 "reads the release's signature" coreutils
  if [ -z "$version" ]; then
    download "$RELEASE_HOST/manifest.json" "$staging/manifest.json" $MANIFEST_LIMIT
    version=$(tr '\n' ' ' <"$staging/manifest.json" | sed -n 's/.*"latest_stable"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p')
    is_version "$version" || die 41 "the release host's manifest names no version"
    current_version=$(installed_version)
    if [ -n "$current_version" ] && is_older "$version" "$current_version"; then
      die 41 "the newest release, $version, is older than the installed banger $current_version; to install it anyway: --version $version"
    fi
  fi
  file=banger-$version-linux-$arch.zst
  say "Downloading banger $version"
  download "$RELEASE_HOST/$version/SHA256SUMS" "$staging/SHA256SUMS" $SUMS_LIMIT
  download "$RELEASE_HOST/$version/SHA256SUMS.sig" "$staging/SHA256SUMS.sig" $SIGNATURE_LIMIT
  printf '%s\n' "$RELEASE_KEY" >"$staging/key.pem"
  base64 -d <"$staging/SHA256SUMS.sig" >"$staging/signature" 2>/dev/null || die 41 "the signature of banger $version is not base64"
  openssl dgst -sha256 -verify "$staging/key.pem" -signature "$staging/signature" "$staging/SHA256SUMS" >/dev/null 2>&1 ||
    die 41 "the signature of banger $version was not made with the release key; nothing was installed"
  # The name holds the version, so the sums of another release don't pass for this one's.
  wanted=$(grep -E "^[0-9a-f]{64}  banger-" "$staging/SHA256SUMS" | awk -v file="$file" '$2 == file { print $1 }')
  [ "${#wanted}" = 64 ] || die 41 "the checksums of banger $version do not list $file exactly once"
  download "$RELEASE_HOST/$version/$file" "$staging/$file" $BINARY_LIMIT
  got=$(sha256sum <"$staging/$file" | cut -d ' ' -f 1)
  [ "$got" = "$wanted" ] || die 41 "$file has the digest $got, not $wanted; nothing was installed"
  zstd -q -d -c -- "$staging/$file" 2>/dev/null | head -c $((BINARY_LIMIT + 1)) >"$staging/banger" || die 41 "$file can't be unpacked"
  [ -s "$staging/banger" ] || die 41 "$file can't be unpacked"
  [ "$(wc -c <"$staging/banger")" -le $BINARY_LIMIT ] || die 41 "$file unpacks to more than the limit of $BINARY_LIMIT bytes"
  chmod 700 "$staging/banger"
  check_version "$staging/banger" "$version"
}

# Builds the checkout this script lies in (or, through a pipe, the current directory).
build_from_source() {
  if [ -f "$0" ]; then ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd); else ROOT=$(pwd); fi
  if [ ! -f "$ROOT/scripts/prepare.sh" ] || ! grep -q '"name": "banger"' "$ROOT/package.json" 2>/dev/null; then
    die 2 "--from-source needs a checkout of banger, and $ROOT is not one"
  fi
  # shellcheck source=scripts/prepare.sh
  . "$ROOT/scripts/prepare.sh"
  install_node_modules
  build_banger
  built=$ROOT/dist/banger
}

check_version() {
  said=$(cd "$staging" && env -i HOME="$staging" PATH=$SAFE_PATH "$1" version 2>/dev/null) || said=''
  [ "$said" = "banger $2" ] ||
    die 41 "the downloaded banger says it is \"$(printf '%s' "$said" | head -n 1 | tr -dc '[:print:]' | cut -c -80)\", not banger $2; nothing was installed"
}

install_for_user() {
  [ -n "${HOME:-}" ] || die 2 "HOME is not set, but --user installs below it"
  target=$HOME/.local/bin/banger
  [ ! -d "$target" ] || die 2 "$target is a directory"
  say "This installs one file: $target (for $(id -un); without root)"
  confirm "Install?"
  mkdir -p -- "$HOME/.local/bin"
  staged=$(mktemp "$HOME/.local/bin/.banger.XXXXXX")
  cp -- "$1" "$staged"
  chmod 755 "$staged"
  # A rename: a banger that runs keeps its file, and no moment has none.
  mv -f -- "$staged" "$target"
  staged=''
  say "Installed $("$target" version) as $target"
  case ":$PATH:" in
    *":$HOME/.local/bin:"*) say "Next: banger run" ;;
    *) say "Next: $target run (and add $HOME/.local/bin to PATH)" ;;
  esac
}

install_for_system() {
  owner=$(id -un)
  if [ "$(id -u)" = 0 ]; then
    owner=${SUDO_USER:-}
    [ -n "$owner" ] || die 2 "run this as the user who will own the VMs, not as root, or use --user"
  else
    need sudo "runs the one step that needs root" sudo
  fi
  say "This installs banger for $owner:"
  say "  /usr/local/bin/banger, and links bangerd and bangerd-root to it"
  say "  /usr/local/lib/banger (Firecracker and its jailer), /etc/banger, /var/lib/banger, /var/cache/banger"
  say "  systemd units bangerd and bangerd-root, with their sockets"
  say "Root is needed once, to write those files and start the units. The daemon runs as $owner. Only the helper keeps"
  say "running as root, for a closed list of actions (docs/privileges.md)."
  confirm "Install?"
  if [ "$(id -u)" = 0 ]; then
    env -i PATH=$SAFE_PATH "$1" system install --owner "$owner"
  else
    sudo env -i PATH=$SAFE_PATH "$1" system install --owner "$owner"
  fi
}

main() {
  source=release
  scope=system
  yes=no
  version=''
  while [ $# -gt 0 ]; do
    case $1 in
      --from-source) source=checkout ;;
      --user) scope=user ;;
      --yes | -y) yes=yes ;;
      --version)
        [ $# -ge 2 ] || die 2 "--version takes a version, such as 1.2.3"
        version=$2
        shift
        ;;
      --version=*) version=${1#--version=} ;;
      -h | --help)
        say "usage: sh install.sh [--from-source] [--user] [--version V] [--yes]"
        exit 0
        ;;
      *) die 2 "unknown argument $1; use --from-source, --user, --version V, --yes" ;;
    esac
    shift
  done
  [ -z "$version" ] || is_version "$version" || die 2 "--version takes a version such as 1.2.3"
  [ "$source" = release ] || [ -z "$version" ] || die 2 "--version can't be combined with --from-source"

  trap clean_up EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  staging=$(mktemp -d)
  if [ "$source" = checkout ]; then
    build_from_source
    binary=$built
  else
    fetch_release
    binary=$staging/banger
  fi
  if [ "$scope" = user ]; then install_for_user "$binary"; else install_for_system "$binary"; fi
}

main "$@"

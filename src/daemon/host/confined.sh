# Runs a program that parses what somebody else wrote: sh -c THIS sh ROOT {ro|rw PATH}... -- PROGRAM..., in new user, mount, pid, network
# and IPC namespaces. It sees the system's programs and the paths named, holds no privilege, and has nobody to talk to.
set -eu
root="$1"
shift
mount -t tmpfs -o mode=755,size=1m none "$root"
show() {
  mount --rbind "$2" "$root$2"
  [ "$1" = rw ] || mount -o remount,bind,ro "$root$2"
}
for directory in /usr /bin /sbin /lib /lib32 /lib64 /libx32 /nix /gnu; do
  if [ -L "$directory" ]; then
    cp -P "$directory" "$root$directory"
  elif [ -d "$directory" ]; then
    mkdir "$root$directory"
    show ro "$directory"
  fi
done
mkdir "$root/dev" "$root/etc" "$root/tmp"
for file in /dev/null /dev/zero /dev/urandom /etc/ld.so.cache /etc/mke2fs.conf; do
  [ -e "$file" ] || continue
  : > "$root$file"
  mount --bind "$file" "$root$file"
done
# resize2fs asks whether its disk is mounted, and takes no answer for an error.
: > "$root/etc/mtab"
while [ "$1" != -- ]; do
  # A tool outside the system's directories may be one of them after all, by a link.
  if [ -e "$root$2" ]; then
    shift 2
    continue
  elif [ -d "$2" ]; then
    mkdir -p "$root$2"
  else
    mkdir -p "$root${2%/*}"
    : > "$root$2"
  fi
  show "$1" "$2"
  shift 2
done
shift
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"

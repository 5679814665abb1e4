/** The images banger can build, by name. */

import type { DebianRecipe } from "./build-debian.ts";
import { debianSource } from "./sources/debian.ts";
import type { ImageSource } from "./sources/source.ts";

export const DEBIAN_TRIXIE: DebianRecipe = {
  suite: "trixie",
  archive: "http://deb.debian.org/debian",
  securityArchive: "http://deb.debian.org/debian-security",
  packages: [
    // A system that boots and can be reached.
    ...["systemd", "systemd-sysv", "udev", "dbus", "openssh-server", "iproute2", "e2fsprogs"],
    // The kernel, and what banger's own initrd is made of.
    ...["linux-image-cloud-amd64", "busybox-static", "kmod", "zstd"],
    // What a developer expects to be there.
    ...["ca-certificates", "curl", "git", "less", "procps", "tar"],
  ],
};

export const CATALOG: Readonly<Record<string, ImageSource>> = Object.assign(Object.create(null) as object, {
  "debian-trixie": debianSource(DEBIAN_TRIXIE),
});

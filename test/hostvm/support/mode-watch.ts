/** Watches, without pause, whether anything private is ever open to more users than it should be. */

import type { Host } from "../host.ts";

/** The most open mode each path may ever have. Parents of a private directory's contents hide what is in it. */
export const LOOSEST: Readonly<Record<string, number>> = {
  "/run/banger": 0o711,
  "/run/banger/owner": 0o700,
  "/run/banger/bangerd.sock": 0o600,
  "/run/banger-root": 0o711,
  "/run/banger-root/bangerd-root.sock": 0o600,
  "/var/lib/banger": 0o711,
  "/var/lib/banger/owner": 0o700,
  "/var/lib/banger/jail": 0o711,
  "/var/lib/banger/cow": 0o711,
  "/var/lib/banger/slots": 0o700,
  "/var/cache/banger": 0o700,
};

/**
 * What one VM adds while it starts, runs and stops. If a file has an access list, its group bits are the list's mask.
 */
export const loosestOfVm = (id: string): Readonly<Record<string, number>> => ({
  [`/var/lib/banger/owner/vms/${id}`]: 0o700,
  [`/var/lib/banger/owner/vms/${id}/work.ext4`]: 0o660,
  [`/var/lib/banger/cow/${id}.cow`]: 0o600,
  [`/var/lib/banger/jail/firecracker/${id}`]: 0o711,
  [`/var/lib/banger/jail/firecracker/${id}/root`]: 0o710,
  [`/var/lib/banger/jail/firecracker/${id}/root/io`]: 0o770,
  [`/var/lib/banger/jail/firecracker/${id}/root/io/api.sock`]: 0o770,
  [`/var/lib/banger/jail/firecracker/${id}/root/io/vsock.sock`]: 0o770,
  [`/run/banger/owner/vms/${id}`]: 0o700,
  [`/run/banger/owner/vms/${id}/ssh.sock`]: 0o600,
});

/**
 * Besides the named paths, it walks everything below banger's directories, to find names nobody thought of. Other users
 * may at most pass through a directory, and may never use a socket.
 */
const WATCHER = `
import json, os, stat, sys
loosest = json.loads(sys.argv[1])
roots = ["/run/banger", "/run/banger-root", "/var/lib/banger", "/var/cache/banger"]
seen, bad, rounds = {}, set(), 0
def look(path, most):
    try:
        info = os.lstat(path)
    except OSError:
        return
    mode = info.st_mode & 0o7777
    if path in loosest:
        seen[path] = mode
    if most is None:
        most = 0o7771 if stat.S_ISDIR(info.st_mode) else 0o7770 if stat.S_ISSOCK(info.st_mode) else 0o7777
    if mode & ~most:
        bad.add("%s was %o" % (path, mode))
while not os.path.exists(sys.argv[2]):
    rounds += 1
    for path, most in loosest.items():
        look(path, most)
    if rounds % 8 == 0:
        for root in roots:
            for directory, directories, files in os.walk(root):
                for name in directories + files:
                    look(os.path.join(directory, name), None)
print(json.dumps({"rounds": rounds, "seen": sorted(seen), "bad": sorted(bad)}))
`;

export interface WatchResult {
  readonly rounds: number;
  readonly seen: readonly string[];
  readonly bad: readonly string[];
}

/** Watches while `work` runs, which may take `timeoutMs`. */
export async function watchModes(
  host: Host,
  work: () => Promise<void>,
  loosest = LOOSEST,
  timeoutMs = 300_000,
): Promise<WatchResult> {
  const stop = "/root/watch-ends";
  await host.ok(["rm", "-f", stop, "/root/watch-began"]);
  const watching = host.ok(
    [
      "sh",
      "-c",
      'touch /root/watch-began; exec python3 -c "$1" "$2" "$3"',
      "sh",
      WATCHER,
      JSON.stringify(loosest),
      stop,
    ],
    { timeoutMs },
  );
  try {
    await host.until("the watcher runs", "test -e /root/watch-began", 60_000);
    await work();
  } finally {
    await host.ok(["touch", stop]);
  }
  const lines = (await watching).trim().split("\n");
  return JSON.parse(lines.at(-1) ?? "{}") as WatchResult;
}

/** Looks, without pause, whether anything private is ever open to more people than it should be. */

import type { Host } from "../host.ts";

/** The loosest mode each path may ever have. Parents of a private directory's contents hide what is in it. */
export const LOOSEST: Readonly<Record<string, number>> = {
  "/run/banger": 0o700,
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

const WATCHER = `
import json, os, sys, time
loosest = {path: mode for path, mode in json.loads(sys.argv[1]).items()}
seen, bad, rounds = {}, [], 0
print("watching", flush=True)
while not os.path.exists(sys.argv[2]):
    rounds += 1
    for path, most in loosest.items():
        try:
            info = os.lstat(path)
        except OSError:
            continue
        mode = info.st_mode & 0o7777
        if seen.get(path) != (mode, info.st_uid):
            seen[path] = (mode, info.st_uid)
            if mode & ~most:
                bad.append("%s was %o" % (path, mode))
print(json.dumps({"rounds": rounds, "seen": sorted(seen), "bad": bad}))
`;

export interface WatchResult {
  readonly rounds: number;
  readonly seen: readonly string[];
  readonly bad: readonly string[];
}

/** Watches while `work` runs. */
export async function watchModes(host: Host, work: () => Promise<void>): Promise<WatchResult> {
  const stop = "/root/watch-ends";
  await host.ok(["rm", "-f", stop, "/root/watch-began"]);
  const watching = host.ok(
    [
      "sh",
      "-c",
      'touch /root/watch-began; exec python3 -c "$1" "$2" "$3"',
      "sh",
      WATCHER,
      JSON.stringify(LOOSEST),
      stop,
    ],
    { timeoutMs: 300_000 },
  );
  try {
    await host.until("the watcher runs", "test -e /root/watch-began", 30_000);
    await work();
  } finally {
    await host.ok(["touch", stop]);
  }
  const lines = (await watching).trim().split("\n");
  return JSON.parse(lines.at(-1) ?? "{}") as WatchResult;
}

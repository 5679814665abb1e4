/** The QEMU command of a VM of banger's, started by hand, and ssh in a loop. */

import { cp, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Home } from "../support/banger.ts";

const ANSWER_TIMEOUT_MS = 300_000;

/** A VM's command line and its disks, as they are before a start. */
export interface Template {
  readonly id: string;
  readonly argv: readonly string[];
  /** Copies of the VM's files that the command line names. */
  readonly pristineDir: string;
}

/** Makes a VM, starts it once for its command line, and keeps its disks. */
export async function makeTemplate(home: Home): Promise<Template> {
  await home.ok(["vm", "create", "--name", "template", "--no-start"]);
  const { id } = await home.json<{ id: string }>(["vm", "show", "template"]);
  await home.ok(["vm", "start", "template"], { timeoutMs: ANSWER_TIMEOUT_MS });
  const { pid } = await home.json<{ pid: number }>(["vm", "show", "template"]);
  const argv = (await readFile(`/proc/${pid}/cmdline`, "utf8")).split("\0").slice(0, -1);
  await home.ok(["vm", "stop", "template"]);
  const pristineDir = join(home.dir, "pristine");
  const stateDir = join(home.stateDir, "vms", id);
  await mkdir(pristineDir);
  for (const file of await readdir(stateDir))
    if (argv.some((word) => word.includes(join(stateDir, file))))
      await cp(join(stateDir, file), join(pristineDir, file));
  return { id, argv, pristineDir };
}

/**
 * The VM's own argv with other disks, sockets and port, then ssh in a loop until a command runs. The argv and disks are prepared before
 * the clock starts.
 */
export async function timeByHand(home: Home, { id, argv: template, pristineDir }: Template): Promise<number> {
  const dir = join(home.dir, "by-hand");
  await rm(dir, { recursive: true, force: true });
  const copy = Bun.spawn(["cp", "-r", "--sparse=always", pristineDir, dir]);
  if ((await copy.exited) !== 0) throw new Error("cp failed");
  const port = 20000 + Math.floor(Math.random() * 20000);
  const argv = template.map((word) =>
    word
      .replaceAll(join(home.stateDir, "vms", id), dir)
      .replaceAll(join(home.runtimeDir, "vms", id), dir)
      .replace(/hostfwd=tcp:127\.0\.0\.1:\d+-/, `hostfwd=tcp:127.0.0.1:${port}-`),
  );
  const options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=QUIET"];
  const ssh = [
    ...["ssh", "-F", "/dev/null", "-i", join(home.stateDir, "ssh/id_ed25519")],
    ...[...options, "ConnectTimeout=2"].flatMap((option) => ["-o", option]),
    ...["-p", String(port), "root@127.0.0.1", "true"],
  ];
  const start = performance.now();
  const qemu = Bun.spawn(argv, { env: home.env, stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  try {
    for (;;) {
      const attempt = Bun.spawn(["timeout", "5", ...ssh], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
      if ((await attempt.exited) === 0) return performance.now() - start;
      if (performance.now() - start > ANSWER_TIMEOUT_MS)
        throw new Error(`the guest started by hand did not answer: ${argv.join(" ")}`);
      await Bun.sleep(50);
    }
  } finally {
    const pidFile = await readFile(join(dir, "qemu.pid"), "utf8").catch(() => null);
    if (pidFile !== null) process.kill(Number(pidFile), "SIGKILL");
    qemu.kill("SIGKILL");
    await qemu.exited;
    await Bun.sleep(200);
  }
}

import { deepEqual, equal } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { closeLab, drive, LAB, openLab } from "../support/helper-lab.ts";

/** What a VMM that broke out of its jail would try, with the uid it has. Prints what it could do. */
const ESCAPED = String.raw`
import os, signal, socket, ctypes, sys
targets, paths, sockets = [eval(a) for a in sys.argv[1:4]]
could = []
def may(what, act):
    try:
        act()
        could.append(what)
    except OSError:
        pass
libc = ctypes.CDLL(None, use_errno=True)
def trace(pid):
    if libc.ptrace(16, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
def connect(path):
    socket.socket(socket.AF_UNIX).connect(path)
for pid in targets:
    may("signal %d" % pid, lambda: os.kill(pid, 0))
    may("trace %d" % pid, lambda: trace(pid))
    may("read memory of %d" % pid, lambda: open("/proc/%d/mem" % pid, "rb").close())
    may("list descriptors of %d" % pid, lambda: os.listdir("/proc/%d/fd" % pid))
    may("read the environment of %d" % pid, lambda: open("/proc/%d/environ" % pid, "rb").read())
for path in paths:
    may("list " + path, lambda: os.listdir(path))
    may("read " + path, lambda: open(path, "rb").close())
    may("write " + path, lambda: open(path, "r+b").close())
for path in sockets:
    may("connect to " + path, lambda: connect(path))
print("\n".join(could))
`;

const SLICE_CGROUP = "/sys/fs/cgroup/banger.slice/banger-vms.slice";

export const scenario: Scenario = {
  name: "vm-uid-is-nobody",
  summary: "a process with another VM's uid can't signal, trace, read or connect to a VM, the owner or the daemons",
  needs: ["banger", "firecracker"],
  timeoutMs: 15 * 60_000,
  async run(host) {
    await openLab(host);
    try {
      const started = (await drive(host, "live", LAB, "start")) as readonly (readonly [string, string])[];
      deepEqual(
        started.filter(([, outcome]) => outcome !== "ok"),
        [],
      );
      const jail = `/var/lib/banger/jail/firecracker/${LAB.vm}/root`;
      // Another scenario's VM may run beside the lab's.
      const vmm = Number(await host.readFile(`${SLICE_CGROUP}/banger-vm-${LAB.vm}.scope/cgroup.procs`));
      const owner = Number(
        (await host.sh("runuser -u dev -- sleep 600 > /dev/null 2>&1 & sleep 1; pgrep -u dev -x sleep")).trim(),
      );
      const helper = Number(await host.ok(["systemctl", "show", "--value", "-p", "MainPID", "bangerd-root.service"]));
      const uid = Number((await host.readFile(`/proc/${vmm}/status`)).match(/^Uid:\t(\d+)/m)?.[1]);
      await host.writeFile("/srv/lab/escaped.py", ESCAPED, 0o644);
      const paths = [
        ...[jail, `${jail}/io`, `${jail}/io/api.sock`, `${jail}/kernel`, `${jail}/work-drive`, `${jail}/root-drive`],
        ...[
          "/var/lib/banger",
          "/var/lib/banger/owner",
          "/var/lib/banger/cow",
          "/var/lib/banger/slots",
          "/var/lib/banger/jail",
        ],
        ...[
          `/var/lib/banger/cow/${LAB.vm}.cow`,
          `/var/lib/banger/owner/vms/${LAB.vm}/work.ext4`,
          `/dev/mapper/fc-rootfs-${LAB.vm}`,
        ],
        ...["/run/banger", "/run/banger-root", "/home/dev/.ssh"],
      ];
      const sockets = [`${jail}/io/api.sock`, "/run/banger/bangerd.sock", "/run/banger-root/bangerd-root.sock"];
      // As another VM's uid, and as another user of the host.
      for (const other of [uid + 1, 1001]) {
        const could = await host.ok([
          ...["setpriv", "--reuid", String(other), "--regid", String(other), "--clear-groups", "--inh-caps=-all"],
          ...["python3", "/srv/lab/escaped.py"],
          ...[[vmm, owner, helper], paths, sockets].map((list) => JSON.stringify(list)),
        ]);
        equal(could.trim(), "", `uid ${other} could: ${could}`);
      }
      await host.sh("kill $1", [String(owner)]);
    } finally {
      await closeLab(host);
    }
  },
};

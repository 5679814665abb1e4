import { deepEqual, equal, match } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { closeLab, drive, LAB, openLab } from "../support/helper-lab.ts";

/** What a VMM that broke out of its jail would try with its uid. Prints what succeeded. */
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

/**
 * What a VMM that runs arbitrary code can do inside its jail: this process enters the VM's scope and mount namespace,
 * becomes the VM's uid, and tries. Prints each attempt with its error.
 */
const WITHIN = String.raw`
import ctypes, errno, json, os, signal, socket, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
scope, pid, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
said = {}
def attempt(what, act):
    try:
        act()
        said[what] = "done"
    except OSError as error:
        said[what] = errno.errorcode.get(error.errno, str(error))
open("/sys/fs/cgroup" + scope + "/cgroup.procs", "w").write(str(os.getpid()))
# Still as root, before dropping privileges: what the scope itself forbids.
attempt("open the host's disk", lambda: os.open("/dev/vda", os.O_RDONLY))
attempt("open another dm device", lambda: os.open("/dev/mapper/host-volume", os.O_RDONLY))
attempt("open kvm", lambda: os.open("/dev/kvm", os.O_RDWR))
ctypes.CDLL(None, use_errno=True).setns(os.open("/proc/" + pid + "/ns/mnt", os.O_RDONLY), 0x20000)
os.chroot("."); os.chdir("/")
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
attempt("open the root disk", lambda: os.open("/root-drive", os.O_RDWR))
attempt("open the work disk", lambda: os.open("/work-drive", os.O_RDWR))
attempt("write the kernel", lambda: os.open("/kernel", os.O_RDWR))
attempt("have the kernel written", lambda: os.chmod("/kernel", 0o666))
for name in ["root-drive", "kernel", "work-drive", "firecracker"]:
    attempt("link " + name + " out", lambda: os.link("/" + name, "/io/" + name))
    attempt("move " + name + " out", lambda: os.rename("/" + name, "/io/" + name))
attempt("open the node to all", lambda: os.chmod("/root-drive", 0o666))
attempt("open io to all", lambda: os.chmod("/io", 0o777))
def leave_set_uid():
    fd = os.open("/io/left", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"\x7fELF"); os.fchmod(fd, 0o6777)
attempt("leave a set-uid file", leave_set_uid)
attempt("run a program in io", lambda: os.execv("/io/left", ["left"]))
for address in [("127.0.0.1", 22), ("10.0.2.2", 80)]:
    attempt("send to " + address[0], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", address))
attempt("make a large file", lambda: os.truncate("/io/metrics", 1 << 50))
print(json.dumps(said))
`;

/** The expected outcomes. They include what the VM itself needs: an attempt that could never succeed proves nothing. */
const COULD: Readonly<Record<string, string>> = {
  "open the host's disk": "EPERM",
  "open another dm device": "EPERM",
  "open kvm": "done",
  "open the root disk": "done",
  "open the work disk": "done",
  "write the kernel": "EACCES",
  "have the kernel written": "EROFS",
  "link root-drive out": "EXDEV",
  "move root-drive out": "EXDEV",
  "link kernel out": "EXDEV",
  "move kernel out": "EXDEV",
  "link work-drive out": "EXDEV",
  "move work-drive out": "EXDEV",
  "link firecracker out": "EXDEV",
  "move firecracker out": "EXDEV",
  "open the node to all": "EPERM",
  "open io to all": "EPERM",
  "leave a set-uid file": "done",
  "run a program in io": "EACCES",
  "send to 127.0.0.1": "EPERM",
  "send to 10.0.2.2": "EPERM",
  "make a large file": "EFBIG",
};

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
      // Another scenario's VM may be running beside the lab's.
      const vmm = Number(await host.readFile(`${SLICE_CGROUP}/banger-vm-${LAB.vm}.scope/cgroup.procs`));
      const owner = Number(
        (
          await host.sh(
            "runuser -u dev -- sleep 600 > /dev/null 2>&1 & until pgrep -u dev -x sleep; do sleep 0.1; done",
          )
        ).trim(),
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

      await host.writeFile("/srv/lab/within.py", WITHIN, 0o644);
      await host.sh('dmsetup create host-volume --table "0 8 zero"; dmsetup mknodes');
      const scope = `/banger.slice/banger-vms.slice/banger-vm-${LAB.vm}.scope`;
      const fileLimit = /^Max file size +(\d+) /m.exec(await host.readFile(`/proc/${vmm}/limits`))?.[1] ?? "unlimited";
      const within = await host.ok([
        ...["prlimit", `--fsize=${fileLimit}`, "python3", "/srv/lab/within.py"],
        ...[scope, String(vmm), String(uid)],
      ]);
      deepEqual(JSON.parse(within), COULD);
      // Only the jail's io has a path on the host, and a file left there gives nobody the VM's uid.
      equal((await host.ok(["ls", jail])).trim(), "io");
      match(await host.ok(["stat", "-c", "%u %a", `${jail}/io/left`]), new RegExp(`^${uid} 6777`));
      for (const user of ["dev", "other"] as const)
        match((await host.run([`${jail}/io/left`], { user })).stderr, /Permission denied/);
      match(await host.ok(["findmnt", "-no", "OPTIONS", "/var/lib/banger/jail"]), /nosuid,nodev,noexec/);
      match(await host.readFile(`/proc/${vmm}/limits`), /^Max core file size +0 +0/m);
      equal((await host.readFile(`/sys/fs/cgroup${scope}/memory.swap.max`)).trim(), "0");
      // The helper's own namespace no longer has any of the jail's mounts.
      equal((await host.sh("grep -c firecracker/$1 /proc/$2/mountinfo || true", [LAB.vm, String(helper)])).trim(), "0");
    } finally {
      await host.sh("dmsetup remove --retry host-volume || true");
      await closeLab(host);
    }
  },
};

/**
 * The one table of commands: names, summaries and help of groups. A command's own code is loaded when it runs, or when
 * its own help is asked for.
 */

import type { Entry, Group } from "../line/command.ts";

const table = (commands: Record<string, Entry | Group>): Readonly<Record<string, Entry | Group>> =>
  Object.assign(Object.create(null) as Record<string, Entry | Group>, commands);

const run: Entry = {
  summary: "Creates and starts a VM, then opens a shell or runs a command in it.",
  load: async () => (await import("./vm/run.ts")).command,
};
const list: Entry = {
  summary: "Lists running VMs, or all with -a.",
  aliases: ["ls", "ps"],
  load: async () => (await import("./vm/list.ts")).command,
};
const remove: Entry = {
  summary: "Deletes VMs and their disks; stops running ones first.",
  aliases: ["rm"],
  load: async () => (await import("./vm/delete.ts")).command,
};
const logs: Entry = {
  summary: "Shows a VM's serial console, or the log of its virtual machine monitor (VMM).",
  load: async () => (await import("./vm/logs.ts")).command,
};
const ssh: Entry = {
  summary: "Opens a shell in a VM over ssh, or runs a command there.",
  load: async () => (await import("./vm/ssh.ts")).command,
};
const exec: Entry = {
  summary: "Runs a command in a VM and passes through its input, output and exit status.",
  load: async () => (await import("./vm/exec.ts")).command,
};
const cp: Entry = {
  summary: "Copies files and directories into or out of a VM.",
  load: async () => (await import("./vm/cp.ts")).command,
};

const vm: Group = {
  summary: "Manages VMs: create, use, stop, delete.",
  purpose: "Manages VMs. Each VM has its own kernel, root disk and work disk at /root. It exists until you delete it.",
  usual: [
    ["banger vm run", "opens a shell in a new VM"],
    ["banger vm run --rm -- uname -a", "runs one command in a new VM, then deletes the VM"],
  ],
  next: [
    ["banger vm list", "lists running VMs"],
    ["banger vm exec NAME -- make test", "runs a command in a running VM"],
    ["banger vm delete NAME", "stops the VM and deletes its disks"],
  ],
  commands: table({
    run,
    create: {
      summary: "Creates a VM and starts it.",
      load: async () => (await import("./vm/create.ts")).command,
    },
    start: {
      summary: "Starts stopped VMs and waits until each is ready.",
      load: async () => (await import("./vm/start.ts")).command,
    },
    stop: { summary: "Stops VMs and keeps their disks.", load: async () => (await import("./vm/stop.ts")).command },
    restart: {
      summary: "Stops VMs and starts them again.",
      load: async () => (await import("./vm/restart.ts")).command,
    },
    kill: {
      summary: "Sends a signal to VMs' monitors; by default, cuts their power.",
      load: async () => (await import("./vm/kill.ts")).command,
    },
    delete: remove,
    list,
    show: { summary: "Shows the record of a VM.", load: async () => (await import("./vm/show.ts")).command },
    stats: {
      summary: "Shows VMs' use of CPU, memory, disk and network.",
      load: async () => (await import("./vm/stats.ts")).command,
    },
    logs,
    set: {
      summary: "Changes a stopped VM's CPUs, memory, disk size or network access.",
      load: async () => (await import("./vm/set.ts")).command,
    },
    ssh,
    exec,
    cp,
    ports: {
      summary: "Lists the ports that guests listen on, and their forwards.",
      load: async () => (await import("./vm/ports.ts")).command,
    },
    forward: {
      summary: "Forwards a port on this host's loopback to a port in a VM.",
      load: async () => (await import("./vm/forward.ts")).command,
    },
    prune: {
      summary: "Deletes every VM that isn't running.",
      load: async () => (await import("./vm/prune.ts")).command,
    },
    workspace: {
      summary: "Copies git repositories into VMs and exports changes (not available yet).",
      purpose:
        "Copies a repository's tracked files into a VM, and exports the changes made there as one patch. Not available yet.",
      usual: [["banger vm workspace prepare NAME .", "copies this repository to /root/repo in the VM"]],
      next: [["banger vm workspace export NAME", "prints the changes as a patch for git apply"]],
      commands: table({
        prepare: {
          summary: "Copies a git repository into a VM (not available yet).",
          load: async () => (await import("./vm/workspace/prepare.ts")).command,
        },
        export: {
          summary: "Prints the changes in a VM's workspace as one patch (not available yet).",
          load: async () => (await import("./vm/workspace/export.ts")).command,
        },
      }),
    },
  }),
};

const image: Group = {
  summary: "Manages images: the file systems that VMs start from.",
  purpose:
    "Manages images: the root file systems that VMs start from. A missing image is built when a VM first needs it.",
  usual: [["banger image list", "lists images"]],
  next: [
    ["banger image build debian-trixie --force", "rebuilds the image with today's packages"],
    ["banger vm run --image debian-trixie", "starts a VM from the image"],
  ],
  commands: table({
    list: { summary: "Lists images.", aliases: ["ls"], load: async () => (await import("./image/list.ts")).command },
    build: {
      summary: "Builds a catalog image from the distribution's archive.",
      load: async () => (await import("./image/build.ts")).command,
    },
    show: { summary: "Shows an image.", load: async () => (await import("./image/show.ts")).command },
    register: {
      summary: "Creates an image from a root file system on this host.",
      load: async () => (await import("./image/register.ts")).command,
    },
    delete: {
      summary: "Deletes an image that no VM uses.",
      aliases: ["rm"],
      load: async () => (await import("./image/delete.ts")).command,
    },
    pull: {
      summary: "Pulls an image from a container registry (not available yet).",
      load: async () => (await import("./image/pull.ts")).command,
    },
    promote: {
      summary: "Creates an image from a VM's disk (not available yet).",
      load: async () => (await import("./image/promote.ts")).command,
    },
    cache: {
      summary: "Manages downloaded image layers (not available yet).",
      purpose: "Manages downloaded layers that a later pull can reuse. Not available yet.",
      usual: [["banger image cache prune --dry-run", "lists layers that can be removed"]],
      next: [["banger image list", "lists the images, which are kept"]],
      commands: table({
        prune: {
          summary: "Removes downloaded layers (not available yet).",
          load: async () => (await import("./image/cache/prune.ts")).command,
        },
      }),
    },
  }),
};

const kernel: Group = {
  summary: "Manages kernels that VMs boot.",
  purpose: "Manages kernels that VMs boot. Each built image comes with a kernel; import others to use instead.",
  usual: [["banger kernel list", "lists kernels"]],
  next: [
    ["banger kernel import mine --from ./bzImage", "imports a kernel from a file, a .deb or a directory"],
    ["banger vm run --kernel mine", "boots a VM with it"],
  ],
  commands: table({
    list: { summary: "Lists kernels.", aliases: ["ls"], load: async () => (await import("./kernel/list.ts")).command },
    show: { summary: "Shows a kernel.", load: async () => (await import("./kernel/show.ts")).command },
    import: {
      summary: "Imports a kernel from a vmlinux, a bzImage, a .deb or a directory.",
      load: async () => (await import("./kernel/import.ts")).command,
    },
    delete: {
      summary: "Deletes a kernel that nothing uses.",
      aliases: ["rm"],
      load: async () => (await import("./kernel/delete.ts")).command,
    },
    pull: {
      summary: "Downloads a kernel (not available yet).",
      load: async () => (await import("./kernel/pull.ts")).command,
    },
  }),
};

const system: Group = {
  summary: "Manages the installed system: Firecracker, its jail, network and names.",
  purpose: "Installs banger as a system service. VMs then run under Firecracker in a jail, with addresses and names.",
  usual: [["banger system status", "shows what is installed and running"]],
  next: [["banger doctor", "checks this host and suggests fixes"]],
  commands: table({
    install: {
      summary: "Installs or upgrades the executable, its units and directories.",
      forRoot: true,
      load: async () => (await import("./system/install.ts")).command,
    },
    status: {
      summary: "Shows units, sockets, versions and owner.",
      forRoot: true,
      load: async () => (await import("./system/status.ts")).command,
    },
    restart: {
      summary: "Restarts the daemon and the root helper; VMs keep running.",
      forRoot: true,
      load: async () => (await import("./system/restart.ts")).command,
    },
    uninstall: {
      summary: "Removes the units and the executable.",
      forRoot: true,
      load: async () => (await import("./system/uninstall.ts")).command,
    },
  }),
};

const daemon: Group = {
  summary: "Manages the daemon, your background process.",
  purpose: "Manages the background process that looks after your VMs. The first command that needs it starts it.",
  usual: [["banger daemon status", "shows if the daemon runs, and since when"]],
  next: [
    ["banger daemon logs -f", "follows the daemon's log"],
    ["banger daemon stop", "stops the daemon; VMs keep running"],
  ],
  commands: table({
    status: {
      summary: "Shows if the daemon is running.",
      load: async () => (await import("./daemon/status.ts")).command,
    },
    stop: {
      summary: "Stops the daemon; VMs keep running.",
      load: async () => (await import("./daemon/stop.ts")).command,
    },
    logs: { summary: "Shows the daemon's log.", load: async () => (await import("./daemon/logs.ts")).command },
  }),
};

/** Everything after `banger`. */
export const ROOT: Group = {
  summary: "Runs Linux sandboxes in VMs.",
  purpose: "Runs Linux sandboxes on this machine: VMs, each with its own kernel, root disk and work disk at /root.",
  usual: [
    ["banger run", "opens a shell in a new VM"],
    ["banger run --rm -- uname -a", "runs one command in a new VM, then deletes the VM"],
  ],
  next: [
    ["banger ps", "lists running VMs"],
    ["banger exec NAME -- make test", "runs a command in a running VM"],
    ["banger rm NAME", "stops the VM and deletes its disks"],
    ["banger doctor", "checks this host and suggests fixes"],
  ],
  commands: table({
    run,
    ps: { ...list, aliases: [] },
    exec,
    ssh,
    cp,
    logs,
    rm: { ...remove, aliases: [] },
    vm,
    image,
    kernel,
    system,
    daemon,
    update: {
      summary: "Updates banger (not available yet).",
      forRoot: true,
      load: async () => (await import("./update.ts")).command,
    },
    doctor: {
      summary: "Checks this host and suggests how to fix what is wrong.",
      load: async () => (await import("./doctor.ts")).command,
    },
    gc: { summary: "Removes leftovers that belong to no VM.", load: async () => (await import("./gc.ts")).command },
    config: {
      summary: "Shows every setting, its value and where it comes from.",
      load: async () => (await import("./config.ts")).command,
    },
    "ssh-config": {
      summary: "Sets up ssh NAME.vm, and so scp, rsync and remote editors.",
      load: async () => (await import("./ssh-config.ts")).command,
    },
    completion: {
      summary: "Prints a completion script for your shell.",
      forRoot: true,
      load: async () => (await import("./completion.ts")).command,
    },
    explain: {
      summary: "Explains an error code.",
      forRoot: true,
      load: async () => (await import("./explain.ts")).command,
    },
    version: { summary: "Shows the version.", forRoot: true, load: async () => (await import("./version.ts")).command },
    help: {
      summary: "Shows help for a command.",
      forRoot: true,
      load: async () => (await import("./help.ts")).command,
    },
    internal: {
      summary: "Runs banger's own processes.",
      hidden: true,
      purpose: "Runs banger's own processes.",
      usual: [],
      next: [],
      commands: table({
        complete: {
          summary: "Prints completion candidates for a shell.",
          forRoot: true,
          load: async () => (await import("./internal/complete.ts")).command,
        },
        socket: {
          summary: "Prints the path of the daemon's API socket.",
          load: async () => (await import("./internal/socket.ts")).command,
        },
        "guest-stream": {
          summary: "Connects banger on another machine to a VM's agent.",
          load: async () => (await import("./internal/guest-stream.ts")).command,
        },
        "ssh-proxy": {
          summary: "Connects ssh to a VM.",
          load: async () => (await import("./internal/ssh-proxy.ts")).command,
        },
        "known-hosts": {
          summary: "Prints a VM's host keys for ssh.",
          load: async () => (await import("./internal/known-hosts.ts")).command,
        },
      }),
    },
  }),
};

/**
 * The one table of commands: names, summaries and help of groups. A command's own code is loaded when it runs, or when
 * its own help is asked for.
 */

import type { Entry, Group } from "../line/command.ts";

const table = (commands: Record<string, Entry | Group>): Readonly<Record<string, Entry | Group>> =>
  Object.assign(Object.create(null) as Record<string, Entry | Group>, commands);

const run: Entry = {
  summary: "Creates a sandbox, starts it, and gives you a shell or runs a command in it.",
  load: async () => (await import("./vm/run.ts")).command,
};
const list: Entry = {
  summary: "Lists VMs, the running ones.",
  aliases: ["ls", "ps"],
  load: async () => (await import("./vm/list.ts")).command,
};
const remove: Entry = {
  summary: "Stops VMs and removes everything of them.",
  aliases: ["rm"],
  load: async () => (await import("./vm/delete.ts")).command,
};
const logs: Entry = {
  summary: "Shows the serial console, or the log of the virtual machine monitor.",
  load: async () => (await import("./vm/logs.ts")).command,
};
const ssh: Entry = {
  summary: "Opens a shell in a VM over ssh, or runs a command there.",
  load: async () => (await import("./vm/ssh.ts")).command,
};
const exec: Entry = {
  summary: "Runs a command in a VM; input, output and exit status are the command's own.",
  load: async () => (await import("./vm/exec.ts")).command,
};
const cp: Entry = {
  summary: "Copies files and trees into a VM or out of it.",
  load: async () => (await import("./vm/cp.ts")).command,
};

const vm: Group = {
  summary: "Sandboxes: create, use, stop, delete.",
  purpose:
    "Sandboxes. Each is a microVM with its own kernel, root disk and work disk at /root; it lives until you delete it.",
  usual: [
    ["banger vm run", "a shell in a fresh sandbox"],
    ["banger vm run --rm -- uname -a", "one command in a sandbox that is gone afterwards"],
  ],
  next: [
    ["banger vm list", "what runs"],
    ["banger vm exec NAME -- make test", "a command in a sandbox that runs"],
    ["banger vm delete NAME", "stop it and give back its disk"],
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
    stop: { summary: "Stops VMs; what they wrote stays.", load: async () => (await import("./vm/stop.ts")).command },
    restart: {
      summary: "Stops VMs and starts them again.",
      load: async () => (await import("./vm/restart.ts")).command,
    },
    kill: {
      summary: "Sends a signal to the virtual machine monitors of VMs.",
      load: async () => (await import("./vm/kill.ts")).command,
    },
    delete: remove,
    list,
    show: { summary: "Shows the record of a VM.", load: async () => (await import("./vm/show.ts")).command },
    stats: {
      summary: "Shows what VMs use: CPU, memory, disk, network.",
      load: async () => (await import("./vm/stats.ts")).command,
    },
    logs,
    set: { summary: "Changes the sizes of a stopped VM.", load: async () => (await import("./vm/set.ts")).command },
    ssh,
    exec,
    cp,
    ports: {
      summary: "Lists the ports that guests listen on.",
      load: async () => (await import("./vm/ports.ts")).command,
    },
    forward: {
      summary: "Forwards a port of this host's loopback to a port in a VM.",
      load: async () => (await import("./vm/forward.ts")).command,
    },
    prune: {
      summary: "Deletes every VM that isn't running.",
      load: async () => (await import("./vm/prune.ts")).command,
    },
    workspace: {
      summary: "A git repository in a VM: put it there, get the changes back.",
      purpose: "Puts what git tracks of a repository into a VM, and gets back what changed there as one patch.",
      usual: [["banger vm workspace prepare NAME .", "this repository at /root/repo of the VM"]],
      next: [["banger vm workspace export NAME", "what changed in there, for git apply"]],
      commands: table({
        prepare: {
          summary: "Puts a git repository into a VM.",
          load: async () => (await import("./vm/workspace/prepare.ts")).command,
        },
        export: {
          summary: "Prints everything changed in the VM's workspace as one patch.",
          load: async () => (await import("./vm/workspace/export.ts")).command,
        },
      }),
    },
  }),
};

const image: Group = {
  summary: "Images that VMs are made of.",
  purpose: "Root file systems that VMs start from. One that is missing is built when the first VM needs it.",
  usual: [["banger image list", "what is here"]],
  next: [
    ["banger image build debian-trixie --force", "build it anew, with today's packages"],
    ["banger vm run --image debian-trixie", "a sandbox made of it"],
  ],
  commands: table({
    list: { summary: "Lists images.", aliases: ["ls"], load: async () => (await import("./image/list.ts")).command },
    build: {
      summary: "Builds an image of the catalog from the distribution's archive.",
      load: async () => (await import("./image/build.ts")).command,
    },
    show: { summary: "Shows an image.", load: async () => (await import("./image/show.ts")).command },
    register: {
      summary: "Makes an image from a root file system on this host.",
      load: async () => (await import("./image/register.ts")).command,
    },
    delete: {
      summary: "Removes an image that no VM uses.",
      aliases: ["rm"],
      load: async () => (await import("./image/delete.ts")).command,
    },
    pull: {
      summary: "Makes an image from a container registry.",
      load: async () => (await import("./image/pull.ts")).command,
    },
    promote: {
      summary: "Makes an image from a VM's disk.",
      load: async () => (await import("./image/promote.ts")).command,
    },
    cache: {
      summary: "What pulls keep for the next one.",
      purpose: "Downloaded layers that a later pull may use again.",
      usual: [["banger image cache prune --dry-run", "what could go"]],
      next: [["banger image list", "the images themselves, which stay"]],
      commands: table({
        prune: {
          summary: "Removes downloaded layers.",
          load: async () => (await import("./image/cache/prune.ts")).command,
        },
      }),
    },
  }),
};

const kernel: Group = {
  summary: "Kernels that VMs boot.",
  purpose: "Kernels that VMs boot. Each built image brings its own; import others to boot an image with them.",
  usual: [["banger kernel list", "what is here"]],
  next: [
    ["banger kernel import mine --from ./bzImage", "take one from a file, a .deb or a directory"],
    ["banger vm run --kernel mine", "boot it"],
  ],
  commands: table({
    list: { summary: "Lists kernels.", aliases: ["ls"], load: async () => (await import("./kernel/list.ts")).command },
    show: { summary: "Shows a kernel.", load: async () => (await import("./kernel/show.ts")).command },
    import: {
      summary: "Takes a kernel from a vmlinux, a bzImage, a .deb or a directory.",
      load: async () => (await import("./kernel/import.ts")).command,
    },
    delete: {
      summary: "Removes a kernel that nothing uses.",
      aliases: ["rm"],
      load: async () => (await import("./kernel/delete.ts")).command,
    },
    pull: { summary: "Downloads a kernel.", load: async () => (await import("./kernel/pull.ts")).command },
  }),
};

const system: Group = {
  summary: "The installed system: Firecracker, its jail, networking, names.",
  purpose:
    "Installs banger as a system service, so that VMs run under Firecracker in a jail, with addresses and names.",
  usual: [["banger system status", "what is installed and whether it answers"]],
  next: [["banger doctor", "what this host can do"]],
  commands: table({
    install: {
      summary: "Installs the executable, its units and directories.",
      forRoot: true,
      load: async () => (await import("./system/install.ts")).command,
    },
    status: {
      summary: "Shows units, sockets, versions and owner.",
      forRoot: true,
      load: async () => (await import("./system/status.ts")).command,
    },
    restart: {
      summary: "Restarts the daemons; VMs keep running.",
      forRoot: true,
      load: async () => (await import("./system/restart.ts")).command,
    },
    uninstall: {
      summary: "Removes units and executable.",
      forRoot: true,
      load: async () => (await import("./system/uninstall.ts")).command,
    },
  }),
};

const daemon: Group = {
  summary: "The background process of this user.",
  purpose: "The background process that looks after your VMs. The first command that needs it starts it.",
  usual: [["banger daemon status", "whether it runs, and since when"]],
  next: [
    ["banger daemon logs -f", "what it does"],
    ["banger daemon stop", "end it; VMs keep running"],
  ],
  commands: table({
    status: {
      summary: "Shows whether the daemon runs.",
      load: async () => (await import("./daemon/status.ts")).command,
    },
    stop: {
      summary: "Ends the daemon; VMs keep running.",
      load: async () => (await import("./daemon/stop.ts")).command,
    },
    logs: { summary: "Shows the daemon's log.", load: async () => (await import("./daemon/logs.ts")).command },
  }),
};

/** Everything after `banger`. */
export const ROOT: Group = {
  summary: "Sandboxes in microVMs.",
  purpose:
    "Disposable or long-lived Linux sandboxes on this machine, each a microVM with its own kernel, root disk and work disk at /root.",
  usual: [
    ["banger run", "a shell in a fresh sandbox"],
    ["banger run --rm -- uname -a", "one command in a sandbox that is gone afterwards"],
  ],
  next: [
    ["banger ps", "what runs"],
    ["banger exec NAME -- make test", "a command in a sandbox that runs"],
    ["banger rm NAME", "stop it and give back its disk"],
    ["banger doctor", "what this host can do, and how to make it faster"],
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
      summary: "Replaces this banger by a newer one; VMs keep running.",
      forRoot: true,
      load: async () => (await import("./update.ts")).command,
    },
    doctor: {
      summary: "Checks this host and says how to fix what is wrong.",
      load: async () => (await import("./doctor.ts")).command,
    },
    gc: { summary: "Removes what no VM owns.", load: async () => (await import("./gc.ts")).command },
    config: {
      summary: "Shows the settings in effect and where each comes from.",
      load: async () => (await import("./config.ts")).command,
    },
    "ssh-config": {
      summary: "Makes ssh NAME.vm, scp, rsync and remote editors work.",
      load: async () => (await import("./ssh-config.ts")).command,
    },
    completion: {
      summary: "Prints the completion script of a shell.",
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
      summary: "Shows the help of a command.",
      forRoot: true,
      load: async () => (await import("./help.ts")).command,
    },
    internal: {
      summary: "banger's own processes.",
      hidden: true,
      purpose: "For banger's own processes.",
      usual: [],
      next: [],
      commands: table({
        complete: {
          summary: "Candidates for a shell's completion.",
          forRoot: true,
          load: async () => (await import("./internal/complete.ts")).command,
        },
        socket: {
          summary: "Where the daemon's API is, for a banger on another machine.",
          load: async () => (await import("./internal/socket.ts")).command,
        },
        "ssh-proxy": {
          summary: "Connects ssh to a VM.",
          load: async () => (await import("./internal/ssh-proxy.ts")).command,
        },
        "known-hosts": {
          summary: "Host keys of a VM, for ssh.",
          load: async () => (await import("./internal/known-hosts.ts")).command,
        },
      }),
    },
  }),
};

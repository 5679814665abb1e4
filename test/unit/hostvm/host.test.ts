import { describe, expect, test } from "bun:test";
import { hostArgv, quote } from "../../hostvm/host.ts";
import { differences } from "../../hostvm/support/snapshot.ts";

describe("the test host", () => {
  const argv = hostArgv({
    image: {
      diskPath: "/cache/root.img",
      kernelPath: "/cache/vmlinuz",
      initrdPath: "/cache/initrd",
      guestKernelPath: "/cache/vmlinux",
      busyboxPath: "/cache/busybox",
      sshKeyPath: "/cache/id",
      knownHostsPath: "/cache/known_hosts",
    },
    payloadPath: "/run/payload.img",
    overlayPath: "/run/disk.qcow2",
    consolePath: "/run/console.log",
    sshPort: 2222,
    acceleration: "tcg",
  }).join(" ");

  test("never writes to the cached disk or the payload", () => {
    expect(argv).not.toContain("/cache/root.img");
    expect(argv).toContain("readonly=on,file=/run/payload.img");
  });

  test("listens on the loopback alone, and reaches nothing", () => {
    expect(argv).toContain("restrict=on,hostfwd=tcp:127.0.0.1:2222-");
  });
});

test("a word comes out of a shell as it went in", async () => {
  for (const word of ["", "a b", "it's", "$(id)", "`id`", '"', "\\", "*", "a\nb", "-n", "'", "~"]) {
    const child = Bun.spawn(["sh", "-c", `printf %s ${quote(word)}`], { stdout: "pipe" });
    expect(await new Response(child.stdout).text()).toBe(word);
  }
});

test("what is new and what is gone on a host", () => {
  expect(differences(new Set(["link lo", "link eth0"]), new Set(["link lo", "link br-fc"]))).toEqual([
    "+ link br-fc",
    "- link eth0",
  ]);
});

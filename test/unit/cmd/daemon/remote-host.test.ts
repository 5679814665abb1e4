import { describe, expect, test } from "bun:test";
import { sshLine } from "../../../../src/cmd/guest/exec/ssh.ts";
import { parseHost } from "../../../../src/cmd/daemon/remote-host.ts";
import { VmId } from "../../../../src/shared/contract/schemas.ts";
import * as v from "valibot";

describe("BANGER_HOST", () => {
  test.each([
    ["ssh://box", { destination: "box", port: null }],
    ["ssh://me@box.example:2222", { destination: "me@box.example", port: "2222" }],
    ["ssh://me@[::1]:22/", { destination: "me@::1", port: "22" }],
  ])("%s", (text, host) => expect(parseHost(text)).toEqual(host));

  test.each([
    "box",
    "http://box",
    "ssh://",
    "ssh://-oProxyCommand=id",
    "ssh://-l@box",
    "ssh://a b",
    "ssh://box/path",
    "ssh://a@b@c",
    "ssh://box:x",
  ])("%s is refused", (text) => expect(() => parseHost(text)).toThrow("BANGER_HOST must be ssh://"));

  test("a guest's line goes through the other machine as one quoted word", () => {
    const connection = {
      kind: "ssh" as const,
      id: v.parse(VmId, "0123456789ab"),
      name: "box",
      workDir: "/",
      sshArgv: ["ssh", "-F", "/a b", "root@guest"],
    };
    expect(sshLine(connection, "-T", "echo 'x'")).toEqual(["ssh", "-T", "-F", "/a b", "root@guest", "echo 'x'"]);
    expect(sshLine({ ...connection, via: ["ssh", "-p", "22", "me@host"] }, "-tt", "echo 'x'")).toEqual([
      "ssh",
      "-tt",
      "-p",
      "22",
      "me@host",
      "ssh -tt -F '/a b' root@guest 'echo '\\''x'\\'''",
    ]);
  });
});

import { expect, test } from "bun:test";
import { sshCommand } from "../../../../../src/daemon/guest/ssh/options.ts";
import { rootlessPaths } from "../../../../../src/shared/places/paths.ts";
import { guestAddress } from "../../../../support/guest-address.ts";

const paths = rootlessPaths({}, "/home/a%b c", 1000);

test("only banger's own key and the guest's own host key count, nothing of the user's configuration", () => {
  const argv = sshCommand(paths, guestAddress);
  expect(argv.slice(0, 3)).toEqual(["ssh", "-F", "/dev/null"]);
  expect(argv).toContain("StrictHostKeyChecking=yes");
  expect(argv).toContain("GlobalKnownHostsFile=/dev/null");
  expect(argv).toContain("IdentitiesOnly=yes");
  expect(argv).toContain(`HostKeyAlias=banger-${guestAddress.id}`);
  expect(argv.slice(-3)).toEqual(["-p", "2222", "root@127.0.0.1"]);
  expect(argv.join(" ")).not.toContain("ProxyCommand");
});

test("a home's spaces and percents reach ssh as they are", () => {
  const identity = sshCommand(paths, guestAddress).find((word) => word.startsWith("IdentityFile="));
  expect(identity).toMatch(/^IdentityFile="\/home\/a%%b c\/.*"$/);
});

test("a guest in a jail is reached by banger's own proxy, every word of it quoted", () => {
  const argv = sshCommand(paths, { ...guestAddress, jailRoot: "/srv/it's 100%" });
  const proxy = argv.find((word) => word.startsWith("ProxyCommand="));
  expect(proxy).toContain("guest-connect");
  expect(proxy).toEndWith(` '/srv/it'\\''s 100%%' 127.0.0.1 2222 5000`);
  expect(argv).toContain("ProxyUseFdpass=yes");
});

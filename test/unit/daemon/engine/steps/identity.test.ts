import { expect, test } from "bun:test";
import { formatGitIdentity } from "../../../../../src/daemon/engine/steps/identity.ts";

test("the guest's git is told the host's name and mail, in git's own syntax", () => {
  expect(formatGitIdentity('user.name\nAda "the" Countess\0user.email\nada@example.org\0')).toBe(
    '[user]\n\tname = "Ada \\"the\\" Countess"\n\temail = "ada@example.org"\n',
  );
  expect(formatGitIdentity("user.email\n \0")).toBeNull();
  expect(formatGitIdentity("")).toBeNull();
});

import { describe, expect, test } from "bun:test";
import { BangerError, ERROR_TABLE, exitStatusOf, isErrno, toBangerError } from "../../../src/shared/errors.ts";

test("every code is SCREAMING, has a sentence and a status of its range", () => {
  for (const [code, row] of Object.entries(ERROR_TABLE)) {
    expect(code).toMatch(/^[A-Z][A-Z_]*$/);
    expect(row.summary).toMatch(/\.$/);
    expect(Number.isInteger(row.exit) && row.exit > 0 && row.exit < 126).toBe(true);
  }
});

test("a hint can be typed as it is: what it is about, only the place that throws knows", () => {
  for (const row of Object.values(ERROR_TABLE)) expect("hint" in row ? row.hint : "").not.toMatch(/\b[A-Z]{2,}\b/);
});

describe("what the system refuses is no bug in banger", () => {
  test.each([
    ["EACCES", "NO_ACCESS", 14],
    ["EPERM", "NO_ACCESS", 14],
    ["EISDIR", "NOT_A_FILE", 15],
    ["ENOTDIR", "NOT_A_FILE", 15],
    ["ELOOP", "NOT_A_FILE", 15],
    ["EROFS", "READ_ONLY", 31],
    ["EDQUOT", "NO_SPACE", 31],
  ] as const)("%s is %s, exit status %d, with the path", (code, expected, status) => {
    const error = toBangerError(Object.assign(new Error(`${code}: no, open '/x/y'`), { code, path: "/x/y" }));
    expect(error.code).toBe(expected);
    expect(exitStatusOf(error.code)).toBe(status);
    expect(error.message).toContain("/x/y");
    if (expected !== "NO_SPACE") expect(error.hint).toBe("ls -ld /x/y");
  });

  test("a program that isn't installed", () => {
    const start = (): unknown => Bun.spawn(["no-such-program-of-banger"]);
    let thrown: unknown = null;
    try {
      start();
    } catch (caught) {
      thrown = caught;
    }
    expect(toBangerError(thrown).toDocument()).toMatchObject({
      code: "TOOL_MISSING",
      message: "no-such-program-of-banger is not installed, but banger needs it",
    });
  });

  test("but a file that is missing where nobody thought of it stays one", () => {
    expect(toBangerError(Object.assign(new Error("x"), { code: "ENOENT", path: "/x" })).code).toBe("INTERNAL");
  });
});

test("an error crosses the API and comes back the same", () => {
  const error = new BangerError("WRONG_STATE", "it runs", {
    details: { state: "running" },
    hint: "banger vm stop x",
    op: "op-1",
  });
  const back = BangerError.fromDocument(JSON.parse(JSON.stringify(error.toDocument())));
  expect(back.toDocument()).toEqual(error.toDocument());
  expect(exitStatusOf(back.code)).toBe(22);
});

test("what nobody expected is INTERNAL, a full disk NO_SPACE, an abort CANCELLED", () => {
  expect(toBangerError(new TypeError("x")).code).toBe("INTERNAL");
  expect(toBangerError("text").message).toBe("text");
  expect(toBangerError(Object.assign(new Error("full"), { code: "ENOSPC" })).code).toBe("NO_SPACE");
  expect(toBangerError(new DOMException("gone", "AbortError")).code).toBe("CANCELLED");
});

test("the operation's id is added once and never replaced", () => {
  const first = toBangerError(new BangerError("FAILED", "x"), "op-1");
  expect(first.op).toBe("op-1");
  expect(toBangerError(first, "op-2").op).toBe("op-1");
});

test("isErrno asks for the name, not the text", () => {
  expect(isErrno(Object.assign(new Error("x"), { code: "ENOENT" }), "ENOENT")).toBe(true);
  expect(isErrno(new Error("ENOENT"), "ENOENT")).toBe(false);
  expect(isErrno("ENOENT", "ENOENT")).toBe(false);
});

import { expect, test } from "bun:test";
import { guestPath, parseEndpoint } from "../../../../../src/cmd/guest/copy/endpoint.ts";

test("what is where", () => {
  expect(parseEndpoint("box:/x")).toEqual({ kind: "guest", vm: "box", path: "/x" });
  expect(parseEndpoint("./a:b")).toEqual({ kind: "host", path: "./a:b" });
  expect(parseEndpoint("/a:b")).toEqual({ kind: "host", path: "/a:b" });
  expect(parseEndpoint("-")).toEqual({ kind: "stream" });
  const paths = ["", "~", "x/../y", "~/z", "/a/", "/", "..", ".", "a/.", "/a/../b/./"];
  expect(paths.map(guestPath)).toEqual([
    ...["/root", "/root", "/root/y", "/root/z", "/a/", "/"],
    ...["/.", "/root/.", "/root/a/.", "/b/."],
  ]);
});

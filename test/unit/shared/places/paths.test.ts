import { expect, test } from "bun:test";
import { rootlessPaths } from "../../../../src/shared/places/paths.ts";

test("XDG directories, and the defaults where there are none", () => {
  const paths = rootlessPaths({}, "/home/me", 1000);
  expect(paths).toMatchObject({
    mode: "rootless",
    configFiles: ["/home/me/.config/banger/config.toml"],
    stateDir: "/home/me/.local/state/banger",
    cacheDir: "/home/me/.cache/banger",
  });
  expect(paths.runtimeDir).toMatch(/^\/tmp\/banger-runtime-1000-[0-9a-f]{12}$/);
  expect(paths.apiSocket).toBe(`${paths.runtimeDir}/bangerd.sock`);
  const xdg = rootlessPaths({ XDG_RUNTIME_DIR: "/run/user/1000", XDG_STATE_HOME: "/s" }, "/home/me", 1000);
  expect(xdg.stateDir).toBe("/s/banger");
  expect(xdg.runtimeDir).toMatch(/^\/run\/user\/1000\/banger-[0-9a-f]{12}$/);
});

test("a relative XDG variable is ignored, as its specification asks", () => {
  const { runtimeDir, stateDir } = rootlessPaths({ XDG_RUNTIME_DIR: "run", XDG_STATE_HOME: "" }, "/home/me", 7);
  expect(stateDir).toBe("/home/me/.local/state/banger");
  expect(runtimeDir).toStartWith("/tmp/banger-runtime-7-");
});

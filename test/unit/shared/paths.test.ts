import { expect, test } from "bun:test";
import { rootlessPaths } from "../../../src/shared/paths.ts";

test("XDG directories, and the defaults where there are none", () => {
  const paths = rootlessPaths({}, "/home/me", 1000);
  expect(paths).toMatchObject({
    mode: "rootless",
    configFiles: ["/home/me/.config/banger/config.toml"],
    stateDir: "/home/me/.local/state/banger",
    cacheDir: "/home/me/.cache/banger",
    runtimeDir: "/tmp/banger-runtime-1000",
    apiSocket: "/tmp/banger-runtime-1000/bangerd.sock",
  });
  expect(rootlessPaths({ XDG_RUNTIME_DIR: "/run/user/1000", XDG_STATE_HOME: "/s" }, "/home/me", 1000)).toMatchObject({
    runtimeDir: "/run/user/1000/banger",
    stateDir: "/s/banger",
  });
});

test("a relative XDG variable is ignored, as its specification asks", () => {
  expect(rootlessPaths({ XDG_RUNTIME_DIR: "run", XDG_STATE_HOME: "" }, "/home/me", 7)).toMatchObject({
    runtimeDir: "/tmp/banger-runtime-7",
    stateDir: "/home/me/.local/state/banger",
  });
});

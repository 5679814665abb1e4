import { describe, expect, test } from "bun:test";
import { CONFIG_KEYS, loadConfig } from "../../../src/shared/config.ts";
import { BangerError } from "../../../src/shared/errors.ts";

const load = (...texts: readonly (string | null)[]): ReturnType<typeof loadConfig> =>
  loadConfig(
    texts.map((_, index) => `/f${index}`),
    (path) => texts[Number(path.slice(2))] ?? null,
  );

test("no file, only defaults, each said to be one", () => {
  const { values, sources } = load(null);
  for (const [key, rule] of Object.entries(CONFIG_KEYS)) {
    expect(values[key as keyof typeof values]).toEqual(rule.value);
    expect(sources[key as keyof typeof sources]).toBe("default");
  }
});

test("a later file wins, key by key, and each value says where it is from", () => {
  const { values, sources } = load(
    'log_level = "warn"\n[vm_defaults]\nvcpu = 3\n',
    "[vm_defaults]\nvcpu = 5\nnat = true\n",
  );
  expect(values).toMatchObject({ log_level: "warn", "vm_defaults.vcpu": 5, "vm_defaults.nat": true });
  expect(sources).toMatchObject({ log_level: "/f0", "vm_defaults.vcpu": "/f1", "vm_defaults.memory_mib": "default" });
});

test("sizes and durations as people write them", () => {
  const { values } = load(
    'auto_stop_stale_after = "12h"\n[vm_defaults]\ndisk_size = "20G"\nsystem_overlay_size = 4096\n',
  );
  expect(values).toMatchObject({
    auto_stop_stale_after: 12 * 3_600_000,
    "vm_defaults.disk_size": 20 * 1024 ** 3,
    "vm_defaults.system_overlay_size": 4 * 1024 ** 3,
  });
});

test("file_sync: clean paths inside the home and /root, modes in octal", () => {
  const { values } = load(
    '[[file_sync]]\nhost = "~/.gitconfig"\nguest = "~/.gitconfig"\n[[file_sync]]\nhost = "~/.config/x y/"\nguest = "/root/.config/x"\nmode = "0600"\n',
  );
  expect(values.file_sync).toEqual([
    { host: "~/.gitconfig", guest: "/root/.gitconfig", mode: null },
    { host: "~/.config/x y", guest: "/root/.config/x", mode: 0o600 },
  ]);
});

describe("file_sync refuses", () => {
  test.each([
    'host = "/etc/shadow"\nguest = "~/x"',
    'host = "~/../other/x"\nguest = "~/x"',
    'host = "~/"\nguest = "~/x"',
    'host = "~/x"\nguest = "/etc/x"',
    'host = "~/x"\nguest = "/root/../etc/x"',
    'host = "~/x"\nguest = "~/a\\nb"',
    'host = "~/x"\nguest = "~/x"\nmode = "4755"',
    'host = "~/x"\nguest = "~/x"\nmode = 600',
    'host = "~/x"\nguest = "~/x"\nowner = "me"',
    'guest = "~/x"',
  ])("%p", (table) => {
    expect(() => load(`[[file_sync]]\n${table}\n`)).toThrow("file_sync must be");
  });
});

describe("refused by name", () => {
  test.each([
    ["lgo_level = 1", "did you mean log_level"],
    ["constructor = 1", "no key constructor"],
    ["[vm_defaults]\ncpus = 2", "no key vm_defaults.cpus"],
    ['log_level = "loud"', 'log_level must be "debug", "info", "warn" or "error"'],
    ["auto_stop_stale_after = 12", "auto_stop_stale_after must be"],
    ['stats_poll_interval = "10ms"', "stats_poll_interval must be"],
    ["[vm_defaults]\nvcpu = 0", "vm_defaults.vcpu must be"],
    ['ssh_key_path = "id"', "ssh_key_path must be"],
    ['default_image = "../x"', "default_image must be"],
    ["log_level = ", "is not TOML"],
  ])("%p", (text, message) => {
    const attempt = (): unknown => load(text);
    expect(attempt).toThrow(BangerError);
    expect(attempt).toThrow(message);
    expect(attempt).toThrow("/f0");
  });
});

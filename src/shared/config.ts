/** config.toml: every key, its default, its rule; and where each effective value came from. */

import { BangerError, withPath } from "./errors.ts";
import { DEFAULT_BRIDGE } from "./host-names.ts";
import { parseDuration } from "./text/durations.ts";
import { isLoopbackIpv4, isPrivateIpv4 } from "./network/ipv4.ts";
import { describeLimits, isWithinLimits, type LimitedField, SPEC_LIMITS } from "./contract/limits.ts";
import { IMAGE_NAME_PATTERN } from "./contract/names.ts";
import { parseSize } from "./text/sizes.ts";
import { suggest } from "./text/suggest.ts";

/** Effective values. Sizes in bytes, durations in milliseconds; null means "decided by this host". */
export interface Config {
  readonly log_level: "debug" | "info" | "warn" | "error";
  readonly default_image: string;
  readonly ssh_key_path: string | null;
  readonly auto_stop_stale_after: number;
  readonly stats_poll_interval: number;
  readonly bridge_name: string;
  /** Null leaves the range to banger. */
  readonly bridge_ip: string | null;
  /** Length of the network's prefix. */
  readonly cidr: number;
  readonly tap_pool_size: number;
  /** Where the daemon answers for names under .vm: `IP:PORT`. */
  readonly dns: string;
  readonly file_sync: readonly FileSync[];
  readonly "vm_defaults.vcpu": number | null;
  readonly "vm_defaults.memory_mib": number | null;
  readonly "vm_defaults.disk_size": number | null;
  readonly "vm_defaults.system_overlay_size": number | null;
  readonly "vm_defaults.nat": boolean;
}

/** A `[[file_sync]]` table: a file or tree of the owner's home that every new VM gets a copy of. */
export interface FileSync {
  /** `~/…`: a clean path inside the owner's home. */
  readonly host: string;
  /** Absolute in the guest, below /root. */
  readonly guest: string;
  /** Permission bits of the copies; null keeps each file's own, without write for group and others. */
  readonly mode: number | null;
}

export type ConfigKey = keyof Config;

/** Where a value came from: `default`, or a file's path. */
export type ConfigSources = Readonly<Record<ConfigKey, string>>;

interface KeyRule<T> {
  readonly value: T;
  /** Null when the text's value is wrong; the rule is then quoted. */
  readonly read: (raw: unknown) => T | null;
  readonly rule: string;
  readonly summary: string;
}

const whole = (raw: unknown, least: number, most: number): number | null =>
  typeof raw === "number" && Number.isSafeInteger(raw) && raw >= least && raw <= most ? raw : null;
const size = (raw: unknown): number | null =>
  typeof raw === "string" ? parseSize(raw) : typeof raw === "number" ? parseSize(String(raw)) : null;
/** A number that a VM's spec can have in this field, of whatever {@link size} or a plain number reads. */
const within = (field: LimitedField, value: unknown): number | null =>
  typeof value === "number" && isWithinLimits(field, value) ? value : null;
const duration = (raw: unknown): number | null => (raw === 0 ? 0 : typeof raw === "string" ? parseDuration(raw) : null);

/** `~/…` or `/root/…` without empty, `.` or `..` parts and without control characters; as parts below the home. Null otherwise. */
function readHomePath(raw: unknown, prefixes: readonly string[]): string | null {
  if (typeof raw !== "string") return null;
  const prefix = prefixes.find((candidate) => raw.startsWith(candidate));
  if (prefix === undefined) return null;
  const rest = raw.slice(prefix.length).replace(/\/$/, "");
  const isClean = rest.split("/").every((part) => part !== "" && part !== "." && part !== "..");
  // oxlint-disable-next-line no-control-regex
  return isClean && !/[\u0000-\u001f\u007f]/.test(rest) ? rest : null;
}

function readFileSync(raw: unknown): FileSync | null {
  if (typeof raw !== "object" || raw === null) return null;
  const { host, guest, mode = null, ...unknown } = raw as Record<string, unknown>;
  const hostRest = readHomePath(host, ["~/"]);
  const guestRest = readHomePath(guest, ["~/", "/root/"]);
  const isMode = mode === null || (typeof mode === "string" && /^0?[0-7]{3}$/.test(mode));
  if (hostRest === null || guestRest === null || !isMode || Object.keys(unknown).length > 0) return null;
  return {
    host: `~/${hostRest}`,
    guest: `/root/${guestRest}`,
    mode: mode === null ? null : Number.parseInt(mode as string, 8),
  };
}

/** `IP:PORT` with a loopback address. */
function isLoopbackEndpoint(text: string): boolean {
  const [ip = "", port = "", ...rest] = text.split(":");
  return isLoopbackIpv4(ip) && /^[1-9]\d{0,4}$/.test(port) && Number(port) <= 65535 && rest.length === 0;
}

/** The one table of keys. */
export const CONFIG_KEYS: { readonly [K in ConfigKey]: KeyRule<Config[K]> } = {
  log_level: {
    value: "info",
    read: (raw) => (raw === "debug" || raw === "info" || raw === "warn" || raw === "error" ? raw : null),
    rule: '"debug", "info", "warn" or "error"',
    summary: "Level of the daemon's log; \"debug\" adds how long each step of a VM's life took.",
  },
  default_image: {
    value: "debian-trixie",
    read: (raw) => (typeof raw === "string" && IMAGE_NAME_PATTERN.test(raw) ? raw : null),
    rule: "an image name",
    summary: "Image used if --image isn't given.",
  },
  ssh_key_path: {
    value: null,
    read: (raw) => (typeof raw === "string" && /^(?:~\/|\/)./.test(raw) ? raw : null),
    rule: "an absolute path, or a path that starts with ~/",
    summary: "Private key that guests accept besides banger's own; its .pub must be next to it.",
  },
  auto_stop_stale_after: {
    value: 0,
    read: duration,
    rule: 'a duration such as "12h"; 0 means never',
    summary: "Stops a VM after it has been idle this long.",
  },
  stats_poll_interval: {
    value: 10_000,
    read: (raw) => {
      const ms = duration(raw);
      return ms !== null && ms >= 1000 ? ms : null;
    },
    rule: 'a duration of at least "1s"',
    summary: "How often the daemon checks running VMs.",
  },
  file_sync: {
    value: [],
    read: (raw) => {
      const rules = Array.isArray(raw) ? raw.map(readFileSync) : [null];
      return rules.every((rule) => rule !== null) ? rules : null;
    },
    rule: '[[file_sync]] tables of host ("~/…"), guest ("~/…" or "/root/…") and optionally mode ("0600")',
    summary: "Files and directories of your home to copy into every new VM.",
  },
  bridge_name: {
    value: DEFAULT_BRIDGE,
    read: (raw) => (typeof raw === "string" && /^br-fc(?:-[a-z0-9]{1,9})?$/.test(raw) && raw.length <= 15 ? raw : null),
    rule: '"br-fc", or "br-fc-" and up to 9 letters or digits',
    summary: "Bridge that guests of the installed system are connected to.",
  },
  bridge_ip: {
    value: null,
    read: (raw) => (typeof raw === "string" && isPrivateIpv4(raw) ? raw : null),
    rule: "a private IPv4 address",
    summary: "The bridge's address; default: in a free range that banger finds.",
  },
  cidr: {
    value: 24,
    read: (raw) => whole(raw, 16, 29),
    rule: "a prefix length from 16 to 29",
    summary: "Size of the guests' network.",
  },
  tap_pool_size: {
    value: 2,
    read: (raw) => whole(raw, 0, 64),
    rule: "a whole number from 0 to 64",
    summary: "How many network taps to create in advance, for faster starts.",
  },
  dns: {
    value: "127.0.0.1:42053",
    read: (raw) => (typeof raw === "string" && isLoopbackEndpoint(raw) ? raw : null),
    rule: 'a loopback address and port such as "127.0.0.1:42053"',
    summary: "Address and port where the daemon answers DNS queries for NAME.vm.",
  },
  "vm_defaults.vcpu": {
    value: null,
    read: (raw) => within("vcpu", raw),
    rule: `a whole number ${describeLimits("vcpu")}`,
    summary: "CPUs of a new VM.",
  },
  "vm_defaults.memory_mib": {
    value: null,
    read: (raw) => within("memoryMiB", raw),
    rule: `a whole number of MiB from ${SPEC_LIMITS.memoryMiB.least} to ${SPEC_LIMITS.memoryMiB.most}`,
    summary: "Memory of a new VM.",
  },
  "vm_defaults.disk_size": {
    value: null,
    read: (raw) => within("diskBytes", size(raw)),
    rule: `a size ${describeLimits("diskBytes")}, such as "8G"`,
    summary: "Size of /root.",
  },
  "vm_defaults.system_overlay_size": {
    value: null,
    read: (raw) => within("systemOverlayBytes", size(raw)),
    rule: `a size ${describeLimits("systemOverlayBytes")}, such as "8G"`,
    summary: "Size of the root file system.",
  },
  "vm_defaults.nat": {
    value: false,
    read: (raw) => (typeof raw === "boolean" ? raw : null),
    rule: "true or false",
    summary: "Gives new VMs network access through the host (NAT).",
  },
};

const KEYS = Object.keys(CONFIG_KEYS) as ConfigKey[];

/** Names of TOML keys as `table.key`. */
function flatten(document: Readonly<Record<string, unknown>>, prefix = ""): (readonly [string, unknown])[] {
  return Object.entries(document).flatMap(([key, value]) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? flatten(value as Record<string, unknown>, `${prefix}${key}.`)
      : [[`${prefix}${key}`, value] as const],
  );
}

/**
 * Reads the files in order, later ones winning. `readText` returns null for a file that isn't there.
 * @throws BangerError CONFIG_INVALID naming the file and key
 */
export function loadConfig(
  files: readonly string[],
  readText: (path: string) => string | null,
): { readonly values: Config; readonly sources: ConfigSources } {
  const values: Record<string, unknown> = Object.fromEntries(KEYS.map((key) => [key, CONFIG_KEYS[key].value]));
  const sources: Record<string, string> = Object.fromEntries(KEYS.map((key) => [key, "default"]));
  for (const file of files) {
    let text: string | null;
    try {
      text = readText(file);
    } catch (thrown) {
      throw withPath(thrown, file);
    }
    if (text === null) continue;
    let document: Record<string, unknown>;
    try {
      document = Bun.TOML.parse(text) as Record<string, unknown>;
    } catch (thrown) {
      throw new BangerError("CONFIG_INVALID", `${file} is not TOML: ${(thrown as Error).message}`, {
        details: { file },
      });
    }
    for (const [key, raw] of flatten(document)) {
      if (!Object.hasOwn(CONFIG_KEYS, key)) {
        const near = suggest(key, KEYS);
        throw new BangerError(
          "CONFIG_INVALID",
          `${file}: there is no key ${key}${near === null ? "" : `; did you mean ${near}?`}`,
          { details: { file, key } },
        );
      }
      const rule = CONFIG_KEYS[key as ConfigKey];
      const value = rule.read(raw);
      if (value === null)
        throw new BangerError("CONFIG_INVALID", `${file}: ${key} must be ${rule.rule}`, { details: { file, key } });
      values[key] = value;
      sources[key] = file;
    }
  }
  return { values: values as unknown as Config, sources: sources as ConfigSources };
}

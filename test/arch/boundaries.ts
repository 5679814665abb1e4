/**
 * Which file may do what (architecture.md): the direction of imports, and the few things that only one place may do.
 * Pure, so that a fixture can prove that each rule bites.
 */

import { posix } from "node:path";

export interface SourceFile {
  /** From the root of the repository: `src/cmd/main.ts`. */
  readonly path: string;
  readonly text: string;
}

type Layer = "main" | "cmd" | "daemon" | "helper" | "shared";

const MAY_IMPORT: Readonly<Record<Layer, readonly Layer[]>> = {
  main: ["cmd", "daemon", "helper", "shared"],
  cmd: ["cmd", "shared"],
  daemon: ["daemon", "shared"],
  helper: ["helper", "shared"],
  shared: ["shared"],
};

interface Reserved {
  readonly what: string;
  readonly pattern: RegExp;
  readonly allowed: RegExp;
}

const RESERVED: readonly Reserved[] = [
  {
    what: "calls foreign functions (bun:ffi)",
    pattern: /["'`]bun:ffi["'`]/,
    allowed:
      /^src\/(?:helper\/sys\/.+|daemon\/host\/system-calls|cmd\/terminal\/(?:poll|raw-mode)|shared\/agent\/serial-port)\.ts$/,
  },
  {
    what: "writes to stdout",
    pattern:
      /\bprocess\.stdout\b|\bBun\.stdout\b|\bconsole\.(?!error\b)(?:log|info|warn|debug|table|dir|write|trace|group)\b|\bwriteSync\(\s*1\b/,
    allowed: /^src\/cmd\/terminal\/output\.ts$/,
  },
  {
    what: "writes to stderr",
    pattern: /\bprocess\.stderr\b|\bBun\.stderr\b|\bconsole\.error\b|\bwriteSync\(\s*2\b/,
    // A role that does not come up has nobody else to tell; the helper logs to its journal, and ssh shows what its proxy says.
    allowed:
      /^src\/(?:main|cmd\/terminal\/output|daemon\/main|daemon\/guest\/ssh\/connect|daemon\/image\/build-role|helper\/(?:main|service))\.ts$/,
  },
  {
    what: "sets the exit status",
    pattern: /\bprocess\.exitCode\s*=[^=]|\bprocess\.(?:exit|reallyExit|abort)\s*\(/,
    allowed: /^src\/main\.ts$/,
  },
  {
    what: "runs a shell",
    pattern: /\bshell:\s*true\b|\bexecSync\s*\(|\bBun\.\$|import\s*\{[^}]*\$[^}]*\}\s*from\s*["']bun["']/,
    allowed: /^$/,
  },
];

/** The layer of a file under src; null for one that is part of none. */
function layerOf(path: string): Layer | null {
  if (path === "src/main.ts") return "main";
  const folder = /^src\/(cmd|daemon|helper|shared)\//.exec(path)?.[1];
  return (folder as Layer | undefined) ?? null;
}

/** Source without its comments: a doc comment may name what the code must not do. */
function withoutComments(text: string): string {
  return text.replace(
    /("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_, string: string | undefined) => string ?? " ",
  );
}

/** Everything a module asks for by name: static, type-only, re-exported, dynamic, side-effect. */
export function listImports(text: string): readonly string[] {
  const pattern =
    /(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+|\brequire\s*\(\s*|\bimport\.meta\.resolve\s*\(\s*)["'`]([^"'`\n]+)["'`]/g;
  return [...withoutComments(text).matchAll(pattern)].map(([, name = ""]) => name);
}

/** One sentence for each breach, in the order of the files. */
export function findBreaches(files: readonly SourceFile[]): readonly string[] {
  const breaches: string[] = [];
  for (const { path, text } of files) {
    const layer = layerOf(path);
    if (layer === null) {
      if (!path.endsWith(".d.ts")) breaches.push(`${path} is in none of main.ts, cmd, daemon, helper, shared`);
      continue;
    }
    for (const name of listImports(text)) {
      if (!name.startsWith(".")) continue;
      const target = posix.join(posix.dirname(path), name);
      if (target === "package.json" && layer === "shared") continue;
      const targetLayer = layerOf(target);
      if (targetLayer === null || !MAY_IMPORT[layer].includes(targetLayer))
        breaches.push(`${path} imports ${target}: ${layer} may import ${MAY_IMPORT[layer].join(", ")}`);
    }
    const code = withoutComments(text);
    for (const { what, pattern, allowed } of RESERVED) {
      if (pattern.test(code) && !allowed.test(path)) breaches.push(`${path} ${what}`);
    }
  }
  return breaches;
}

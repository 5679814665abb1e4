/** The shape of the tree: no circle of imports, no file or folder too large to take in at once, no path named in vain. Pure. */

import { posix } from "node:path";
import { listImports, type SourceFile } from "./boundaries.ts";

/** Files that import each other in a circle, each group once, sorted. Types count: a circle of them confuses as much. */
export function findCircles(files: readonly SourceFile[]): readonly (readonly string[])[] {
  const imports = new Map(
    files.map(({ path, text }) => [
      path,
      listImports(text)
        .filter((name) => name.startsWith("."))
        .map((name) => posix.join(posix.dirname(path), name)),
    ]),
  );
  // Tarjan's strongly connected components.
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const circles: string[][] = [];
  const visit = (path: string): void => {
    index.set(path, index.size);
    low.set(path, index.get(path) ?? 0);
    stack.push(path);
    for (const target of imports.get(path) ?? []) {
      if (!imports.has(target)) continue;
      if (!index.has(target)) visit(target);
      if (stack.includes(target)) low.set(path, Math.min(low.get(path) ?? 0, low.get(target) ?? 0));
    }
    if (low.get(path) !== index.get(path)) return;
    const circle = stack.splice(stack.indexOf(path));
    if (circle.length > 1 || imports.get(path)?.includes(path) === true) circles.push(circle.sort());
  };
  for (const path of imports.keys()) if (!index.has(path)) visit(path);
  return circles;
}

/** Files longer than `limit` lines, as `path: lines`. */
export function findLong(files: readonly SourceFile[], limit: number): readonly string[] {
  return files.flatMap(({ path, text }) => {
    const lines = text.split("\n").length - 1;
    return lines > limit ? [`${path}: ${lines}`] : [];
  });
}

/** Folders with more than `limit` files of their own, as `folder: files`. */
export function findCrowded(files: readonly SourceFile[], limit: number): readonly string[] {
  const counts = new Map<string, number>();
  for (const { path } of files) {
    const folder = posix.dirname(path);
    counts.set(folder, (counts.get(folder) ?? 0) + 1);
  }
  return [...counts].flatMap(([folder, count]) => (count > limit ? [`${folder}: ${count}`] : [])).sort();
}

/** A path from the repository's root, a file by its name, or a folder by its name and a slash. */
const PATH = /^(?:(?:src|test|scripts|docs)\/[\w./-]+|[\w-]+\.(?:ts|json|lock|md)|[\w-]+\/)$/;

/**
 * Paths that a page names between backticks, alone or in a command, and that don't exist. A name without its folder may stand
 * beside, or in, a path that its line named before.
 */
export function findMissingPaths(markdown: string, exists: (path: string) => boolean): readonly string[] {
  return markdown.split("\n").flatMap((line) => {
    const words = [...line.matchAll(/`([^`]+)`/g)].flatMap(([, quoted = ""]) => quoted.split(" "));
    const named = words.filter((word) => PATH.test(word));
    return named.filter((path, i) => {
      const bases = ["", ...named.slice(0, i).flatMap((before) => [before, posix.dirname(before)])];
      return !bases.some((base) => exists(posix.join(base, path)));
    });
  });
}

/**
 * Names of values that a file of src exports and no other file of those given imports, as `path: name`. Whoever imports a file
 * as a whole (`* as`) imports all of it.
 */
export function findUnimported(files: readonly SourceFile[]): readonly string[] {
  const importers = new Map<string, { readonly text: string; readonly isWhole: boolean }[]>();
  for (const { path, text } of files)
    for (const name of listImports(text)) {
      const target = posix.join(posix.dirname(path), name);
      const isWhole = new RegExp(`\\* as \\w+ from "${RegExp.escape(name)}"`).test(text);
      if (target !== path) importers.set(target, [...(importers.get(target) ?? []), { text, isWhole }]);
    }
  return files.flatMap(({ path, text }) => {
    if (!path.startsWith("src/")) return [];
    const exported = [...text.matchAll(/^export (?:async )?(?:const|let|function\*?|class) (\w+)/gm)];
    return exported.flatMap(([, name = ""]) => {
      const word = new RegExp(`\\b${name}\\b`);
      const isUsed = importers.get(path)?.some((importer) => importer.isWhole || word.test(importer.text)) === true;
      return isUsed ? [] : [`${path}: ${name}`];
    });
  });
}

/** Names of values that a file of src exports and that only tests use, as `path: name`. `files` has no test in it. */
export function findOnlyForTests(files: readonly SourceFile[]): readonly string[] {
  const texts = new Map(files.map(({ path, text }) => [path, withoutComments(text)]));
  return findUnimported(files).filter((found) => {
    const [path = "", name = ""] = found.split(": ");
    return texts.get(path)?.match(new RegExp(`\\b${name}\\b`, "g"))?.length === 1;
  });
}

const withoutComments = (text: string): string => text.replaceAll(/\/\*[\s\S]*?\*\/|^ *\/\/.*$/gm, "");

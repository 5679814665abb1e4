/** The shape of the tree: no circle of imports, no file or folder that nobody takes in at once. Pure. */

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

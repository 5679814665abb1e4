/** Both lock files pin what package.json names, and neither names a registry. */

import { expect, test } from "bun:test";
import { join, resolve } from "node:path";

const ROOT = resolve(import.meta.dir, "../../..");

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}
interface NpmLock {
  readonly packages: Readonly<Record<string, Partial<Manifest> & { version?: string; integrity?: string }>>;
}

const text = async (name: string): Promise<string> => await Bun.file(join(ROOT, name)).text();
const manifest = JSON.parse(await text("package.json")) as Manifest;
const npmLock = JSON.parse(await text("package-lock.json")) as NpmLock;
const bunLock = await text("bun.lock");
const wanted = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies });

test.each(wanted)("%s is pinned to %s, in both lock files", (name, version) => {
  expect(version).toMatch(/^\d+\.\d+\.\d+$/);
  expect(npmLock.packages[`node_modules/${name}`]?.version).toBe(version);
  expect(bunLock).toContain(`"${name}": ["${name}@${version}", "", `);
});

test("the lock files were made from this package.json", () => {
  const { dependencies, devDependencies } = manifest;
  expect(npmLock.packages[""]).toMatchObject({ dependencies, devDependencies });
  for (const [name, version] of wanted) expect(bunLock).toContain(`        "${name}": "${version}",\n`);
});

test("every package has a digest, and none the address of a registry", async () => {
  for (const [path, { integrity }] of Object.entries(npmLock.packages))
    if (path !== "") expect({ path, integrity }).toEqual({ path, integrity: expect.stringMatching(/^sha512-/) });
  expect(await text("package-lock.json")).not.toContain('"resolved"');
  expect(bunLock).not.toContain("://");
});

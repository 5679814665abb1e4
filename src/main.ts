/** Picks the role from argv[0] and the first words, and loads that role only. Nothing else happens here. */

import { basename } from "node:path";

const words = process.argv.slice(2);

async function run(): Promise<number> {
  const name = basename(process.argv0);
  if (name === "bangerd-root") return await (await import("./helper/main.ts")).runHelper(words);
  if (name === "bangerd") return await (await import("./daemon/main.ts")).runDaemon(words);
  if (words[0] === "daemon" && words[1] === "run")
    return await (await import("./daemon/main.ts")).runDaemon(words.slice(2));
  if (words[0] === "internal" && words[1] === "guest-connect")
    return (await import("./daemon/guest/ssh/connect.ts")).connectGuest(words.slice(2));
  if (words[0] === "internal" && words[1] === "build-image")
    return await (await import("./daemon/image/build-role.ts")).buildImage(words.slice(2));
  // At once: a read or write that a command left behind must not hold up its end.
  process.exit(await (await import("./cmd/main.ts")).runCli(words));
}

process.exitCode = await run();

/** The helper from the sources, for tests: what `bangerd-root` is in the compiled program. */

import { runHelper } from "../../src/helper/main.ts";

process.exitCode = await runHelper(process.argv.slice(2));

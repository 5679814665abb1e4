/**
 * The helper's first act: looks for variables that make a Bun-compiled program, its loader or its libraries run or
 * trust other code. It only detects them: what they preload has already run. It imports nothing, so that no other
 * helper code has run before it.
 */

const STEERING = /^(?:BUN_|NODE_|LD_|GLIBC_TUNABLES$|GCONV_PATH$|MALLOC_|SSL_CERT_|OPENSSL_|LOCPATH$|NLSPATH$)/;

/**
 * Names the variables and runtime flags that make it unsafe to run this process as root; empty if there are none.
 * `BUN_OPTIONS=--preload x` or `BUN_INSPECT` runs or admits any code in any compiled Bun program. Only systemd, which
 * starts the helper, could set them.
 */
export function findHostile(
  env: Readonly<Record<string, string | undefined>>,
  runtimeFlags: readonly string[],
): readonly string[] {
  return [...Object.keys(env).filter((name) => STEERING.test(name)), ...runtimeFlags];
}

/**
 * The helper's first act (architecture.md, fact 1): variables that make a Bun-compiled program, its loader or its
 * libraries run or trust something else. Imports nothing, so nothing has run before it.
 */

const STEERING = /^(?:BUN_|NODE_|LD_|GLIBC_TUNABLES$|GCONV_PATH$|MALLOC_|SSL_CERT_|OPENSSL_|LOCPATH$|NLSPATH$)/;

/**
 * What makes this process unfit to be root's: names of variables and of runtime flags; empty when it is fit.
 * The attack: `BUN_OPTIONS=--preload x` or `BUN_INSPECT` runs or admits any code inside any compiled Bun program.
 */
export function findHostile(
  env: Readonly<Record<string, string | undefined>>,
  runtimeFlags: readonly string[],
): readonly string[] {
  return [...Object.keys(env).filter((name) => STEERING.test(name)), ...runtimeFlags];
}

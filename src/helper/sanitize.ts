/**
 * The helper's first act (architecture.md, fact 1): looks for variables that make a Bun-compiled program, its loader or its
 * libraries run or trust something else. It reports, and protects from nothing: what they preload ran before it. Imports
 * nothing, so no code of the helper's has.
 */

const STEERING = /^(?:BUN_|NODE_|LD_|GLIBC_TUNABLES$|GCONV_PATH$|MALLOC_|SSL_CERT_|OPENSSL_|LOCPATH$|NLSPATH$)/;

/**
 * What makes this process unfit to be root's: names of variables and of runtime flags; empty when it is fit.
 * `BUN_OPTIONS=--preload x` or `BUN_INSPECT` runs or admits any code inside any compiled Bun program; only who starts the
 * helper could set them, which is systemd.
 */
export function findHostile(
  env: Readonly<Record<string, string | undefined>>,
  runtimeFlags: readonly string[],
): readonly string[] {
  return [...Object.keys(env).filter((name) => STEERING.test(name)), ...runtimeFlags];
}

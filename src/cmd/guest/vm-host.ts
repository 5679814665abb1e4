/** Host names of VMs, as ssh gives them to banger. */

import { checkVmRef } from "../line/args.ts";

/** The VM of `NAME.vm`; names of hosts have no case (RFC 4343). @throws BangerError VM_NOT_FOUND */
export function vmOfHost(host: string): string {
  return checkVmRef(host.toLowerCase().replace(/\.vm$/, ""));
}

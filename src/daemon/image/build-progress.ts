/** What mmdebstrap and the apt and dpkg under it say, as progress. Pure. */

import type { Progress } from "../../shared/contract/owner-api.ts";

/** Turns lines into progress; a line that says nothing new is null. One per build: it counts. */
export function createBuildProgress(): (line: string) => Progress | null {
  // mmdebstrap runs apt several times (essential packages, then the rest): totals add up.
  let packages = 0;
  let fetched = 0;
  let unpacked = 0;
  let configured = 0;
  return (line) => {
    const newly = /^\d+ upgraded, (\d+) newly installed/.exec(line);
    if (newly !== null) {
      packages += Number(newly[1]);
      return null;
    }
    if (/^Get:\d+ .* Packages \[/.test(line) || /^I: running apt-get update/.test(line))
      return { stage: "resolve", message: "Reading the Debian archive's index" };
    if (/^Get:\d+ .*\[[\d.,]+ k?M?B\]/.test(line) && packages > 0) {
      fetched += 1;
      return { stage: "download", message: "Downloading packages", ...counted(fetched, packages) };
    }
    if (/^Unpacking /.test(line)) {
      unpacked += 1;
      return { stage: "unpack", message: "Unpacking packages", ...counted(unpacked, packages) };
    }
    if (/^Setting up /.test(line)) {
      configured += 1;
      return { stage: "configure", message: "Configuring packages", ...counted(configured, packages) };
    }
    if (/^I: running --customize-hook in shell/.test(line))
      return { stage: "filesystem", message: "Writing the root file system" };
    return null;
  };
}

/** apt may announce fewer than it then handles; a count past its total is worse than none. */
function counted(
  done: number,
  total: number,
): { readonly done: number; readonly total: number } | { readonly done: number } {
  return done <= total ? { done, total } : { done };
}

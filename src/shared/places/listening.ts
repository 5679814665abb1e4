/** Checks whether a unix socket is being served. */

import { connect } from "node:net";

/** True if something accepts connections at the path; false if the path is missing or its socket is dead. */
export async function isListening(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/** Whether anybody is behind a unix socket's path. */

import { connect } from "node:net";

/** True when something accepts connections at the path; false when there is no such path or a dead one. */
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

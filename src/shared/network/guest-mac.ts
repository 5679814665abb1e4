/**
 * Makes a locally administered MAC address that ends with the guest's IPv4 address: `06:00:ac:10:00:02` for
 * `172.16.0.2`.
 */
export function macOf(address: string): string {
  const bytes = [0x06, 0x00, ...address.split(".").map(Number)];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

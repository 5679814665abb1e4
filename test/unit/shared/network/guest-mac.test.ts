import { expect, test } from "bun:test";
import { macOf } from "../../../../src/shared/network/guest-mac.ts";

test("a guest's MAC address is locally administered, for one station, and holds its address", () => {
  expect(macOf("172.16.0.2")).toBe("06:00:ac:10:00:02");
  expect(macOf("10.255.1.254")).toBe("06:00:0a:ff:01:fe");
});

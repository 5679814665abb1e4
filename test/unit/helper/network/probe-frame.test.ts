import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Datagram, encodeDatagram, internetChecksum } from "../../../../src/helper/network/probe-frame.ts";

const datagram: Datagram = {
  sourceMac: "06:00:ac:10:00:fe",
  targetMac: "be:ef:00:00:00:01",
  sourceIp: "172.16.0.254",
  targetIp: "192.0.2.1",
  sourcePort: 50_000,
  targetPort: 9,
};

test("the checksum of RFC 1071's own example, of odd lengths, and of nothing", () => {
  expect(internetChecksum(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7))).toBe(0x220d);
  expect(internetChecksum(Uint8Array.of(0x12))).toBe(0xedff);
  expect(internetChecksum(new Uint8Array(0))).toBe(0xffff);
});

describe("the frame", () => {
  test("is Ethernet, IPv4 and UDP, byte by byte", () => {
    const frame = encodeDatagram(datagram);
    const payload = "banger doctor: does NAT work here?";
    const hex = Buffer.from(frame).toString("hex");
    expect(hex.slice(0, 28)).toBe(["beef00000001", "0600ac1000fe", "0800"].join(""));
    // Version and header length, type of service, length, id, fragment, TTL 2, UDP, checksum, source, target.
    expect(hex.slice(28, 68)).toBe(["4500003e", "00000000", "0211", "49a0", "ac1000fe", "c0000201"].join(""));
    expect(hex.slice(68, 80)).toBe(["c350", "0009", "002a"].join(""));
    expect(new TextDecoder().decode(frame.subarray(42))).toBe(payload);
    expect(frame.length).toBe(42 + payload.length);
    // A shorter frame would need padding.
    expect(frame.length).toBeGreaterThanOrEqual(60);
  });

  test("has checksums that come out right for every address and port", () => {
    const port = fc.integer({ min: 1, max: 65_535 });
    fc.assert(
      fc.property(fc.ipV4(), fc.ipV4(), port, port, (sourceIp, targetIp, sourcePort, targetPort) => {
        const frame = encodeDatagram({ ...datagram, sourceIp, targetIp, sourcePort, targetPort });
        expect(internetChecksum(frame.subarray(14, 34))).toBe(0);
        const pseudo = Uint8Array.of(...frame.subarray(26, 34), 0, 17, ...frame.subarray(38, 40));
        expect(internetChecksum(Buffer.concat([pseudo, frame.subarray(34)]))).toBe(0);
        expect(frame.subarray(40, 42)).not.toEqual(Uint8Array.of(0, 0));
      }),
    );
  });

  test.each([{ sourceIp: "1.2.3" }, { targetIp: "" }, { sourceMac: "06:00" }, { targetMac: "xx:00:00:00:00:00" }])(
    "is not made of %j",
    (wrong) => expect(() => encodeDatagram({ ...datagram, ...wrong })).toThrow("is not a"),
  );
});

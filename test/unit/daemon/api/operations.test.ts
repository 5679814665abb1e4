import { expect, test } from "bun:test";
import { newOperationId, Operations } from "../../../../src/daemon/api/operations.ts";
import type { StreamEvent } from "../../../../src/shared/contract/owner-api.ts";
import { BangerError } from "../../../../src/shared/errors.ts";
import { keepLog } from "../../../support/log.ts";

/** Watches to the end and returns what came. */
async function collect(operations: Operations, id: string): Promise<StreamEvent[]> {
  const events: StreamEvent[] = [];
  await new Promise<void>((resolve) => {
    operations.watch(id, (event) => {
      events.push(event);
      if (event.event === "result" || event.event === "error") resolve();
    });
  });
  return events;
}

test("watchers get progress and the end, whether they come early or late", async () => {
  const operations = new Operations(keepLog());
  const id = newOperationId();
  operations.begin("vm.create", id, async ({ progress }) => {
    progress({ stage: "disk", message: "making the disks" });
    await Bun.sleep(5);
    return 42;
  });
  const expected: StreamEvent[] = [
    { event: "operation", id },
    { event: "progress", stage: "disk", message: "making the disks" },
    { event: "result", result: 42 },
  ];
  expect(await collect(operations, id)).toEqual(expected);
  expect(await collect(operations, id)).toEqual(expected);
  expect(operations.list()).toMatchObject([{ id, method: "vm.create", state: "done", stage: "making the disks" }]);
});

test("a log is told byte for byte, as text where it is text", async () => {
  const operations = new Operations(keepLog());
  const id = newOperationId();
  const watching = Promise.withResolvers<void>();
  operations.begin("vm.logs", id, async ({ data }) => {
    await watching.promise;
    data(Buffer.from("Gr\u00fc\u00dfe\r\n"));
    data(Buffer.from([0x41, 0xff]));
  });
  const collected = collect(operations, id);
  watching.resolve();
  expect((await collected).filter(({ event }) => event === "data")).toEqual([
    { event: "data", data: "Gr\u00fc\u00dfe\r\n" },
    { event: "data", data: "A\ufffd", base64: "Qf8=" },
  ]);
});

test("the backlog is bounded and keeps the operation's own event", async () => {
  const operations = new Operations(keepLog());
  const id = newOperationId();
  operations.begin("image.build", id, async ({ progress }) => {
    for (let done = 0; done < 1000; done++) progress({ stage: "unpack", message: "x", done });
  });
  const events = await collect(operations, id);
  expect(events.length).toBeLessThanOrEqual(202);
  expect(events[0]).toEqual({ event: "operation", id });
  expect(events.at(-2)).toMatchObject({ done: 999 });
});

test("a cancelled operation ends as cancelled, and drain waits for its undo", async () => {
  const operations = new Operations(keepLog());
  const id = newOperationId();
  let undone = false;
  operations.begin("vm.create", id, async ({ signal }) => {
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    await Bun.sleep(20);
    undone = true;
    signal.throwIfAborted();
  });
  await operations.drain(5000);
  expect(undone).toBe(true);
  expect(operations.list()).toMatchObject([{ state: "cancelled" }]);
});

test("a failure carries the operation's id; a bug is logged with its stack", async () => {
  const log = keepLog();
  const operations = new Operations(log);
  const [known, bug] = [newOperationId(), newOperationId()];
  operations.begin("vm.start", known, async () => await Promise.reject(new BangerError("WRONG_STATE", "it runs")));
  operations.begin("vm.start", bug, async () => await Promise.reject(new TypeError("oops")));
  expect((await collect(operations, known)).at(-1)).toMatchObject({
    event: "error",
    error: { code: "WRONG_STATE", op: known },
  });
  expect((await collect(operations, bug)).at(-1)).toMatchObject({
    event: "error",
    error: { code: "INTERNAL", op: bug },
  });
  expect(log.lines.filter(({ level }) => level === "error").map(({ fields }) => fields["op"])).toEqual([bug]);
});

test("an unknown operation is named", () => {
  const operations = new Operations(keepLog());
  expect(() => operations.cancel("op-000000000000")).toThrow("there is no operation op-000000000000");
});

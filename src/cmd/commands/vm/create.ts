import { defineCommand } from "../../line/command.ts";
import { CREATE_ARGS, createVm, readCreate } from "../../vm/create.ts";

export const command = defineCommand({
  args: {
    ...CREATE_ARGS,
    start: {
      type: "boolean",
      default: true,
      description: "Starts the VM.",
      negativeDescription: "Leaves the VM stopped.",
    },
  },
  json: true,
  examples: [
    ["banger vm create --name box", "creates box and starts it"],
    ["banger vm create --name box --no-start", "creates box without starting it"],
  ],
  next: "banger vm start NAME, banger exec NAME -- CMD",
  run: async (invocation) => {
    const { args, json, out } = invocation;
    const vm = await createVm(invocation, readCreate(args, args.start));
    if (json) out.json(vm);
    else out.line(vm.name);
  },
});

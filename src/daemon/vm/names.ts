/** Two-word names for VMs that got none. */

const FIRST = [
  "amber",
  "brave",
  "calm",
  "coral",
  "dapper",
  "eager",
  "fresh",
  "gentle",
  "happy",
  "ivory",
  "jolly",
  "keen",
  "lucky",
  "mellow",
  "nimble",
  "olive",
  "proud",
  "quick",
  "rapid",
  "sunny",
  "tidy",
  "vivid",
  "warm",
  "witty",
];
const SECOND = [
  "badger",
  "beaver",
  "crane",
  "dingo",
  "falcon",
  "ferret",
  "gecko",
  "heron",
  "ibis",
  "jackal",
  "koala",
  "lemur",
  "marmot",
  "newt",
  "otter",
  "panda",
  "quail",
  "raven",
  "seal",
  "tapir",
  "urchin",
  "vole",
  "walrus",
  "yak",
];

function pick(words: readonly string[]): string {
  const [random = 0] = crypto.getRandomValues(new Uint32Array(1));
  return words[random % words.length] ?? "vm";
}

/** A name that `isTaken` says is free. */
export function generateName(isTaken: (name: string) => boolean): string {
  for (let attempt = 0; attempt < 50; attempt++) {
    const name = `${pick(FIRST)}-${pick(SECOND)}`;
    if (!isTaken(name)) return name;
  }
  return `${pick(FIRST)}-${pick(SECOND)}-${crypto.randomUUID().slice(0, 8)}`;
}

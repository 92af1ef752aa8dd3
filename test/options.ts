// What `test/run.ts` is called with, for the tests that can be longer or shorter.
export interface Options {
  /** Parts of file names; all files when empty. */
  readonly filters: readonly string[];
  /** Just these files: what a run in parts tells each of its processes. */
  readonly files: readonly string[] | undefined;
  /** Also the long tests, test/full. */
  readonly full: boolean;
  /** How many random graphs a run compares, instead of its own number. */
  readonly count: number | undefined;
  /** The seed of the first graph, to see one again. */
  readonly seed: number | undefined;
  /** Ends the fuzz early; the summary says after how many graphs. */
  readonly seconds: number | undefined;
}

const NUMBERS = ["count", "seed", "seconds"] as const;

function parse(args: readonly string[]): Options {
  const filters: string[] = [];
  const numbers: Partial<Record<(typeof NUMBERS)[number], number>> = {};
  let full = false;
  let files: readonly string[] | undefined;
  for (let i = 0; i < args.length; i++) {
    const [name, inline] = (args[i] ?? "").split("=", 2) as [string, string?];
    const option = NUMBERS.find((known) => name === `--${known}`);
    if (name === "--full") full = true;
    else if (name === "--files") files = (inline ?? args[++i] ?? "").split(",");
    else if (option) numbers[option] = numberOf(name, inline ?? args[++i]);
    else if (name.startsWith("--")) {
      throw new Error(`test/run.ts: unknown option ${name}; there are --full, --count, --seed and --seconds`);
    } else filters.push(name);
  }
  const { count, seed, seconds } = numbers;
  return { filters, files, full, count, seed, seconds };
}

function numberOf(name: string, text: string | undefined): number {
  const value = Number(text);
  if (text === undefined || !Number.isInteger(value) || value < 0)
    throw new Error(`test/run.ts: ${name} is ${text ?? "nothing"}, expected a whole number`);
  return value;
}

export const options = parse(process.argv.slice(2));

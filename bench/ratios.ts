// What methods cost beside full fine-tuning, and mixtures beside plain methods: steps measured in turn, their ratios
// with an interval, and what each takes beside its time.
//
//     node --import tsx bench/ratios.ts                 both models; writes bench/results/ratios-<adapter>.json
//     ... --filter roberta                              one of them; writes nothing
//     ... --rounds 10 --seconds 0.5                     rounds, and seconds of samples for each step in each
//     ... --layers 12 --channels 768                    default 2 layers on software adapters, 12 on GPUs
//
// ADAMIX_DEVICE chooses the device. See bench/README.md.
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { type Gpu, openGpu } from "../src/index.ts";
import { adamixAdapter, adamixLora, adapter, lora, type PeftMethod } from "../src/peft/index.ts";
import { type Contender, interleave, type Ratio, type Rounds, ratio } from "./interleave.ts";
import { circumstances, rounded, writeResults } from "./record.ts";
import { median, spread } from "./statistics.ts";
import { measureFigures, type StepFigures } from "./step-figures.ts";
import { gpt2, type MakeSubject, roberta, type Sizes } from "./subjects.ts";
import { type Passes, prepareInference, prepareTraining } from "./training.ts";

const { values } = parseArgs({
  options: {
    filter: { type: "string", default: "" },
    rounds: { type: "string", default: "10" },
    seconds: { type: "string", default: "0.5" },
    layers: { type: "string" },
    channels: { type: "string", default: "768" },
  },
});

/** A step or a forward pass that is measured. */
interface Entry {
  readonly name: string;
  prepare(): { run(): void; dispose(): void };
}

/** One entry's time (or peak) over another's, and what it should be at most. */
interface Comparison {
  readonly name: string;
  readonly of: string;
  readonly over: string;
  readonly goal: number | null;
  readonly peakGoal?: number;
}

interface Measured {
  readonly name: string;
  readonly figures: StepFigures;
  readonly rounds: Rounds;
}

/** The vocabulary is cut as the layers are: the share of embeddings stays that of the whole model. */
function sizesOf(layers: number, channels: number, vocabulary: number): Sizes {
  const cut = Math.round((vocabulary * layers) / 12);
  return { layers, channels, heads: channels / 64, vocabulary: cut, batch: 4, tokens: 128 };
}

/** What is measured of one model. */
interface Model {
  readonly name: string;
  readonly make: MakeSubject;
  readonly vocabulary: number;
  /** The method that mixtures and inference are of. */
  readonly plain: "adapter" | "lora";
  /** Where adapters go. */
  readonly targets: readonly string[];
}

const MODELS: readonly Model[] = [
  { name: "roberta", make: roberta, vocabulary: 50_265, plain: "adapter", targets: ["layer.*.output"] },
  { name: "gpt2", make: gpt2, vocabulary: 50_257, plain: "lora", targets: ["h.*.mlp.output"] },
];

function entries(gpu: Gpu, { make, plain, targets }: Model, sizes: Sizes): Entry[] {
  const methods = { adapter: adapter({ bottleneck: 16, targets }), lora: lora({ rank: 8 }) };
  const mixtures = { adapter: adamixAdapter({ bottleneck: 16, targets }), lora: adamixLora({ rank: 8 }) };
  const onSubject = (
    name: string,
    prepare: (subject: ReturnType<MakeSubject>) => ReturnType<Entry["prepare"]>,
  ): Entry => ({
    name,
    prepare() {
      const subject = make(gpu, sizes);
      const { run, dispose } = prepare(subject);
      return {
        run,
        dispose() {
          dispose();
          subject.dispose();
        },
      };
    },
  });
  const training = (name: string, method: PeftMethod | null, passes: Passes = "one"): Entry =>
    onSubject(name, (subject) => prepareTraining(gpu, subject, { method, passes }));
  return [
    training("full fine-tuning", null),
    training("lora", methods.lora),
    training("adapter", methods.adapter),
    training("adamix, one pass", mixtures[plain]),
    training("adamix, two passes in one batch", mixtures[plain], "two in one batch"),
    training("adamix, two passes after one another", mixtures[plain], "two after one another"),
    onSubject("inference, plain", (subject) =>
      prepareInference(gpu, subject, methods[plain], { isMerged: false }),
    ),
    onSubject("inference, merged adamix", (subject) =>
      prepareInference(gpu, subject, mixtures[plain], { isMerged: true }),
    ),
  ];
}

function comparisons({ plain }: Model): Comparison[] {
  const beside = (of: string, goal: number | null): Comparison => ({
    name: `${of} / ${plain}`,
    of,
    over: plain,
    goal,
  });
  const full = (of: string): Comparison => ({
    name: `${of} / full`,
    of,
    over: "full fine-tuning",
    goal: 0.75,
    peakGoal: 0.6,
  });
  return [
    full("lora"),
    full("adapter"),
    beside("adamix, one pass", 1.03),
    beside("adamix, two passes in one batch", 2.05),
    beside("adamix, two passes after one another", 2.05),
    {
      name: "inference, merged adamix / plain",
      of: "inference, merged adamix",
      over: "inference, plain",
      goal: null,
    },
  ];
}

await main();

async function main(): Promise<void> {
  const before = circumstances(); // the load of others, before ours
  const gpu = await openGpu();
  const { traits } = gpu.device;
  const layers = number("layers", traits.kind === "software" ? 2 : 12);
  const channels = number("channels");
  if (channels % 64 !== 0)
    throw new RangeError(`ratios: --channels is ${channels}, expected a multiple of 64`);
  const options = { rounds: number("rounds"), seconds: number("seconds") };
  const chosen = MODELS.filter(({ name }) => name.includes(values.filter));
  if (chosen.length === 0)
    throw new RangeError(`ratios: no model holds "${values.filter}"; there are roberta, gpt2`);
  const results: object[] = [];
  for (const model of chosen) {
    const { name } = model;
    const sizes = sizesOf(layers, channels, model.vocabulary);
    console.log(
      `${name}: ${layers} layers of ${channels}, ${sizes.batch} x ${sizes.tokens} tokens, on ${traits.name}`,
    );
    const measured = await measureAll(gpu, entries(gpu, model, sizes), options);
    const compared = comparisons(model).map((comparison) => compare(comparison, measured));
    console.log(tableOfSteps(measured));
    console.log(tableOfRatios(compared));
    results.push({
      model: name,
      sizes,
      steps: measured.map(stepToWrite),
      ratios: compared.map(ratioToWrite),
    });
  }
  if (values.filter === "") {
    const record = { adapter: traits.name, ...before, ...options, results };
    console.log(`written to ${writeResults(`ratios-${traits.name}`, record)}`);
  }
  await gpu.device.close();
}

function number(name: "rounds" | "seconds" | "layers" | "channels", otherwise = Number.NaN): number {
  const given = values[name];
  const value = given === undefined ? otherwise : Number(given);
  const fits = name === "seconds" ? value > 0 : Number.isInteger(value) && value >= 1;
  if (!fits) throw new RangeError(`ratios: --${name} is ${given}, expected 1 or more`);
  return value;
}

/** Looks at each by itself, then measures all in turn. */
async function measureAll(
  gpu: Gpu,
  all: readonly Entry[],
  options: { readonly rounds: number; readonly seconds: number },
): Promise<Measured[]> {
  const ready: { contender: Contender; figures: StepFigures; dispose(): void }[] = [];
  try {
    for (const { name, prepare } of all) {
      onTurn(`${name} prepares`);
      const { step, figures } = await measureFigures(gpu, prepare);
      ready.push({ contender: { name, run: step.run }, figures, dispose: step.dispose });
    }
    const contenders = ready.map(({ contender }) => contender);
    const rounds = await interleave(gpu, contenders, { ...options, onTurn });
    onTurn("");
    return ready.map(({ contender: { name }, figures }, i) => ({
      name,
      figures,
      rounds: rounds[i] as Rounds,
    }));
  } finally {
    for (const { dispose } of ready) dispose();
    gpu.device.trim();
  }
}

function onTurn(what: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${what}`);
}

interface Compared extends Comparison {
  readonly time: Ratio;
  readonly peak: number;
}

function compare(comparison: Comparison, measured: readonly Measured[]): Compared {
  const [of, over] = [comparison.of, comparison.over].map((name) =>
    measured.find((one) => one.name === name),
  ) as [Measured, Measured]; // comparisons name entries
  return {
    ...comparison,
    time: ratio(of.rounds, over.rounds),
    peak: of.figures.peakBytes / over.figures.peakBytes,
  };
}

function tableOfSteps(measured: readonly Measured[]): string {
  const table = new Table({
    head: [
      "",
      "median",
      "± median",
      "peak MiB",
      "dispatches",
      "submits",
      "created",
      "host µs/dispatch",
      "device idle",
    ],
    colAligns: ["left", "right", "right", "right", "right", "right", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  for (const one of measured) {
    const {
      peakBytes,
      dispatches,
      submits,
      created,
      hostMicrosecondsPerDispatch,
      idleShare: idle,
    } = one.figures;
    table.push([
      one.name,
      `${median(one.rounds).toFixed(2)} ms`,
      `${(100 * spread(one.rounds)).toFixed(1)}%`,
      (peakBytes / 2 ** 20).toFixed(1),
      dispatches,
      submits,
      created,
      hostMicrosecondsPerDispatch.toFixed(2),
      Number.isNaN(idle) ? "no timestamps" : `${(100 * idle).toFixed(1)}%`,
    ]);
  }
  return table.toString();
}

function tableOfRatios(compared: readonly Compared[]): string {
  const table = new Table({
    head: ["ratio", "time", "95%", "goal", "peak", "goal"],
    colAligns: ["left", "right", "right", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  for (const { name, time, peak, goal, peakGoal } of compared) {
    const [low, high] = time.interval;
    table.push([
      name,
      time.value.toFixed(3),
      `${low.toFixed(3)}..${high.toFixed(3)}`,
      goal === null ? "" : `<= ${goal}`,
      peak.toFixed(3),
      peakGoal === undefined ? "" : `<= ${peakGoal}`,
    ]);
  }
  return table.toString();
}

function stepToWrite({ name, figures, rounds }: Measured): object {
  const { hostMicrosecondsPerDispatch, idleShare, ...counts } = figures;
  return {
    name,
    medianMs: rounded(median(rounds)),
    spread: rounded(spread(rounds)),
    ...counts,
    hostMicrosecondsPerDispatch: rounded(hostMicrosecondsPerDispatch),
    idleShare: rounded(idleShare),
  };
}

function ratioToWrite({ name, time, peak }: Compared): object {
  return { name, time: rounded(time.value), interval: time.interval.map(rounded), peak: rounded(peak) };
}

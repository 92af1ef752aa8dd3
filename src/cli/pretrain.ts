import { pretrainingLines } from "../data/index.ts";
import { absolutePath, exists, joinPath, writeFolderAtomic } from "../platform/index.ts";
import {
  DEMO_PRETRAINING,
  DEMO_RECIPE,
  type EncoderRecipe,
  type PretrainReport,
  pretrainEncoder,
} from "../train/index.ts";
import { UsageError } from "./failure.ts";
import { probePolarity } from "./polarity.ts";
import { createProgress } from "./progress.ts";
import { digits, duration, grouped, print, table } from "./report.ts";
import { describeDevice, withGpu } from "./session.ts";
import { readTextFile } from "./text-files.ts";

/** The recipe for texts of one's own: about 10 minutes on two cores for short lines. */
export const FILE_RECIPE: EncoderRecipe = {
  ...DEMO_RECIPE,
  // The start of the embeddings takes time with the cube of the vocabulary: 8 s for 2048, a minute for 4096.
  vocabSize: 2048,
  hiddenSize: 128,
  intermediateSize: 512,
  steps: 3000,
  lr: 1e-3,
  lastSentenceRate: null,
};

export interface PretrainCommand {
  /** `demo`, or files. */
  readonly sources: readonly string[];
  readonly out: string;
  /** Column of tab-separated files: a name of the header line, or an index where there is none. */
  readonly column?: string | undefined;
  readonly recipe: Partial<EncoderRecipe>;
  readonly force: boolean;
  readonly device?: string | undefined;
}

/** Trains a tokenizer and an encoder on texts, and writes them as a folder that `train` takes as its model. */
export async function pretrain(command: PretrainCommand): Promise<void> {
  const out = absolutePath(command.out);
  if (exists(joinPath(out, "config.json")) && !command.force) {
    throw new UsageError(`pretrain: ${out} already holds a model; name another with --out, or add --force`);
  }
  const isDemo = command.sources[0] === "demo";
  const recipe: EncoderRecipe = { ...(isDemo ? DEMO_RECIPE : FILE_RECIPE), ...command.recipe };
  checkRecipe(recipe);
  const { lines, held } = isDemo ? demoLines(command) : await ownLines(command);
  await withGpu(command.device, async (gpu) => {
    print(`adamix pretrain on ${describeDevice(gpu)}`);
    print(
      `${grouped(lines.length)} lines, ${grouped(held.length)} held out; ${recipe.layers} layers of ${recipe.hiddenSize} channels, vocabulary ${recipe.vocabSize}, ${recipe.steps} steps of ${recipe.batchSize} lines`,
    );
    print("training the tokenizer and starting the embeddings ...");
    const progress = createProgress(recipe.steps);
    const { files, loss, accuracy } = await pretrainEncoder(gpu, recipe, lines, held, (report) =>
      progress.update(report.step, remaining(report), () => describe(report)),
    ).finally(() => progress.stop());
    writeFolderAtomic(out, files);
    print(`held out: loss ${digits(loss)}, ${(100 * accuracy).toFixed(1)}% of masked tokens found`);
    if (isDemo) print(await probeTable(gpu, files));
    print(`written to ${out}`);
  });
}

function checkRecipe(recipe: EncoderRecipe): void {
  const whole = [
    "vocabSize",
    "hiddenSize",
    "layers",
    "heads",
    "intermediateSize",
    "maxLength",
    "steps",
  ] as const;
  for (const name of [...whole, "batchSize"] as const) {
    if (!(Number.isInteger(recipe[name]) && recipe[name] >= 1))
      throw new UsageError(`pretrain: ${name} is ${recipe[name]}, expected a whole number of 1 or more`);
  }
  if (!(recipe.lr > 0)) throw new UsageError(`pretrain: lr is ${recipe.lr}, expected more than 0`);
  if (recipe.hiddenSize % recipe.heads !== 0)
    throw new UsageError(`pretrain: ${recipe.hiddenSize} channels do not split into ${recipe.heads} heads`);
  if (recipe.warmupSteps > recipe.steps)
    throw new UsageError(`pretrain: ${recipe.warmupSteps} warm-up steps of ${recipe.steps} steps in all`);
}

interface Texts {
  readonly lines: readonly string[];
  readonly held: readonly string[];
}

function demoLines({ sources, column }: PretrainCommand): Texts {
  if (sources.length > 1 || column !== undefined)
    throw new UsageError('pretrain: "demo" makes its own text: give no files and no --column with it');
  const { lines, seed } = DEMO_PRETRAINING;
  return {
    lines: pretrainingLines(lines, { seed }),
    held: pretrainingLines(1000, { seed: 13, split: "test" }),
  };
}

/** All lines of all files; the last 1% is held out. */
async function ownLines({ sources, column }: PretrainCommand): Promise<Texts> {
  const all: string[] = [];
  for (const path of sources) {
    const text = await readTextFile(path);
    const lines = column === undefined ? text.split(/\r?\n/) : columnOf(text, column, path);
    for (const line of lines) if (line.trim() !== "") all.push(line.trim());
  }
  const nHeld = Math.max(1, Math.ceil(all.length / 100));
  if (all.length <= nHeld)
    throw new Error(`pretrain: ${all.length} lines in ${sources.join(", ")}, expected more`);
  return { lines: all.slice(0, -nHeld), held: all.slice(-nHeld) };
}

/** One column of tab-separated lines; labels and other columns are not looked at. */
function columnOf(text: string, column: string, file: string): string[] {
  const rows = text.split(/\r?\n/).map((line) => line.split("\t"));
  const isIndex = /^\d+$/.test(column);
  const index = isIndex ? Number(column) : (rows[0] ?? []).indexOf(column);
  if (index < 0)
    throw new Error(`${file}: there is no column "${column}"; the columns are ${rows[0]?.join(", ")}`);
  return rows.slice(isIndex ? 0 : 1).map((row) => row[index] ?? "");
}

function remaining({ step, steps, elapsedMs }: PretrainReport): number {
  return (elapsedMs / step) * (steps - step);
}

function describe({ loss, tokens, elapsedMs }: PretrainReport): string {
  return `loss ${loss.toFixed(4)}  ${grouped(Math.round((tokens * 1000) / elapsedMs))} tokens/s  ${duration(elapsedMs)}`;
}

async function probeTable(
  gpu: Parameters<typeof probePolarity>[0],
  files: ReadonlyMap<string, Uint8Array | string>,
): Promise<string> {
  const groups = await probePolarity(gpu, files);
  const rows = groups.map(({ name, n, hits }) => [name, String(n), `${((100 * hits) / n).toFixed(1)}%`]);
  return table(["opinions of unseen combinations", "n", "polarity felt"], rows);
}

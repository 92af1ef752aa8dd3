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
import { pretrainCausal } from "./pretrain-causal.ts";
import type { PretrainCommand } from "./pretrain-flags.ts";
import { readLines } from "./pretrain-texts.ts";
import { createProgress } from "./progress.ts";
import { digits, duration, grouped, print, table } from "./report.ts";
import { describeDevice, withGpu } from "./session.ts";

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

/** Trains a tokenizer and a model on texts, and writes them as a folder. */
export async function pretrain(command: PretrainCommand): Promise<void> {
  const out = absolutePath(command.out);
  if (exists(joinPath(out, "config.json")) && !command.force && !command.resume) {
    throw new UsageError(`pretrain: ${out} already holds a model; name another with --out, or add --force`);
  }
  return command.objective === "causal" ? pretrainCausal(command) : pretrainMasked(command, out);
}

/** Trains a tokenizer and an encoder on texts, and writes them as a folder that `train` takes as its model. */
async function pretrainMasked(command: PretrainCommand, out: string): Promise<void> {
  const isDemo = command.sources[0] === "demo";
  const recipe = recipeFor(isDemo ? DEMO_RECIPE : FILE_RECIPE, command.recipe);
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
      progress.update(report.step, report.remainingMs, () => describe(report)),
    ).finally(() => progress.stop());
    writeFolderAtomic(out, files);
    print(`held out: loss ${digits(loss)}, ${(100 * accuracy).toFixed(1)}% of masked tokens found`);
    if (isDemo) print(await probeTable(gpu, files));
    print(`written to ${out}`);
  });
}

/** A recipe with what was given in it. Fewer steps than its warm-up has take a tenth of them to warm up. */
function recipeFor(base: EncoderRecipe, given: Partial<EncoderRecipe>): EncoderRecipe {
  const { steps = base.steps } = given;
  const warmupSteps = base.warmupSteps > steps ? Math.floor(steps / 10) : base.warmupSteps;
  return { ...base, warmupSteps, ...given };
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
    throw new UsageError(`pretrain: --warmup is ${recipe.warmupSteps}, of ${recipe.steps} steps in all`);
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
async function ownLines(command: PretrainCommand): Promise<Texts> {
  const all = await readLines(command);
  const nHeld = Math.max(1, Math.ceil(all.length / 100));
  if (all.length <= nHeld)
    throw new Error(`pretrain: ${all.length} lines in ${command.sources.join(", ")}, expected more`);
  return { lines: all.slice(0, -nHeld), held: all.slice(-nHeld) };
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

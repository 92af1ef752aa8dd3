import { holdOut } from "../data/index.ts";
import { absolutePath, exists, joinPath, readBytes, writeFolderAtomic } from "../platform/index.ts";
import {
  CHECKPOINT_FILES,
  checkKernelOptions,
  type DecoderRecipe,
  type DecoderTexts,
  type DecoderTraining,
  decoderRecipe,
  type HeldOutScores,
  KERNELS_FILE,
  type KernelRecord,
  type PretrainReport,
  pretrainDecoder,
} from "../train/index.ts";
import { UsageError } from "./failure.ts";
import { describeKernels, kernelsFile, readKernels } from "./kernels.ts";
import type { PretrainCommand } from "./pretrain-flags.ts";
import { readTexts } from "./pretrain-texts.ts";
import { createProgress } from "./progress.ts";
import { digits, duration, grouped, print } from "./report.ts";
import { describeDevice, withGpu } from "./session.ts";

/** Characters that are not trained on. */
const HELD_SHARE = 0.02;

/** Trains a tokenizer and a decoder on texts, and writes them as a folder that `generate` takes as its model. */
export async function pretrainCausal(command: PretrainCommand): Promise<void> {
  const { resume, evaluateEvery, saveEvery } = command;
  const out = absolutePath(command.out);
  const from = resume ? readCheckpoint(out) : undefined;
  const recipe = from ? recipeOf(from, out) : decoderRecipe(command.recipe);
  checkRecipe(recipe);
  const texts = await splitTexts(command);
  const kernels = command.kernels === undefined ? null : readKernels(kernelsFile(command.kernels));
  await withGpu(command.device, async (gpu) => {
    if (kernels) checkKernelOptions("pretrain", gpu, { kernels });
    print(`adamix pretrain on ${describeDevice(gpu)}`);
    print(describeRecipe(recipe, texts));
    print(from ? "reading the training so far ..." : "training the tokenizer ...");
    const progress = createProgress(recipe.steps);
    const tune = {
      onTuned: (record: KernelRecord): void => progress.note(`tuned: ${describeKernels(record)}`),
    };
    const { files, ...scores } = await pretrainDecoder(gpu, recipe, texts, {
      from,
      ...(command.tune && { tune }),
      ...(kernels && { kernels }),
      reportEvery: Math.min(10, recipe.steps),
      onStart: ({ parameters, tokens }) =>
        progress.note(`${grouped(parameters)} parameters, ${grouped(tokens)} tokens to train on`),
      onReport: (report) => progress.update(report.step, report.remainingMs, () => describe(report)),
      ...(evaluateEvery !== undefined && {
        evaluate: {
          everySteps: evaluateEvery,
          onScores: (step, held) => progress.note(`step ${step}/${recipe.steps}  ${scoreLine(held)}`),
        },
      }),
      ...(saveEvery !== undefined && {
        checkpoint: { everySteps: saveEvery, save: (made) => writeFolderAtomic(out, made) },
      }),
    }).finally(() => progress.stop());
    writeFolderAtomic(out, files);
    print(scoreLine(scores));
    print(`written to ${out}`);
  });
}

function scoreLine({ loss, bitsPerByte }: HeldOutScores): string {
  return `held out: loss ${digits(loss)}  perplexity ${Math.exp(loss).toFixed(2)}  bits per byte ${bitsPerByte.toFixed(4)}`;
}

async function splitTexts(command: PretrainCommand): Promise<DecoderTexts> {
  if (command.sources[0] === "demo")
    throw new UsageError('pretrain: "demo" is the text of --objective masked; give files for causal');
  const all = await readTexts(command, command.split);
  if (all.length === 0) throw new Error(`pretrain: no text in ${command.sources.join(", ")}`);
  return holdOut(all, HELD_SHARE);
}

function readCheckpoint(folder: string): Map<string, Uint8Array> {
  const absent = CHECKPOINT_FILES.filter((name) => !exists(joinPath(folder, name)));
  if (absent.length > 0)
    throw new UsageError(
      `pretrain: --resume: ${folder} has no ${absent.join(", ")}: ${absent.length === 1 ? "its training has finished, or was not saved" : "no training was saved there"} (--save-every)`,
    );
  const tuned = exists(joinPath(folder, KERNELS_FILE)) ? [KERNELS_FILE] : [];
  return new Map([...CHECKPOINT_FILES, ...tuned].map((name) => [name, readBytes(joinPath(folder, name))]));
}

function recipeOf(files: ReadonlyMap<string, Uint8Array>, folder: string): DecoderRecipe {
  try {
    const training = JSON.parse(new TextDecoder().decode(files.get("training.json"))) as DecoderTraining;
    return decoderRecipe(training.recipe);
  } catch (cause) {
    throw new Error(`${joinPath(folder, "training.json")}: ${(cause as Error).message}`, { cause });
  }
}

const BYTES = 256;

function checkRecipe(recipe: DecoderRecipe): void {
  const wrong = (problem: string): never => {
    throw new UsageError(`pretrain: ${problem}`);
  };
  const { heads, keyValueHeads, hiddenSize, vocabSize, steps, warmupSteps } = recipe;
  if (!(recipe.lr > 0)) wrong(`--lr is ${recipe.lr}, expected more than 0`);
  if (!(recipe.weightDecay >= 0)) wrong(`--weight-decay is ${recipe.weightDecay}, expected 0 or more`);
  if (!(recipe.dropout >= 0 && recipe.dropout < 1))
    wrong(`--dropout is ${recipe.dropout}, expected a share p, 0 <= p < 1`);
  if (vocabSize <= BYTES)
    wrong(
      `--vocab is ${vocabSize}, expected at least ${BYTES + 1}: the bytes and the token that ends a text`,
    );
  if (hiddenSize % heads !== 0) wrong(`${hiddenSize} channels do not split into ${heads} heads`);
  if (warmupSteps > steps) wrong(`--warmup is ${warmupSteps}, of ${steps} steps in all`);
  if (recipe.architecture === "gpt2" && keyValueHeads !== heads)
    wrong(`--kv-heads ${keyValueHeads} is for --architecture llama; gpt2 has as many as --heads, ${heads}`);
  if (heads % keyValueHeads !== 0) wrong(`${heads} heads do not share ${keyValueHeads} of keys and values`);
  if (recipe.architecture === "llama" && (hiddenSize / heads) % 2 !== 0)
    wrong(`heads of ${hiddenSize / heads} channels; llama turns pairs, so --hidden / --heads must be even`);
}

function describeRecipe(recipe: DecoderRecipe, { train, held }: DecoderTexts): string {
  const characters = (texts: readonly string[]): string =>
    grouped(texts.reduce((n, text) => n + text.length, 0));
  const rows = recipe.batchSize * recipe.accumulate;
  return `${recipe.architecture}: ${recipe.layers} layers of ${recipe.hiddenSize} channels, vocabulary ${recipe.vocabSize}; ${characters(train)} characters, ${characters(held)} held out; ${recipe.steps} steps of ${rows} rows of ${recipe.maxLength} tokens`;
}

function describe({ loss, tokens, elapsedMs }: PretrainReport): string {
  return `loss ${loss.toFixed(4)}  ${grouped(Math.round((tokens * 1000) / elapsedMs))} tokens/s  ${duration(elapsedMs)}`;
}

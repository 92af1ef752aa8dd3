import { type Command, Option } from "commander";
import type { DecoderArchitecture, DecoderRecipe, EncoderRecipe, PretrainSchedule } from "../train/index.ts";
import { UsageError } from "./failure.ts";
import { anyNumber, count, countOrNone } from "./numbers.ts";

export const OBJECTIVES = ["masked", "causal"] as const;
export type Objective = (typeof OBJECTIVES)[number];

/** What is one text of a file. */
export const SPLITS = ["file", "paragraph", "line"] as const;
export type SplitInto = (typeof SPLITS)[number];

/** What `pretrain` is asked to do, as its flags say it. */
export interface PretrainCommand {
  /** `demo`, or files. */
  readonly sources: readonly string[];
  readonly out: string;
  readonly objective: Objective;
  /** Column of tab-separated files: a name of the header line, or an index where there is none. */
  readonly column?: string | undefined;
  readonly split?: SplitInto | undefined;
  readonly recipe: Partial<EncoderRecipe> & Partial<DecoderRecipe>;
  readonly evaluateEvery?: number | undefined;
  readonly saveEvery?: number | undefined;
  /** Whether kernels are timed first. */
  readonly tune: boolean;
  /** File of the kernels of another training, or its folder. */
  readonly kernels?: string | undefined;
  readonly resume: boolean;
  readonly force: boolean;
  readonly device?: string | undefined;
}

const ARCHITECTURES: readonly DecoderArchitecture[] = ["gpt2", "llama"];
const SCHEDULES: readonly PretrainSchedule[] = ["cosine", "linear", "constant"];

interface RecipeFlag {
  readonly flag: string;
  /** The recipe's name for it. */
  readonly name: keyof EncoderRecipe | keyof DecoderRecipe;
  readonly help: string;
  readonly read?: (text: string) => number;
  readonly choices?: readonly string[];
  /** The only objective that has it. */
  readonly only?: Objective;
}

/** Flags that stand for settings of a recipe. */
const RECIPE_FLAGS: readonly RecipeFlag[] = [
  {
    flag: "--architecture <name>",
    name: "architecture",
    help: "of --objective causal (default: gpt2)",
    choices: ARCHITECTURES,
    only: "causal",
  },
  { flag: "--vocab <n>", name: "vocabSize", help: "size of the vocabulary", read: count },
  { flag: "--hidden <n>", name: "hiddenSize", help: "channels", read: count },
  { flag: "--layers <n>", name: "layers", help: "layers", read: count },
  { flag: "--heads <n>", name: "heads", help: "attention heads", read: count },
  {
    flag: "--kv-heads <n>",
    name: "keyValueHeads",
    help: "heads of keys and values, of llama (default: --heads)",
    read: count,
    only: "causal",
  },
  { flag: "--ff <n>", name: "intermediateSize", help: "channels inside the feed-forward part", read: count },
  { flag: "--max-length <n>", name: "maxLength", help: "longest sequence, in tokens", read: count },
  { flag: "--steps <n>", name: "steps", help: "optimiser steps", read: count },
  { flag: "--batch <n>", name: "batchSize", help: "lines or rows of one pass", read: count },
  {
    flag: "--accumulate <n>",
    name: "accumulate",
    help: "passes whose gradients make one step (default: 1)",
    read: count,
    only: "causal",
  },
  { flag: "--lr <rate>", name: "lr", help: "peak learning rate", read: anyNumber },
  { flag: "--warmup <n>", name: "warmupSteps", help: "steps of warm-up", read: countOrNone },
  {
    flag: "--schedule <name>",
    name: "schedule",
    help: "how the rate falls (default: cosine, to a tenth)",
    choices: SCHEDULES,
    only: "causal",
  },
  { flag: "--weight-decay <x>", name: "weightDecay", help: "weight decay", read: anyNumber },
  { flag: "--dropout <p>", name: "dropout", help: "dropout (default: 0)", read: anyNumber, only: "causal" },
  {
    flag: "--spectral-lines <n>",
    name: "spectralLines",
    help: "lines that word embeddings start from; 0: random start",
    read: countOrNone,
    only: "masked",
  },
  { flag: "--seed <n>", name: "seed", help: "seed", read: countOrNone },
];

/** Adds the flags of `pretrain`. */
export function addPretrainFlags(command: Command): Command {
  command
    .requiredOption("--out <folder>", "folder of the model")
    .addOption(
      new Option("--objective <name>", "masked tokens (an encoder) or the next token (a decoder)")
        .choices(OBJECTIVES)
        .default("masked"),
    )
    .option(
      "--column <name>",
      "column of tab-separated files: its name, or its index where there is no header",
    )
    .addOption(
      new Option("--split <unit>", "what is one text of a file, of causal (default: file)").choices(SPLITS),
    );
  for (const { flag, help, read, choices } of RECIPE_FLAGS) {
    const option = new Option(flag, help);
    if (read) option.argParser(read);
    command.addOption(choices ? option.choices(choices) : option);
  }
  return command
    .option("--evaluate-every <n>", "steps between scores on held-out text, of causal", count)
    .option("--save-every <n>", "steps between saves from which --resume goes on, of causal", count)
    .option("--tune", "time kernels before the first step, and take the fastest, of causal", false)
    .option(
      "--kernels <file>",
      "repeat a tuned training to the bit: its folder, or its kernels.json, of causal",
    )
    .option("--resume", "go on with the training that --out holds", false)
    .option("--force", "replace a model that is already there", false);
}

/** The command that the flags make. Flags that do not go together are refused. */
export function pretrainCommand(
  sources: readonly string[],
  options: Readonly<Record<string, unknown>>,
): PretrainCommand {
  const readOf = ({ flag }: RecipeFlag): unknown => options[new Option(flag).attributeName()];
  const given = RECIPE_FLAGS.filter((flag) => readOf(flag) !== undefined);
  const { out, objective, column, split, evaluateEvery, saveEvery, tune, kernels, resume, force, device } =
    options as unknown as PretrainCommand; // commander has read them by the parsers above
  const recipe = Object.fromEntries(given.map((flag) => [flag.name, readOf(flag)]));
  const saving = { evaluateEvery, saveEvery, resume, force };
  const command = { sources, out, objective, column, split, tune, kernels, device, ...saving };
  refuseTogether(command, given);
  return { ...command, recipe };
}

function refuseTogether(command: Omit<PretrainCommand, "recipe">, recipeFlags: readonly RecipeFlag[]): void {
  const { out, objective, column, split, evaluateEvery, saveEvery, tune, kernels, resume, force } = command;
  const longOf = ({ flag }: RecipeFlag): string => flag.split(" ")[0] ?? flag;
  const ofKernels = [...(tune ? ["--tune"] : []), ...(kernels === undefined ? [] : ["--kernels"])];
  if (ofKernels.length > 1)
    throw new UsageError("pretrain: --tune and --kernels: a record of kernels is tuned already; give one");
  const fixed = [...(force ? ["--force"] : []), ...ofKernels, ...recipeFlags.map(longOf)];
  if (resume && objective === "causal" && fixed.length > 0)
    throw new UsageError(
      `pretrain: --resume goes on with the recipe in ${out}; leave ${fixed.join(", ")} out`,
    );
  if (column !== undefined && split !== undefined)
    throw new UsageError(`pretrain: --split ${split} is for files; with --column each row is a text`);
  const ofCausal = { "--split": split, "--evaluate-every": evaluateEvery, "--save-every": saveEvery };
  const others = recipeFlags.filter(({ only }) => only && only !== objective).map(longOf);
  if (objective === "masked") {
    for (const [flag, value] of Object.entries(ofCausal)) if (value !== undefined) others.push(flag);
    if (resume) others.push("--resume");
    others.push(...ofKernels);
  }
  if (others.length > 0)
    throw new UsageError(
      `pretrain: ${others.join(", ")} of --objective ${objective === "masked" ? "causal" : "masked"}, which is ${objective} here`,
    );
}

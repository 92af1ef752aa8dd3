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
    .option("--resume", "go on with the training that --out holds", false)
    .option("--force", "replace a model that is already there", false);
}

/** The command that the flags make. Flags that do not go together are refused. */
export function pretrainCommand(
  sources: readonly string[],
  options: Readonly<Record<string, unknown>>,
): PretrainCommand {
  const { out, objective, column, split, evaluateEvery, saveEvery, resume, force, device } =
    options as unknown as PretrainCommand; // commander has read them by the parsers above
  const command = { sources, out, objective, column, split, evaluateEvery, saveEvery, resume, force, device };
  const recipe: Record<string, unknown> = {};
  const stray: string[] = [];
  for (const { flag, name, only } of RECIPE_FLAGS) {
    const option = new Option(flag);
    const value = options[option.attributeName()];
    if (value === undefined) continue;
    recipe[name] = value;
    if (resume || (only && only !== objective)) stray.push(option.long ?? flag);
  }
  if (resume && (force || stray.length > 0))
    throw new UsageError(
      `pretrain: --resume goes on with the recipe in ${out}; leave ${force ? "--force" : stray.join(", ")} out`,
    );
  const causalOnly = { split, evaluateEvery, saveEvery, resume: resume || undefined };
  if (objective === "masked")
    for (const [name, value] of Object.entries(causalOnly))
      if (value !== undefined)
        stray.push(`--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);
  if (stray.length > 0) {
    const other = objective === "masked" ? "causal" : "masked";
    throw new UsageError(`pretrain: ${stray.join(", ")} of --objective ${other}, which is ${objective} here`);
  }
  return { ...command, recipe };
}

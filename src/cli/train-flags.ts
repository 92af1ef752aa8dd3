import type { Command } from "commander";
import { METHOD_NAMES } from "./config.ts";
import { type Override, parseSet, parseValue } from "./config-file.ts";
import { UsageError } from "./failure.ts";

interface Flag {
  /** As commander takes it: `--lr <rate>`. */
  readonly flag: string;
  /** The key of the config that it sets. */
  readonly key: string;
  readonly help: string;
  /** How the value is read: as YAML reads it (default), as it stands, or as a list with commas. */
  readonly as?: "text" | "list";
  /** About a whole run: not for `profile`, which takes a few steps and writes nothing. */
  readonly ofRun?: true;
}

/** Flags of `adamix train` that stand for keys of the config; every other key has --set. */
export const TRAIN_FLAGS: readonly Flag[] = [
  {
    flag: "--model <folder>",
    key: "model",
    help: 'folder of an encoder, a repository of the hub, or "embedded"',
    as: "text",
  },
  {
    flag: "--task <name>",
    key: "task",
    help: "sst2, cola, mrpc, rte, qnli, qqp, mnli, mnlimm, wnli, stsb (numbers), sentiment or text",
  },
  {
    flag: "--data <folder>",
    key: "data",
    help: "folder with train and dev files (.tsv, .jsonl, .gz)",
    as: "text",
  },
  {
    flag: "--labels <a,b>",
    key: "labels",
    help: "label names of task text, in order; one name where labels are numbers",
    as: "list",
  },
  {
    flag: "--method <name>",
    key: "method",
    help: `${METHOD_NAMES.slice(0, -1).join(", ")} or ${METHOD_NAMES.at(-1)}`,
  },
  { flag: "--dtype <type>", key: "dtype", help: "how the frozen encoder is stored: f32, f16 or bf16" },
  { flag: "--bottleneck <n>", key: "peft.bottleneck", help: "size of an adapter's bottleneck" },
  { flag: "--tokens <n>", key: "peft.tokens", help: "virtual tokens of a prompt or a prefix" },
  { flag: "--layers <n>", key: "peft.layers", help: "last layers that top-layers trains" },
  { flag: "--rank <n>", key: "peft.rank", help: "rank of LoRA" },
  { flag: "--alpha <x>", key: "peft.alpha", help: "LoRA's update is scaled by alpha / rank" },
  { flag: "--experts <n>", key: "peft.experts", help: "experts of a mixture" },
  { flag: "--share <side>", key: "peft.share", help: "side with one expert for all: up, down or none" },
  {
    flag: "--router <name>",
    key: "peft.router",
    help: "what chooses a mixture's experts: drawn (routes), soft or top-k (gates that learn)",
  },
  {
    flag: "--routing <what>",
    key: "peft.routing",
    help: "what a drawn route is for: batch, example or token",
  },
  {
    flag: "--undrawn <rule>",
    key: "training.undrawn",
    help: "experts that a step has not drawn: authors, zeroGrad or skip",
  },
  { flag: "--epochs <n>", key: "training.epochs", help: "passes over the training examples", ofRun: true },
  { flag: "--steps <n>", key: "training.steps", help: "optimiser steps, instead of epochs", ofRun: true },
  { flag: "--batch-size <n>", key: "training.batchSize", help: "examples of a step" },
  { flag: "--lr <rate>", key: "training.lr", help: "peak learning rate" },
  { flag: "--dropout <p>", key: "training.dropout", help: "dropout of hidden states and attention" },
  { flag: "--max-length <n>", key: "training.maxLength", help: "longest sequence, in tokens" },
  { flag: "--seed <n>", key: "training.seed", help: "seed of head, experts, routes, dropout and order" },
  { flag: "--limit-train <n>", key: "training.limitTrain", help: "train on n examples, drawn by the seed" },
  {
    flag: "--evaluate-every <n>",
    key: "training.evaluateEverySteps",
    help: "steps between evaluations",
    ofRun: true,
  },
  {
    flag: "--kernels <file>",
    key: "kernels",
    help: "repeat a tuned run to the bit: its folder, or its kernels.json",
    as: "text",
  },
  { flag: "--out <folder>", key: "out", help: "folder of the run", as: "text", ofRun: true },
];

/** Adds the flags, --force and --set to a command. */
export function addTrainFlags(command: Command): Command {
  for (const { flag, help } of TRAIN_FLAGS) command.option(flag, help);
  addTune(command).option("--force", "replace a run that is already there");
  return addSet(command);
}

/** Adds the flags that say what is trained, and --set. */
export function addModelFlags(command: Command): Command {
  for (const { flag, help, ofRun } of TRAIN_FLAGS) if (!ofRun) command.option(flag, help);
  return addSet(addTune(command));
}

function addTune(command: Command): Command {
  return command.option("--tune", "time kernels before the first step, and take the fastest");
}

function addSet(command: Command): Command {
  const help = "any key of the config, as in --set training.lr=3e-4; may be repeated";
  return command.option("--set <key=value>", help, collect);
}

/** What the flags and --set say about the config, in that order. */
export function overridesOf(options: Readonly<Record<string, unknown>>): Override[] {
  const overrides: Override[] = [];
  for (const { flag, key, as } of TRAIN_FLAGS) {
    const name = flag.split(" ")[0] ?? "";
    const text = options[attributeOf(name)];
    if (typeof text !== "string") continue;
    const value = as === "text" ? text : as === "list" ? text.split(",") : parseValue(text, name);
    overrides.push({ key, value, flag: name });
  }
  overrides.push(...kernelOverrides(options));
  if (options.force === true) overrides.push({ key: "force", value: true, flag: "--force" });
  for (const text of (options.set ?? []) as string[]) overrides.push(parseSet(text));
  return overrides;
}

/** Where kernels come from is said once: --tune stands above the kernels of a file, --kernels above its tune. */
function kernelOverrides({ tune, kernels }: Readonly<Record<string, unknown>>): Override[] {
  if (tune === true && kernels !== undefined)
    throw new UsageError("--tune and --kernels: a record of kernels is tuned already; give one");
  if (tune === true)
    return [
      { key: "tune", value: true, flag: "--tune" },
      { key: "kernels", value: null, flag: "--tune" },
    ];
  return kernels === undefined ? [] : [{ key: "tune", value: false, flag: "--kernels" }];
}

/** Gathers the values of an option that may be repeated. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

/** commander's name of an option: --batch-size is batchSize. */
function attributeOf(flag: string): string {
  return flag.replace(/^--/, "").replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}

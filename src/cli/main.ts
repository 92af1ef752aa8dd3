#!/usr/bin/env node
import { Command, CommanderError, Option } from "commander";
import { describeFailure, exitCodeOf, UsageError } from "./failure.ts";
import { anyNumber, count, countOrAll, countOrNone } from "./numbers.ts";
import { addPretrainFlags, pretrainCommand } from "./pretrain-flags.ts";
import { versions } from "./session.ts";
import { addModelFlags, addTrainFlags, collect, overridesOf } from "./train-flags.ts";

const DTYPES = ["f32", "f16", "bf16"];
const DEVICE = "auto, gpu, software, lavapipe, swiftshader, or a part of an adapter's name";

/** The command line. Each command's own file is loaded when it is called. */
function program(): Command {
  const root = new Command("adamix")
    .description("Fine-tunes text encoders with adapters, LoRA and their AdaMix mixtures, on WebGPU.")
    .version(versions().adamix, "--version", "print the version")
    .helpOption("--help", "print this help")
    .helpCommand(false)
    .showSuggestionAfterError()
    .addHelpText("after", AFTER_HELP);
  addTrain(root);
  addEvaluate(root);
  addInspect(root);
  addMerge(root);
  addPredict(root);
  addGenerate(root);
  addPretrain(root);
  addDownload(root);
  addProfile(root);
  addDemo(root);
  addDoctor(root);
  return quiet(root);
}

const AFTER_HELP = `
Examples:
  adamix demo                                          the embedded demonstration, a few minutes without a GPU
  adamix train --task sentiment --method adamix-lora   one run of it
  adamix train sst2.yaml --lr 2e-3 --set peft.experts=8
  adamix evaluate runs/sentiment-adamix-lora-seed0 --mode ensemble
  adamix profile --task sentiment --method adamix-lora where the time of its steps goes
  adamix predict runs/sentiment-adamix-lora-seed0 --text "the soup was far from bland ."
  adamix pretrain novel.txt --objective causal --out ./novel
  adamix generate ./gpt2 --prompt "Once upon a time" --temperature 0.8 --top-p 0.95

Exit codes: 0 done, 1 failed, 2 wrong command line or config. ADAMIX_DEVICE is the default of --device;
ADAMIX_DEBUG=1 adds the stack to an error and lists what the device does, 3 names the op that made the first NaN.`;

function addTrain(root: Command): void {
  const command = root
    .command("train")
    .summary("fine-tune an encoder on a task")
    .description(
      "Fine-tunes an encoder on a task and writes the run's folder. Flags override the config file.",
    )
    .argument("[config]", "YAML file; config.json of a run is one too");
  addTrainFlags(command)
    .option("--log-every <n>", "steps between printed lines where there is no terminal", count)
    .addOption(deviceOption())
    .action(async (file: string | undefined, options) => {
      const { train } = await import("./train.ts");
      const { device, logEvery } = options;
      await train({ file, overrides: overridesOf(options), device, logEvery });
    });
}

function addEvaluate(root: Command): void {
  root
    .command("evaluate")
    .summary("score a run or a saved adapter")
    .description("Prints accuracy and negative log-likelihood on one split of the task.")
    .argument("<run>", "folder of a run, or of an adapter")
    .option("--data <path>", "folder of data or a file; else the data that the run was trained with")
    .addOption(
      new Option("--split <name>", "split to score (default: dev)").choices(["train", "dev", "test"]),
    )
    .addOption(
      new Option(
        "--mode <mode>",
        "merged experts, routes drawn for each example or token, first experts, an ensemble of routes, or the mean of each layer's modules",
      )
        .choices(["merged", "random", "random-token", "fixed", "ensemble", "module-mean"])
        .default("merged"),
    )
    .option("--routes <n>", "runs of random modes, routes of an ensemble (or all)", countOrAll, 4)
    .option("--limit <n>", "score the first n examples", count)
    .option("--model <folder>", "the encoder, where it has moved")
    .addOption(dtypeOption())
    .addOption(deviceOption())
    .action(async (path: string, options) => {
      const { evaluate } = await import("./evaluate.ts");
      await evaluate({ path, ...options });
    });
}

function addInspect(root: Command): void {
  root
    .command("inspect")
    .summary("say what a run's experts are like")
    .description(
      "Prints how often each expert was drawn, how alike the experts of each bank are, and how far a merge moves from them.",
    )
    .argument("<run>", "folder of a run")
    .option("--routes", "score every single route on the dev split, where there are few", false)
    .option("--limit <n>", "of routes: score the first n examples", count)
    .option("--model <folder>", "of routes: the encoder, where it has moved")
    .addOption(deviceOption())
    .action(async (path: string, options) => {
      const { inspect } = await import("./inspect.ts");
      await inspect({ path, ...options });
    });
}

function addMerge(root: Command): void {
  root
    .command("merge")
    .summary("merge a run's experts anew")
    .description(
      "Merges experts by the uniform mean of the paper, by weights learned on the training split, or as a greedy soup chosen on dev.",
    )
    .argument("<run>", "folder of a run, or of a mixture")
    .addOption(
      new Option("--by <recipe>", "how experts are weighed")
        .choices(["uniform", "learned", "greedy"])
        .default("uniform"),
    )
    .option("--out <folder>", "folder of the merged adapter (default: merged/ of the run)")
    .option("--force", "replace what is there under --out", false)
    .option("--steps <n>", "of learned weights: optimiser steps (default: 100)", count)
    .option("--lr <rate>", "of learned weights: peak learning rate (default: 0.05)", anyNumber)
    .option("--model <folder>", "the encoder, where it has moved")
    .addOption(deviceOption())
    .action(async (path: string, options) => {
      const { merge } = await import("./merge.ts");
      await merge({ path, ...options });
    });
}

function addPredict(root: Command): void {
  root
    .command("predict")
    .summary("label texts with a run or a saved adapter")
    .description("Prints the label of each text and the probability of every label.")
    .argument("<run>", "folder of a run, or of an adapter")
    .option("--text <text>", "text to label; may be repeated", collect)
    .option("--pair <text>", "second text, one for each --text, where the task has pairs", collect)
    .option("--model <folder>", "the encoder, where it has moved")
    .addOption(dtypeOption())
    .addOption(deviceOption())
    .action(async (path: string, { text, pair, model, dtype, device }) => {
      const { predict } = await import("./predict.ts");
      await predict({ path, texts: text ?? [], pairs: pair ?? [], model, dtype, device });
    });
}

function addGenerate(root: Command): void {
  root
    .command("generate")
    .summary("continue a text")
    .description(
      "Prints a prompt and its continuation by a causal language model, as it comes. Without further flags it is the likeliest token each time.",
    )
    .argument(
      "<model>",
      "folder or repository of a GPT-2, Llama or Qwen2, or a folder of llama2.c (tokenizer.bin and a checkpoint)",
    )
    .requiredOption(
      "--prompt <text>",
      "what to continue; may be empty where texts begin with a token of their own",
    )
    .option("--max-new <n>", "most new tokens (default: 64, or what the model has positions for)", count)
    .option("--temperature <x>", "draw tokens, by logits divided by it; 0: none", anyNumber)
    .option("--top-k <k>", "draw among the k likeliest", count)
    .option("--top-p <p>", "draw among the likeliest that together have this share", anyNumber)
    .option("--beams <k>", "search for the best text with so many beams", count)
    .option("--length-penalty <x>", "of beams: scores are divided by length ^ x", anyNumber)
    .option("--block-ngrams <n>", "of beams: no n new tokens in a row come twice", count)
    .option("--seed <n>", "seed of drawing", countOrNone, 0)
    .addOption(new Option("--dtype <type>", "how the weights are stored").choices(["f32", "f16", "bf16"]))
    .addOption(deviceOption())
    .action(async (path: string, options) => {
      const { generate } = await import("./generate.ts");
      await generate({ path, ...options });
    });
}

function addPretrain(root: Command): void {
  const command = root
    .command("pretrain")
    .summary("make a small model from text")
    .description(
      "Trains a tokenizer and an encoder by masked tokens, whose folder is a model for train; or with --objective causal a decoder by next tokens, whose folder is a model for generate.",
    )
    .argument(
      "<source...>",
      'text files (.gz too): masked takes one text a line; or "demo" for the embedded encoder\'s own language',
    );
  addPretrainFlags(command)
    .addOption(deviceOption())
    .action(async (sources: string[], options) => {
      const { pretrain } = await import("./pretrain.ts");
      await pretrain(pretrainCommand(sources, options));
    });
}

function addDownload(root: Command): void {
  root
    .command("download")
    .summary("fetch a model from the Hugging Face hub")
    .description(
      "Downloads config, tokenizer and weights into the cache that Python's libraries use. A broken download goes on where it stopped.",
    )
    .argument("<repo>", "repository, as in roberta-base or ORG/NAME")
    .option("--revision <name>", "branch, tag or commit (default: main)")
    .action(async (repo: string, { revision }) => {
      const { download } = await import("./download.ts");
      await download({ repo, revision });
    });
}

function addProfile(root: Command): void {
  const command = root
    .command("profile")
    .summary("say where the time of a training step goes")
    .description(
      "Takes a few training steps and prints the time of each kernel, of the device and of the host. Writes nothing.",
    )
    .argument("[config]", "YAML file; config.json of a run is one too");
  addModelFlags(command)
    .option("--steps <n>", "steps to profile", count, 3)
    .option("--warmup <n>", "steps before them, in which kernels compile", count, 5)
    .addOption(deviceOption())
    .action(async (file: string | undefined, options) => {
      const { profileTraining } = await import("./profile.ts");
      const { steps, warmup, device } = options;
      await profileTraining({ file, overrides: overridesOf(options), steps, warmup, device });
    });
}

function addDemo(root: Command): void {
  root
    .command("demo")
    .summary("the embedded demonstration")
    .description("Fine-tunes the embedded encoder with every method and compares them, over seeds.")
    .option("--seeds <n>", "seeds", count, 3)
    .option("--steps <n>", "optimiser steps of a run", count)
    .option("--out <folder>", "folder of the runs and the report", "runs/demo")
    .addOption(deviceOption())
    .action(async (options) => {
      const { demo } = await import("./demo.ts");
      await demo(options);
    });
}

function addDoctor(root: Command): void {
  root
    .command("doctor")
    .summary("say what this machine offers, and check it")
    .description(
      "Finds an adapter, checks kernels against float64, and says what to install where there is none.",
    )
    .option("--json", "print one JSON object", false)
    .addOption(deviceOption())
    .action(async (options) => {
      const { doctor } = await import("./doctor.ts");
      await doctor(options);
    });
}

function dtypeOption(): Option {
  return new Option("--dtype <type>", "how the frozen encoder is stored (default: as in training)").choices(
    DTYPES,
  );
}

function deviceOption(): Option {
  return new Option("--device <name>", `adapter: ${DEVICE}`);
}

/** Errors of the command line are thrown, and told in one line like all others. */
function quiet(command: Command): Command {
  command.exitOverride().configureOutput({ outputError: () => {} });
  for (const inner of command.commands) quiet(inner).helpOption("--help", "print this help");
  return command;
}

let failed = false;

/** Tells the first failure; what follows from it is not told. */
function fail(error: unknown): void {
  if (failed) return;
  failed = true;
  process.exitCode = exitCodeOf(error);
  console.error(describeFailure(error));
}

async function main(): Promise<void> {
  try {
    await program().parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) fail(error);
    else if (error.code === "commander.help") process.exitCode = 2;
    else if (error.exitCode !== 0) fail(new UsageError(error.message.replace(/^error: /, "")));
  } finally {
    // Should a driver keep the event loop alive, it does not keep the process.
    setTimeout(() => process.exit(), 3000).unref();
  }
}

function failAndExit(error: unknown): void {
  fail(error);
  process.exit();
}

process.on("uncaughtException", failAndExit);
process.on("unhandledRejection", failAndExit);
process.stdout.on("error", () => process.exit()); // the reader of a pipe has gone
void main();

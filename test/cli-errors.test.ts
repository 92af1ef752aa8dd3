// Bad input: one clear line on stderr, an exit code, and nothing written.
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { packageRoot } from "../src/platform/index.ts";
import { adamix, type Finished, scratchFolder, sentences } from "./cli-process.ts";

const folder = scratchFolder();
const at = (...parts: readonly string[]) => join(folder, ...parts);

for (const name of ["good", "strange", "empty"]) {
  mkdirSync(at(name));
  writeFileSync(at(name, "dev.tsv"), sentences(6));
}
writeFileSync(at("good", "train.tsv"), sentences(12));
writeFileSync(at("strange", "train.tsv"), sentences(12).replace(/\tno$/m, "\tmaybe"));
writeFileSync(at("empty", "train.tsv"), "text\tlabel\n");

mkdirSync(at("there"));
writeFileSync(at("there", "config.json"), "{}");

writeFileSync(
  at("typo.yaml"),
  "task: sentiment\nmethod: lora\ntraining:\n  learningrate: 0.1\nquantizaton: 4bit\n",
);
writeFileSync(
  at("value.yaml"),
  "task: sentiment\nmethod: lora\ntraining: {lr: fast, steps: 0}\npeft: {rank: 2.5}\n",
);

/** The embedded encoder with one thing wrong. */
function spoilt(name: string, spoil: (folder: string) => void): string {
  cpSync(join(packageRoot(), "assets", "encoder"), at(name), { recursive: true });
  spoil(at(name));
  return at(name);
}

const wrongConfig = spoilt("wrong-config", (path) => {
  const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8"));
  writeFileSync(join(path, "config.json"), JSON.stringify({ ...config, intermediate_size: 128 }));
});
const truncated = spoilt("truncated", (path) => {
  const weights = readFileSync(join(path, "model.safetensors"));
  writeFileSync(join(path, "model.safetensors"), weights.subarray(0, weights.length - 1000));
});

const sentiment = ["--task", "sentiment", "--method", "lora"];
const own = (data: string) =>
  [
    "--task",
    "text",
    "--labels",
    "no,yes",
    "--method",
    "head",
    "--model",
    "embedded",
    "--data",
    at(data),
  ] as const;

interface Fault {
  readonly args: readonly string[];
  readonly code: 1 | 2;
  readonly message: RegExp;
}

const FAULTS: Readonly<Record<string, Fault>> = {
  "an unknown flag": {
    args: ["train", ...sentiment, "--lerning-rate", "0.1"],
    code: 2,
    message: /^unknown option '--lerning-rate'/,
  },
  "an unknown command": { args: ["trian"], code: 2, message: /^unknown command 'trian'.*train/ },
  "unknown keys in YAML": {
    args: ["train", at("typo.yaml")],
    code: 2,
    message: /typo\.yaml: unknown key "training\.learningrate"; .*unknown key "quantizaton"/,
  },
  "bad values in YAML": {
    args: ["train", at("value.yaml")],
    code: 2,
    message:
      /peft\.rank is 2\.5.*training\.steps is 0, expected at least 1.*training\.lr is "fast", expected a number/,
  },
  "an unknown method": {
    args: ["train", "--task", "sentiment", "--method", "lorra"],
    code: 2,
    message:
      /method is "lorra", expected one of head, full, top-layers, bitfit, adapter, houlsby, .*, adamix-unipelt/,
  },
  "an unknown task": {
    args: ["train", "--task", "sst3", "--method", "lora"],
    code: 2,
    message: /task is "sst3".*sst2/,
  },
  "a config that is not there": {
    args: ["train", at("no.yaml")],
    code: 1,
    message: /cannot read .*no\.yaml: no such file/,
  },
  "data that is not there": { args: ["train", ...own("nowhere")], code: 1, message: /there is no .*nowhere/ },
  "a label outside the set": {
    args: ["train", ...own("strange")],
    code: 1,
    message: /train\.tsv: line 3: label "maybe" is not one of no, yes/,
  },
  "training data without examples": {
    args: ["train", ...own("empty")],
    code: 1,
    message: /train\.tsv has no examples/,
  },
  "sequences beyond the positions": {
    args: ["train", ...sentiment, "--max-length", "65"],
    code: 2,
    message: /maxLength is 65; the encoder has positions for 64 tokens/,
  },
  "a run that is there": {
    args: ["train", ...sentiment, "--out", at("there")],
    code: 1,
    message: /already holds a run/,
  },
  "an encoder that is not there": {
    args: ["train", ...sentiment, "--model", at("none")],
    code: 1,
    message: /model: no config\.json in .*none/,
  },
  "weights of another shape": {
    args: ["train", ...own("good"), "--model", wrongConfig],
    code: 1,
    message: /of other shape: roberta.*intermediate\.dense\.weight \[256, 64\] vs \[128, 64\]/,
  },
  "weights that are cut off": {
    args: ["train", ...own("good"), "--model", truncated],
    code: 1,
    message: /truncated.model\.safetensors: safetensors: .* outside the file/,
  },
  "an unknown device": {
    args: ["train", ...own("good"), "--device", "abacus"],
    code: 1,
    message: /no adapter matches "abacus"/,
  },
  "a run that has not finished": {
    args: ["evaluate", at("there")],
    code: 1,
    message: /is no run and no adapter/,
  },
  "an unknown mode": {
    args: ["evaluate", at("there"), "--mode", "best"],
    code: 2,
    message: /'best' is invalid.*merged/,
  },
};

const errors = suite("cli errors");
const cases = Object.entries(FAULTS).map(([name, fault], i) => ({ name, fault, out: at(`out-${i}`) }));
const outcomes = inTurns(
  cases.map(
    ({ fault, out }) =>
      () =>
        adamix(...withOut(fault.args, out)),
  ),
);

for (const [i, { name, fault, out }] of cases.entries()) {
  errors(`${name}: one line, exit code ${fault.code}, nothing written`, async () => {
    const { code, stderr, stdout } = (await outcomes)[i] as Finished;
    assert.match(stderr, /^adamix: [^\n]+\n$/);
    assert.match(stderr.slice("adamix: ".length), fault.message);
    assert.is(code, fault.code);
    assert.is(stdout.includes("step"), false);
    assert.is(existsSync(out), false);
  });
}

errors("ADAMIX_DEBUG adds the stack", async () => {
  process.env.ADAMIX_DEBUG = "1";
  try {
    const { stderr } = await adamix("evaluate", at("none"));
    assert.match(stderr, /^adamix: .*\n.*\n +at /);
  } finally {
    delete process.env.ADAMIX_DEBUG;
  }
});

errors.run();

function withOut(args: readonly string[], out: string): readonly string[] {
  return args[0] === "train" && !args.includes("--out") ? [...args, "--out", out] : args;
}

/** Runs tasks two at a time: each is mostly the start of a process. */
async function inTurns<T>(tasks: readonly (() => Promise<T>)[]): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < tasks.length; i = next++) results[i] = await (tasks[i] as () => Promise<T>)();
  };
  await Promise.all([worker(), worker()]);
  return results;
}

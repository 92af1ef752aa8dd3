// The config: what files and flags may say, what is filled in, and what a mistake is told.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { nearest } from "../src/array/index.ts";
import { CONFIG_KEYS, METHOD_NAMES, TASKS } from "../src/cli/config.ts";
import { type Override, parseSet, parseValue, readConfig } from "../src/cli/config-file.ts";
import { methodOf } from "../src/cli/methods.ts";
import { resolveConfig } from "../src/cli/presets.ts";
import { duration, majorityShare } from "../src/cli/report.ts";
import { limited, metricsOf, readExamples, resolveData, taskLabels } from "../src/cli/tasks.ts";
import { overridesOf, TRAIN_FLAGS } from "../src/cli/train-flags.ts";
import { scratchFolder, sentences } from "./cli-process.ts";

const folder = scratchFolder();
const config = suite("cli config");

const set = (...texts: readonly string[]): Override[] => texts.map(parseSet);

config("every method resolves to a config that is valid, complete and its own resolution", () => {
  for (const method of METHOD_NAMES) {
    const resolved = resolveConfig(readConfig(undefined, set("task=sentiment", `method=${method}`)));
    const path = join(folder, `${method}.json`);
    writeFileSync(path, JSON.stringify(resolved));
    assert.equal(plain(resolveConfig(readConfig(path, []))), plain(resolved), method);
    const peft = methodOf(resolved);
    assert.is(peft.targets === null, ["head", "full", "top-layers", "bitfit"].includes(method));
    if (method.startsWith("adamix")) assert.is(peft.experts.down, 4);
    assert.is(resolved.consistency?.weight, method.startsWith("adamix") ? 1 : undefined);
  }
});

config("flags and --set override the file, in this order", () => {
  const path = join(folder, "order.yaml");
  writeFileSync(
    path,
    "task: sentiment\nmethod: adamix-adapter\ntraining: {lr: 0.1, seed: 5}\npeft:\n  experts: 2\n",
  );
  const flags = overridesOf({ lr: "3e-3", experts: "8", set: ["peft.experts=6", "training.clipNorm=null"] });
  const { training, peft, out } = resolveConfig(readConfig(path, flags));
  assert.equal([training.lr, training.seed, training.clipNorm, peft?.experts], [0.003, 5, null, 6]);
  assert.ok(out.endsWith("sentiment-adamix-adapter-seed5"));
});

config("a flag's text is not read as YAML where a path or labels are meant", () => {
  const overrides = overridesOf({ out: "1e3", labels: "1,no", model: "a: b", lr: "1e3" });
  assert.equal(
    overrides.map(({ value }) => value),
    ["a: b", ["1", "no"], 1000, "1e3"],
  );
});

config("every flag stands for a key that there is", () => {
  const known = Object.entries(CONFIG_KEYS).flatMap(([section, keys]) =>
    keys.map((key) => (section === "" ? key : `${section}.${key}`)),
  );
  assert.equal(
    TRAIN_FLAGS.filter(({ key }) => !known.includes(key)),
    [],
  );
});

config("mistakes are told with the key, the value and what is near", () => {
  const told = (...texts: readonly string[]) =>
    message(() => resolveConfig(readConfig(undefined, set(...texts))));
  const base = ["task=sentiment", "method=adamix-lora"];
  assert.match(told(...base, "trainig.lr=1"), 'unknown key "trainig"; near: training');
  assert.match(told(...base, "lr=1"), 'unknown key "lr"; near: training.lr');
  assert.match(told(...base, "peft.expert=1"), "near: peft.experts");
  assert.match(told(...base, "data.tain=x"), 'unknown key "data.tain"; near: data.train');
  assert.match(told(...base, "data=7"), "data is 7, expected a folder");
  assert.match(told(...base, "training.lr=-1"), "training.lr is -1, expected more than 0");
  assert.match(told(...base, "training=5"), "training is 5, expected a section of keys");
  assert.match(told(...base, "training.steps=5", "training.epochs=1"), "both epochs and steps");
  assert.match(told(...base, "data=folder"), "brings its own sentences");
  assert.match(told("task=sentiment"), "method is missing: one of head");
  assert.match(told("task=sst2", "method=lora"), /model is missing/);
  assert.match(
    told("task=sentiment", "method=lora", "dtype=f64"),
    /dtype is "f64", expected one of f32, f16, bf16/,
  );
  assert.match(told("task=sst2", "method=lora", "model=embedded"), /data is missing/);
  assert.match(told("task=text", "method=lora", "model=embedded"), /labels is missing/);
  assert.match(told("task=sentiment", "method=head", "consistency.weight=1"), /head has one pass/);
  assert.match(told("task=sentiment", "method=lora", "peft.experts=4"), "lora has no experts; it has rank");
  assert.match(told(...base, "training.lr=fast"), 'training.lr is "fast", expected a number');
  const broken = join(folder, "broken.yaml");
  writeFileSync(broken, "task: [sentiment\n");
  assert.match(
    message(() => readConfig(broken, [])),
    /broken\.yaml: .* at line \d/,
  );
  assert.match(
    message(() => parseSet("lr")),
    /expected key=value/,
  );
  assert.match(
    message(() => parseValue("[1", "--lr")),
    /^--lr: /,
  );
  assert.equal(nearest("adapter", ["lora"]), []);
});

config("GLUE's tasks are known by their published names too", () => {
  for (const name of ["mnli", "mnlimm", "wnli", "stsb"]) assert.ok(TASKS.includes(name), name);
  const named = (task: string) =>
    readConfig(undefined, [
      { key: "task", value: task, flag: "--task" },
      { key: "method", value: "lora", flag: "--method" },
    ]).task;
  assert.equal(["STS-B", "sts-b", "stsb", "SST-2", "MNLI-mm"].map(named), [
    "stsb",
    "stsb",
    "stsb",
    "sst2",
    "mnlimm",
  ]);
  assert.match(
    message(() => named("STS-C")),
    /task is "STS-C", expected one of cola, /,
  );
});

config("a task of numbers has one label, its correlations, and no consistency", () => {
  const path = join(folder, "sts");
  mkdirSync(path);
  writeFileSync(join(path, "train.tsv"), "sentence1\tsentence2\tscore\n");
  const resolved = resolveConfig({ task: "stsb", method: "adamix-lora", model: "embedded", data: path });
  assert.is(resolved.consistency?.weight, 0);
  assert.equal(taskLabels("stsb", undefined), ["score"]);
  const numbers = { regression: true, metrics: ["pearson", "spearman"] };
  assert.equal(metricsOf({ task: "stsb", labels: ["score"] }), numbers);
  assert.equal(metricsOf({ task: "text", labels: ["stars"] }), numbers);
  assert.equal(metricsOf({ task: "cola", labels: ["a", "b"] }), { regression: false, metrics: ["matthews"] });
  assert.equal(metricsOf({ task: "text", labels: ["a", "b"] }), { regression: false, metrics: ["accuracy"] });
});

config("files are found in a folder, packed or not; SST-2 loses its trailing blanks", async () => {
  const path = join(folder, "sst2");
  mkdirSync(path);
  writeFileSync(join(path, "train.tsv.gz"), gzipSync("sentence\tlabel\na fine film \t1\nno \t0\n"));
  const data = resolveData("sst2", path);
  assert.equal(Object.keys(data ?? {}), ["train"]);
  const source = { task: "sst2", labels: ["negative", "positive"], seed: 0, data: data ?? undefined };
  assert.equal(await readExamples(source, "train"), [
    { text: "a fine film", label: 1 },
    { text: "no", label: 0 },
  ]);
  assert.match(await rejection(readExamples(source, "dev")), /given no dev file/);
});

config("own files are read from TSV and JSON lines, with columns that are named", async () => {
  writeFileSync(join(folder, "own.tsv"), sentences(3).replace("text\tlabel", "review\tverdict"));
  writeFileSync(join(folder, "own.jsonl"), '{"review": "a", "verdict": "no"}\n');
  const source = (name: string) => ({
    task: "text",
    labels: ["no", "yes"],
    seed: 0,
    columns: { text: "review", label: "verdict", pair: undefined },
    data: { train: join(folder, name) },
  });
  assert.equal(
    (await readExamples(source("own.tsv"), "train")).map(({ label }) => label),
    [1, 0, 0],
  );
  assert.equal(await readExamples(source("own.jsonl"), "train"), [{ text: "a", label: 0 }]);
});

config("limited draws the same examples for a seed, and others for another", () => {
  const all = Array.from({ length: 100 }, (_, i) => i);
  assert.equal(limited(all, 10, 1), limited(all, 10, 1));
  assert.is.not(String(limited(all, 10, 1)), String(limited(all, 10, 2)));
  assert.is(new Set(limited(all, 60, 3)).size, 60);
  assert.equal([limited(all, null, 0), limited(all, 200, 0)], [all, all]);
});

config("small things of reports", () => {
  assert.equal([59_600, 61_000, 7_500_000].map(duration), ["1 min 0 s", "1 min 1 s", "2 h 5 min"]);
  assert.is(majorityShare([0, 1, 1, 2]), 0.5);
});

config.run();

/** Without properties that are undefined. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

function message(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("nothing was thrown");
}

async function rejection(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "nothing was thrown",
    (error: Error) => error.message,
  );
}

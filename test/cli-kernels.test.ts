// Tuned kernels on the command line: what a run keeps of them, a run that repeats another, and what is refused.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readConfig } from "../src/cli/config-file.ts";
import { describeKernels } from "../src/cli/kernels.ts";
import { resolveConfig } from "../src/cli/presets.ts";
import { overridesOf } from "../src/cli/train-flags.ts";
import type { KernelRecord } from "../src/train/index.ts";
import { adamix, scratchFolder, sentences, succeed } from "./cli-process.ts";

const folder = scratchFolder();
const cli = suite("kernels on the command line");

const runOf = (name: string): string => join(folder, name);
const bytes = (...path: string[]): Buffer => readFileSync(join(folder, ...path));
const json = (...path: string[]) => JSON.parse(bytes(...path).toString());

writeFileSync(join(folder, "train.tsv"), sentences(8));
writeFileSync(join(folder, "dev.tsv"), sentences(4, 40));
const task = ["--task", "text", "--model", "embedded", "--labels", "no,yes", "--data", folder];
const base = ["train", ...task, "--method", "adamix-lora", "--rank", "2", "--experts", "2"];
const short = ["--steps", "2", "--batch-size", "2"];

const fails = async (code: number, message: RegExp, ...args: string[]): Promise<void> => {
  const { code: actual, stderr } = await adamix(...args);
  assert.match(stderr, message);
  assert.is(actual, code, stderr);
};

cli("a tuned run keeps its kernels, and another run with them has the same bits", async () => {
  const printed = await succeed(...base, ...short, "--tune", "--out", runOf("tuned"));
  const record: KernelRecord = json("tuned", "kernels.json");
  assert.ok(printed.includes(`tuned: ${describeKernels(record)}`), printed);
  assert.is(json("tuned", "config.json").tune, true);
  assert.is(Object.keys(record.products).length, 8);
  assert.is(typeof record.passes?.winner, "string");
  // Kernels that no table takes, so that what is taken from the record is seen.
  const products = Object.entries(record.products).map(([name, product]) => [
    name,
    { ...product, form: "plain" },
  ]);
  const other = { ...record, products: Object.fromEntries(products) };
  const file = join(folder, "plain.json");
  writeFileSync(file, JSON.stringify(other));
  await Promise.all([
    succeed(
      "train",
      join(runOf("tuned"), "config.json"),
      "--kernels",
      runOf("tuned"),
      "--out",
      runOf("again"),
    ),
    succeed(...base, ...short, "--kernels", file, "--out", runOf("plain")),
  ]);
  assert.equal(json("again", "kernels.json"), record);
  assert.equal(json("plain", "kernels.json"), other);
  assert.equal([json("plain", "config.json").kernels, json("plain", "config.json").tune], [file, false]);
  for (const name of ["adapter.safetensors", "optimizer.safetensors"])
    assert.equal(bytes("again", "checkpoint", name), bytes("tuned", "checkpoint", name), name);
  assert.equal(bytes("again", "metrics.jsonl"), bytes("tuned", "metrics.jsonl"));
  await succeed(...base, ...short, "--force", "--out", runOf("plain"));
  assert.not(existsSync(join(runOf("plain"), "kernels.json")), "of the run that was replaced");
});

cli("flags stand above a config's own, for either key", () => {
  const file = join(folder, "kernels.json");
  const config = join(folder, "tuned.yaml");
  writeFileSync(file, "{}");
  writeFileSync(config, "task: sentiment\nmethod: lora\ntune: true\n");
  const kernelsOf = (flags: object, path = config) => {
    const { tune, kernels } = resolveConfig(readConfig(path, overridesOf({ ...flags })));
    return { tune, kernels };
  };
  assert.equal(kernelsOf({}), { tune: true, kernels: null });
  assert.equal(kernelsOf({ kernels: folder }), { tune: false, kernels: file });
  writeFileSync(join(folder, "taken.yaml"), `task: sentiment\nmethod: lora\nkernels: ${file}\n`);
  assert.equal(kernelsOf({}, join(folder, "taken.yaml")), { tune: false, kernels: file });
  assert.equal(kernelsOf({ tune: true }, join(folder, "taken.yaml")), { tune: true, kernels: null });
});

cli("what goes wrong is told before anything is written", async () => {
  const out = ["--out", runOf("none")];
  const record = json("tuned", "kernels.json");
  const write = (name: string, value: unknown): string => {
    writeFileSync(join(folder, name), typeof value === "string" ? value : JSON.stringify(value));
    return join(folder, name);
  };
  const elsewhere = write("elsewhere.json", { ...record, adapter: { ...record.adapter, name: "another" } });
  const given = write("given.json", { ...record, passes: { winner: "one after the other", ms: {} } });
  await Promise.all([
    fails(
      2,
      /--tune and --kernels: a record of kernels is tuned already; give one/,
      ...base,
      "--tune",
      "--kernels",
      given,
    ),
    fails(
      2,
      /tune is true, and kernels are those of .*given\.json/,
      ...base,
      "--set",
      "tune=true",
      "--set",
      `kernels=${given}`,
    ),
    fails(
      2,
      /kernels: there is no .*nothing\.json; it is written by a run with --tune/,
      ...base,
      "--kernels",
      join(folder, "nothing.json"),
    ),
    fails(2, /kernels: .*broken\.json is no JSON/, ...base, ...out, "--kernels", write("broken.json", "{")),
    fails(
      1,
      /kernels: .*seven\.json is no record of kernels/,
      ...base,
      ...out,
      "--kernels",
      write("seven.json", "7"),
    ),
    fails(2, /tune is "often", expected true or false/, ...base, "--set", "tune=often"),
  ]);
  await Promise.all([
    fails(
      1,
      /train: the record of kernels is of another .*; tune on this one/,
      ...base,
      ...out,
      "--kernels",
      elsewhere,
    ),
    fails(
      1,
      /train: passesInOneBatch is true, and passes of the record of kernels run one after the other/,
      ...[...base, ...out, "--kernels", given, "--set", "training.passesInOneBatch=true"],
    ),
  ]);
  assert.not(existsSync(runOf("none")));
});

cli("profile tunes, and takes kernels, as training does", async () => {
  const profile = ["profile", ...base.slice(1), "--batch-size", "2", "--steps", "1", "--warmup", "1"];
  assert.match(await succeed(...profile, "--kernels", join(folder, "plain.json")), /matmul\.plain/);
});

cli.run();

// The commands as processes: what they print, write and leave behind.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { adamix, scratchFolder, sentences, succeed } from "./cli-process.ts";
import { assertBitEqual } from "./compare.ts";

const folder = scratchFolder();
const model = join(folder, "encoder");
const run = join(folder, "run");
writeFileSync(join(folder, "train.tsv"), sentences(40));
writeFileSync(join(folder, "dev.tsv"), sentences(21, 40));

const cli = suite("cli");

cli("--version and --help answer without a device", async () => {
  const [version, help] = await Promise.all([succeed("--version"), succeed("train", "--help")]);
  assert.is(
    version.trim(),
    JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version,
  );
  assert.match(help, /--method <name>/);
});

cli("doctor finds the adapter and every check passes; pretrain writes a whole encoder", async () => {
  const small = ["--vocab", "320", "--hidden", "16", "--layers", "1", "--heads", "2", "--ff", "32"];
  const short = ["--max-length", "24", "--steps", "3", "--batch", "4", "--warmup", "1"];
  const source = ["pretrain", join(folder, "train.tsv"), "--column", "text", "--out", model];
  const [report, printed] = await Promise.all([
    succeed("doctor", "--json"),
    succeed(...source, ...small, ...short),
  ]);
  const { passed, checks, adapter } = JSON.parse(report);
  assert.ok(passed && checks.length >= 9 && adapter.name.length > 0);
  assert.match(printed, /held out: loss \d+\.\d{6}/);
  for (const name of ["config.json", "vocab.json", "merges.txt", "model.safetensors", "training.json"])
    assert.ok(existsSync(join(model, name)), name);
});

cli("train writes a whole run, and prints the config's path, parameters, steps and scores", async () => {
  const task = ["--task", "text", "--labels", "no,yes", "--data", folder, "--model", model];
  const method = ["--method", "adamix-lora", "--rank", "2", "--experts", "3", "--lr", "0.05"];
  const length = ["--steps", "5", "--batch-size", "4", "--evaluate-every", "2", "--seed", "3"];
  const printed = await succeed("train", ...task, ...method, ...length, "--dropout", "0.1", "--out", run);
  // 1 layer, q and v: A [3, 2, 16] and B [1, 16, 2].
  assert.match(printed, /in training +256 /);
  assert.match(printed, /after merging +128 /);
  assert.match(printed, /config: .*config\.json/);
  assert.match(printed, /step 5\/5 {2}loss \d/);
  assert.is(printed.match(/^step \d\/5 {2}dev accuracy/gm)?.length, 3);
  for (const name of ["merged", "checkpoint"])
    for (const file of ["adapter_config.json", "adapter.safetensors"])
      assert.ok(existsSync(join(run, name, file)));
  for (const name of ["optimizer.safetensors", "state.json"])
    assert.ok(existsSync(join(run, "checkpoint", name)));
  const metrics = read("metrics.jsonl")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const steps = metrics.filter(({ loss }) => loss !== undefined);
  assert.equal(
    steps.map(({ step }) => step),
    [1, 2, 3, 4, 5],
  );
  assert.ok(steps.every(({ routes, consistency }) => routes.length === 1 && consistency >= 0));
  assert.is(metrics.filter(({ split }) => split === "dev").length, 3);
  const { dev, parameters, versions, adapter } = JSON.parse(read("summary.json"));
  assert.equal(parameters, { training: 256, merged: 128, head: 306, base: parameters.base });
  assert.ok(dev.examples === 21 && versions.adamix && adapter.length > 0);
});

cli("evaluate prints the scores that training printed; config.json repeats the run to the byte", async () => {
  const again = join(folder, "again");
  const [merged, ensemble, predicted] = await Promise.all([
    succeed("evaluate", run),
    succeed("evaluate", run, "--mode", "ensemble", "--routes", "2", "--limit", "10"),
    succeed("predict", run, "--text", "the soup was good", "--text", "the rain was poor on day 7"),
    succeed("train", join(run, "config.json"), "--out", again),
  ]);
  const { dev } = JSON.parse(read("summary.json"));
  assert.match(merged, `accuracy ${dev.accuracy.toFixed(6)}  nll ${dev.nll.toFixed(6)}`);
  assert.match(merged, "21 examples; majority class 0.666667");
  assert.match(ensemble, /ensemble of 2 routes: accuracy \d\.\d{6} {2}nll/);
  assert.match(predicted, /^(no|yes) +0\.\d{6} +0\.\d{6} +the soup was good$/m);
  for (const name of ["merged", "checkpoint"]) {
    const path = join(name, "adapter.safetensors");
    assertBitEqual(readFileSync(join(again, path)), readFileSync(join(run, path)), path);
  }
  const resolved = JSON.parse(readFileSync(join(again, "config.json"), "utf8"));
  assert.equal({ ...resolved, out: run }, JSON.parse(read("config.json")));
});

cli("a run that is there is replaced with --force alone", async () => {
  const config = join(run, "config.json");
  const { code, stderr } = await adamix("train", config);
  assert.is(code, 1);
  assert.match(stderr, /^adamix: run: .* already holds a run; .*--force/);
  const printed = await succeed(
    "train",
    config,
    "--force",
    "--method",
    "full",
    "--steps",
    "2",
    "--set",
    "peft={}",
    "--set",
    "consistency={}",
  );
  assert.match(printed, /dev, full: accuracy/);
  const { dev } = JSON.parse(read("summary.json"));
  assert.match(
    await succeed("evaluate", run),
    `accuracy ${dev.accuracy.toFixed(6)}  nll ${dev.nll.toFixed(6)}`,
  );
});

cli.run();

function read(name: string): string {
  return readFileSync(join(run, name), "utf8");
}

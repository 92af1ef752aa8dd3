// `adamix export` and `adamix import` as processes: a run leaves, comes back, and predicts as before.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decodeSafetensors } from "../src/io/index.ts";
import { adamix, scratchFolder, sentences, succeed } from "./cli-process.ts";

const test = suite("adamix export and import");
const folder = scratchFolder();
const inFolder = (name: string): string => join(folder, name);
const model = inFolder("encoder");
const run = inFolder("run");
const text = ["--text", "the soup was good", "--text", "the rain was poor on day 7"];

test.before(async () => {
  writeFileSync(inFolder("train.tsv"), sentences(24));
  writeFileSync(inFolder("dev.tsv"), sentences(9, 24));
  const sizes = ["--vocab", "300", "--hidden", "16", "--layers", "2", "--heads", "2", "--ff", "24"];
  const source = ["pretrain", inFolder("train.tsv"), "--column", "text", "--out", model];
  await succeed(...source, ...sizes, "--max-length", "24", "--steps", "2", "--batch", "4", "--warmup", "1");
  const task = ["--task", "text", "--labels", "no,yes", "--data", folder, "--model", model];
  const method = ["--method", "adamix-lora", "--rank", "2", "--experts", "3", "--lr", "0.05"];
  const length = ["--steps", "3", "--batch-size", "4", "--set", "pooling=cls"];
  await succeed("train", ...task, ...method, ...length, "--out", run);
});

test("a run goes to peft and comes back: the same predictions, and the merging is on record", async () => {
  const [out, back] = [inFolder("peft"), inFolder("back")];
  const printed = await succeed("export", run, "--format", "peft", "--out", out);
  assert.match(
    printed,
    /from: .*merged\nwrote: .*adapter_config\.json .*\nwrote: .*adapter_model\.safetensors \([\d,]+ bytes\)/,
  );
  const { metadata } = decodeSafetensors(readFileSync(join(out, "adapter_model.safetensors")));
  assert.equal(JSON.parse(metadata.mergedFrom ?? ""), { experts: 3, share: "up", by: "uniform" });
  assert.is(metadata.labels, '["no","yes"]');
  const read = await succeed("import", out, "--out", back);
  assert.match(read, /read: peft\nmethod: lora \(rank 2, alpha 4, .*\nbase: .*encoder\nlabels: no, yes\n/);
  const [before, after] = await Promise.all([
    succeed("predict", run, ...text),
    succeed("predict", back, ...text),
  ]);
  assert.is(after, before);
});

test("adapters and safetensors too; a checkpoint must be merged first", async () => {
  const checkpoint = join(run, "checkpoint");
  const [hub, plain, refused] = await Promise.all([
    succeed("export", run, "--format", "adapters", "--name", "tiny", "--no-head", "--out", inFolder("hub")),
    succeed("export", checkpoint, "--format", "safetensors", "--out", inFolder("plain")),
    adamix("export", checkpoint, "--format", "peft", "--out", inFolder("x")),
  ]);
  assert.match(hub, /pytorch_adapter\.bin/);
  assert.match(plain, /adapter\.safetensors/);
  assert.is(refused.code, 1);
  assert.match(
    refused.stderr,
    /^adamix: export: the adapter holds 3 experts, peft holds one \(.*--merge\)\n$/,
  );
  const again = await succeed("import", inFolder("plain"), "--out", inFolder("checkpoint-back"));
  assert.match(again, /experts 3/);
});

test("count needs no weights and no device: a published size by name, a config of one's own", async () => {
  const [json, shown, unknown] = await Promise.all([
    succeed(
      "count",
      "bert-base-uncased",
      "--method",
      "adamix-adapter",
      "--set",
      "peft.bottleneck=48",
      "--length",
      "8",
      "--json",
    ),
    succeed("count", join(model, "config.json"), "--method", "lora", "--batch-size", "2", "--length", "8"),
    adamix("count", "bert-huge"),
  ]);
  const [row] = JSON.parse(json);
  assert.is(row.method, "adamix-adapter");
  assert.equal(row.parameters, { training: 2_223_360, merged: 894_528, head: 1538, base: 109_482_240 });
  assert.ok(row.step.flops > 1e9 && row.step.peakBytes > row.step.baseBytes);
  assert.match(shown, /stored in [\d.]+ kB; its head 306\n/);
  assert.match(shown, /lora +1,024 +1,024 +[\d.]+% +4\.1 kB +2\.0 kB/);
  assert.match(unknown.stderr, /"bert-huge" is not one of bert-base-uncased/);
});

test("wrong calls are told in one line: formats by name, a folder that is there", async () => {
  const [unknown, there, missing] = await Promise.all([
    adamix("export", run, "--format", "keras", "--out", inFolder("y")),
    adamix("export", run, "--format", "peft", "--out", folder),
    adamix("import", inFolder("nothing"), "--out", inFolder("z")),
  ]);
  assert.equal([unknown.code, there.code, missing.code], [2, 2, 1]);
  assert.match(unknown.stderr, /Allowed choices are peft, adapters, safetensors/);
  assert.match(there.stderr, /is there already; name another with --out, or add --force/);
  assert.match(missing.stderr, /there is no .*nothing/);
});

test.run();

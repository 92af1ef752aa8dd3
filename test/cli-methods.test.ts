// Methods of every kind as processes: trained, saved, and scored again to the digit.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { METHOD_NAMES } from "../src/cli/config.ts";
import { adamix, scratchFolder, sentences, succeed } from "./cli-process.ts";

const folder = scratchFolder();
writeFileSync(join(folder, "train.tsv"), sentences(16));
writeFileSync(join(folder, "dev.tsv"), sentences(9, 16));

const test = suite("methods of the command line");
const task = ["--task", "text", "--labels", "no,yes", "--data", folder, "--model", "embedded"];
const short = ["--steps", "2", "--batch-size", "4"];

const cases: Readonly<Record<string, readonly string[]>> = {
  prompt: ["--tokens", "3"], // texts are cut to the positions that it leaves
  bitfit: ["--dtype", "f16"], // biases are f32 in a base of any type
  "adamix-unipelt": [
    "--set",
    "peft.parts=[adapter, lora]",
    "--rank",
    "2",
    "--bottleneck",
    "3",
    "--experts",
    "2",
  ],
};
for (const [method, settings] of Object.entries(cases)) {
  test(`${method}: evaluate prints what train printed`, async () => {
    const run = join(folder, method);
    const printed = await succeed("train", ...task, "--method", method, ...settings, ...short, "--out", run);
    const scored = await succeed("evaluate", run);
    const scores = (text: string): string | undefined => /^dev.*: (accuracy .*)$/m.exec(text)?.[1];
    assert.ok(scores(printed));
    assert.is(scores(scored), scores(printed));
  });
}

test("what does not go together is refused before anything is written", async () => {
  const [halves, long, stray, layers] = await Promise.all([
    adamix("train", ...task, "--method", "top-layers", "--dtype", "bf16", ...short),
    adamix("train", ...task, "--method", "prompt", "--tokens", "4096", ...short),
    adamix("train", ...task, "--method", "ia3", "--rank", "2"),
    adamix("train", ...task, "--method", "top-layers", "--layers", "99", ...short),
  ]);
  assert.match(halves.stderr, /topLayers: .* is bf16; what trains needs f32, so load the model as f32/);
  assert.match(long.stderr, /peft.tokens is 4096; the encoder has positions for \d+ tokens/);
  assert.match(stray.stderr, /method ia3 has no rank; it has targets/);
  assert.match(layers.stderr, /topLayers: the last 99 layers of a model of \d/);
  for (const { code } of [halves, long, stray, layers]) assert.is(code > 0, true);
});

test("--help names every method", async () => {
  const help = (await succeed("train", "--help")).replaceAll(/\s+/g, " ");
  for (const name of METHOD_NAMES) assert.ok(help.includes(name), name);
});

test.run();

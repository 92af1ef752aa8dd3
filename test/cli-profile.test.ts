// `adamix profile` as a process: what it prints, and that it writes nothing.
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { adamix, scratchFolder, sentences, succeed } from "./cli-process.ts";

const folder = scratchFolder();
writeFileSync(join(folder, "train.tsv"), sentences(30));
writeFileSync(join(folder, "dev.tsv"), sentences(6, 30));
writeFileSync(
  join(folder, "config.yaml"),
  `task: text\nlabels: [no, yes]\ndata: ${folder}\nmodel: embedded\nmethod: adamix-lora\nout: ${join(folder, "run")}\n` +
    "training: {batchSize: 2, lr: 0.01, epochs: 3}\npeft: {rank: 2, experts: 2}\n",
);

const profile = suite("cli, profile");

profile("prints kernels by their time, then what a step takes, and writes nothing", async () => {
  const before = readdirSync(folder);
  const printed = await succeed("profile", join(folder, "config.yaml"), "--steps", "2", "--warmup", "1");
  assert.equal(readdirSync(folder), before);
  assert.match(
    printed,
    /^adamix profile: adamix-lora on text, on .+\n1 steps of 2 to warm up, 2 as they are, 2 timed\n/,
  );
  const lines = printed.split("\n");
  const head = lines.findIndex((line) => line.startsWith("kernel "));
  const kernels = lines.slice(head + 1, lines.indexOf("", head)).map((line) => line.split(/ {2,}/));
  assert.ok(kernels.length > 15, printed);
  const totals = kernels.map(([, , ms]) => Number(ms));
  assert.ok(totals.every((ms) => ms >= 0));
  assert.equal(
    totals,
    [...totals].sort((a, b) => b - a),
    "sorted by time",
  );
  assert.ok(kernels.some(([name, , , , , , gflops]) => name?.startsWith("matmul") && Number(gflops) > 0));
  assert.is(kernels.find(([name]) => name === "adamw.step")?.[1], "2", "one update a step");
  const perStep = (name: string): number =>
    Number(
      new RegExp(`^ *${name} +(\\d+\\.\\d+)`, "m").exec(printed.slice(printed.indexOf("\na step")))?.[1],
    );
  const dispatches = kernels.reduce((sum, [, count]) => sum + Number(count), 0);
  assert.is(perStep("dispatches"), dispatches / 2, "as many with a clock as without");
  for (const name of ["time", "host", "of it submits", "device", "host per dispatch", "time while timed"])
    assert.ok(perStep(name) > 0, `${name} in\n${printed}`);
});

profile("takes the flags that say what is trained, and none about a whole run", async () => {
  const config = join(folder, "config.yaml");
  const [method, epochs, steps] = await Promise.all([
    succeed(
      "profile",
      config,
      "--method",
      "head",
      "--set",
      "peft={}",
      "--set",
      "consistency={}",
      "--steps",
      "1",
    ),
    adamix("profile", config, "--epochs", "2"),
    adamix("profile", config, "--steps", "0"),
  ]);
  assert.match(method, /^adamix profile: head on text/);
  assert.is(epochs.code, 2);
  assert.match(epochs.stderr, /^adamix: unknown option '--epochs'/);
  assert.is(steps.code, 2);
  assert.match(steps.stderr, /'0' is invalid.*whole number of 1 or more/);
});

profile.run();

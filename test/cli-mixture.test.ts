// Mixtures on the command line: routers, routes by example and token, modes of inference, merging, inspection.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { adamix, scratchFolder, sentences, succeed } from "./cli-process.ts";

const folder = scratchFolder();
const model = join(folder, "encoder");
writeFileSync(join(folder, "train.tsv"), sentences(30));
writeFileSync(join(folder, "dev.tsv"), sentences(12, 40));

const cli = suite("mixtures on the command line");

const runOf = (name: string): string => join(folder, name);
const read = (...path: string[]): string => readFileSync(join(folder, ...path), "utf8");
const json = (...path: string[]) => JSON.parse(read(...path));

function train(name: string, ...options: string[]): Promise<string> {
  const task = ["--task", "text", "--labels", "no,yes", "--data", folder, "--model", model];
  const method = ["--method", "adamix-adapter", "--bottleneck", "2", "--experts", "3", "--lr", "0.05"];
  const length = ["--steps", "4", "--batch-size", "4", "--seed", "3", "--out", runOf(name)];
  return succeed("train", ...task, ...method, ...length, ...options);
}

const fails = async (code: number, message: RegExp, ...args: string[]): Promise<void> => {
  const { code: actual, stderr } = await adamix(...args);
  assert.match(stderr, message);
  assert.is(actual, code, stderr);
};

cli(
  "routes per example are logged, those of tokens counted; soft and top-k routers train in one pass",
  async () => {
    const source = ["pretrain", join(folder, "train.tsv"), "--column", "text", "--out", model];
    const small = ["--vocab", "320", "--hidden", "16", "--layers", "1", "--heads", "2", "--ff", "32"];
    await succeed(...source, ...small, "--max-length", "24", "--steps", "2", "--batch", "4", "--warmup", "1");
    await Promise.all([
      train(
        "example",
        "--routing",
        "example",
        "--set",
        "training.passesInOneBatch=false",
        "--undrawn",
        "skip",
      ),
      train("token", "--routing", "token", "--set", "consistency.warmupSteps=3"),
      train("soft", "--router", "soft"),
      train("top", "--router", "top-k", "--set", "peft.topK=1", "--set", "peft.balance=0.1"),
    ]);
    const first = (name: string) => JSON.parse(read(name, "metrics.jsonl").split("\n")[0] ?? "");
    const { routes } = first("example");
    assert.equal(
      routes.map((sides: number[][]) => sides.map((route) => route.length)),
      [[8, 8]],
      "two passes of four examples",
    );
    const token = first("token");
    assert.is(token.routes, null);
    assert.is(token.drawn[0][0].length, 3);
    for (const name of ["soft", "top"]) {
      assert.is(first(name).consistency, null);
      const config = json(name, "merged", "adapter_config.json");
      assert.is(config.peft.experts, 3, "nothing is merged");
      const k = name === "top" ? { k: 1, balance: 0.1 } : {};
      assert.equal(config.router, { router: name === "top" ? "top-k" : "soft", ...k });
    }
  },
);

cli("evaluate by every mode; learned routers answer as they are", async () => {
  const mode = (name: string, routes: string): Promise<string> =>
    succeed("evaluate", runOf("example"), "--mode", name, "--routes", routes);
  const printed = await Promise.all([
    mode("random", "2"),
    mode("ensemble", "all"),
    mode("module-mean", "1"),
    succeed("evaluate", runOf("top")),
  ]);
  for (const text of printed) assert.match(text, /expected calibration error 0\.\d{6}/);
  const [random = "", ensemble = "", mean = "", top = ""] = printed;
  assert.match(random, /dev, mean of 2 random routes for each example: accuracy/);
  assert.match(ensemble, /dev, ensemble of 3 routes: .*\n.*deviation of a probability between them 0\.\d/);
  assert.match(mean, /dev, mean of the modules of each layer: accuracy/);
  const scores = json("top", "summary.json").dev;
  assert.ok(top.includes(`accuracy ${scores.accuracy.toFixed(6)}`));
  await fails(
    2,
    /--mode fixed is for mixtures; .* holds a soft router, which draws no routes: use merged/,
    ...["evaluate", runOf("soft"), "--mode", "fixed"],
  );
});

cli("merge writes learned weights and soups; evaluate finds them", async () => {
  const soup = runOf("soup");
  const [learned, greedy] = await Promise.all([
    succeed("merge", runOf("example"), "--by", "learned", "--steps", "4", "--lr", "0.5"),
    succeed("merge", runOf("token"), "--by", "greedy", "--out", soup),
  ]);
  assert.match(learned, /dev, uniform mean: accuracy .*\n(.*\n)*dev, learned: accuracy/);
  assert.match(greedy, /in the soup: experts \d/);
  const { mergedFrom, peft, base } = json("example", "merged", "adapter_config.json");
  assert.is(mergedFrom.by, "learned");
  assert.is(mergedFrom.weights[0].down.length, 3);
  assert.equal([peft.experts, base], [1, model]);
  const line = learned.match(/dev, learned: (.*)/)?.[1] ?? "?";
  const [evaluated] = await Promise.all([
    succeed("evaluate", runOf("example")),
    succeed("evaluate", soup),
    fails(2, /merge: .*soup is there; name another, or add --force/, "merge", runOf("token"), "--out", soup),
    fails(2, /merge: .* its top-k router weighs experts for every token/, "merge", runOf("top")),
    fails(2, /merge: .*soup is no run; say where the merged adapter goes with --out/, "merge", soup),
  ]);
  assert.ok(evaluated.includes(line), `${evaluated} has ${line}`);
  assert.ok(existsSync(join(soup, "adapter.safetensors")));
});

cli("inspect prints draws, cosines and merge distances, and every route", async () => {
  const { drawn, banks } = json("example", "summary.json").experts;
  assert.is(
    drawn[0][0].reduce((sum: number, n: number) => sum + n, 0),
    4 * 8,
    "steps times draws",
  );
  assert.is(banks.length, 1, "the shared side has one expert");
  const printed = await succeed("inspect", runOf("example"), "--routes", "--limit", "5");
  assert.match(printed, new RegExp(`adapter\\.down +${drawn[0][0].join(" ")} `));
  assert.is(printed.match(/^\d,0 +\d\.\d{6} /gm)?.length, 3, printed);
  await Promise.all([
    fails(2, /inspect: .* holds adamix-adapter, which has no drawn experts/, "inspect", runOf("soft")),
    fails(1, /inspect: there is no .*summary\.json: name the folder of a run/, "inspect", folder),
  ]);
});

cli("settings that do not go together are refused", async () => {
  const base = ["train", "--task", "sentiment", "--method", "adamix-lora"];
  await Promise.all([
    fails(
      2,
      /peft: router soft has no routing; it has no settings/,
      ...base,
      "--router",
      "soft",
      "--routing",
      "token",
    ),
    fails(2, /peft: router drawn has no topK; it has routing/, ...base, "--set", "peft.topK=2"),
    fails(
      2,
      /consistency: router top-k has one pass; the term is for mixtures with drawn routes/,
      ...[...base, "--router", "top-k", "--set", "consistency.weight=2"],
    ),
    fails(
      2,
      /peft: method lora has no routing/,
      "train",
      "--task",
      "sentiment",
      "--method",
      "lora",
      "--routing",
      "token",
    ),
  ]);
});

cli.run();

// A task of numbers on the command line: STS-B's files, and a table of one's own.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { adamix, scratchFolder, succeed } from "./cli-process.ts";

const cli = suite("regression on the command line");
const folder = scratchFolder();
const data = join(folder, "STS-B");
mkdirSync(data);

/** Pairs whose score is about 0.75 and 2 more for each text that is good. */
function pairs(n: number, first: number): readonly (readonly [a: string, b: string, score: number])[] {
  const things = ["soup", "train", "film", "report", "rain"];
  const text = (kind: number, i: number) => `the ${things[i % 5]} was ${["fine", "bland"][kind]} .`;
  return Array.from({ length: n }, (_, k) => {
    const i = k + first;
    const [a, b] = [i % 2, Math.floor(i / 2) % 2];
    return [text(a, i), text(b, i * 3), 0.5 + 2 * (2 - a - b) + (i % 3) * 0.25];
  });
}

const table = (n: number, first: number): string =>
  [
    "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
    ...pairs(n, first).map(([a, b, score], i) => `${i}\tg\tf\ty\to\tn\tn\t${a}\t${b}\t${score.toFixed(3)}`),
    "",
  ].join("\n");
writeFileSync(join(data, "train.tsv"), table(64, 0));
writeFileSync(join(data, "dev.tsv"), table(24, 7));

const own = join(folder, "own");
mkdirSync(own);
const rows = (n: number): string =>
  pairs(n, 0)
    .map(([a, b, score]) => `${JSON.stringify({ text: a, pair: b, label: score })}\n`)
    .join("");
writeFileSync(join(own, "train.jsonl"), rows(8));
writeFileSync(join(own, "dev.jsonl"), rows(6));

const SCORES = /pearson (-?\d\.\d{6}) {2}spearman (-?\d\.\d{6}) {2}mse (\d+\.\d{6})/;

cli(
  "STS-B: trained on numbers, scored by both correlations, the best by their mean, predicted as numbers",
  async () => {
    const run = join(folder, "run");
    const length = ["--steps", "60", "--batch-size", "16", "--evaluate-every", "20", "--lr", "0.02"];
    const base = [
      "train",
      "--task",
      "STS-B",
      "--data",
      data,
      "--model",
      "embedded",
      "--method",
      "adamix-lora",
    ];
    const printed = await succeed(
      ...base,
      ...length,
      "--set",
      "training.weightDecay=0.01",
      "--experts",
      "2",
      "--out",
      run,
    );
    assert.match(printed, /24 to evaluate on \(numbers of mean \d\.\d+, deviation 1\.\d+\)/);
    const evaluations = [...printed.matchAll(/^step \d+\/60 {2}dev (pearson .*)$/gm)].map(
      ([, scores]) => scores ?? "",
    );
    assert.is(evaluations.length, 3);
    const [, p, s] = printed.match(new RegExp(`^dev, merged experts: ${SCORES.source}$`, "m")) ?? [];
    assert.ok(Number(p) > 0.8, `pearson ${p}`);
    const summary = JSON.parse(readFileSync(join(run, "summary.json"), "utf8"));
    const means = evaluations.map((line) => {
      const [, a, b] = SCORES.exec(line) ?? [];
      return (Number(a) + Number(b)) / 2;
    });
    assert.ok(Math.abs(summary.best.score - Math.max(...means)) < 1e-6, "the best by the mean of both");
    assert.ok(Math.abs(summary.best.score - (Number(p) + Number(s)) / 2) < 1e-6);
    assert.equal(Object.keys(summary.dev), ["examples", "pearson", "spearman", "mse", "labels"]);

    const pair = ["--text", "the soup was fine .", "--pair", "the rain was fine ."];
    const other = ["--text", "the soup was fine .", "--pair", "the rain was bland ."];
    const [again, routes, predicted, each] = await Promise.all([
      succeed("evaluate", run),
      succeed("evaluate", run, "--mode", "ensemble"),
      succeed("predict", run, ...pair, ...other),
      succeed("inspect", run, "--routes", "--limit", "6"),
    ]);
    assert.match(again, new RegExp(`^dev, merged experts: pearson ${p} {2}spearman ${s} `, "m"));
    assert.match(again, /24 examples; numbers of mean /);
    assert.match(routes, SCORES);
    assert.match(routes, /^deviation of a number between 4 runs \d\.\d{6}$/m);
    assert.match(each, /^down,up of each layer +pearson +spearman +mse$/m);
    const [same = Number.NaN, different = Number.NaN] = [
      ...predicted.matchAll(/^(-?\d+\.\d{6}) +the soup/gm),
    ].map((m) => Number(m[1]));
    assert.match(predicted, /^score +text$/m);
    assert.ok(same > different + 1, `${same} and ${different}`);
  },
);

cli("a table of one's own is one of numbers where one label is named", async () => {
  const base = [
    "train",
    "--task",
    "text",
    "--data",
    own,
    "--model",
    "embedded",
    "--method",
    "head",
    "--steps",
    "2",
  ];
  const printed = await succeed(...base, "--labels", "stars", "--out", join(folder, "own-run"));
  assert.match(printed, SCORES);
  const predicted = await succeed("predict", join(folder, "own-run"), "--text", "a", "--pair", "b");
  assert.match(predicted, /^stars +text$/m);
  const two = await adamix(...base, "--labels", "bad,good", "--out", join(folder, "none"));
  assert.match(two.stderr, /train\.jsonl: line 1: label "4.5" is not one of bad, good/);
});

cli.run();

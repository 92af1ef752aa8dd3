// The comparison with other engines: its conductor, with peers that are a line of JavaScript, and its common step.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { COMMON, type CommonStep, prepareCommonStep } from "../bench/common-step.ts";
import { contest, disagreements } from "../bench/peers/contest.ts";
import type { Peer } from "../bench/peers/peers.ts";
import { type Given, readWork } from "../bench/peers/serve.ts";
import { stepWork, type Work, works, writeWork } from "../bench/peers/works.ts";
import { type Gpu, tensor } from "../src/index.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";

const peersTest = suite("bench: peers");

const work: Work = { ...(works().at(-1) as Work), name: "nothing" };

/** A peer whose answers a few lines of JavaScript print; `answers` are printed for each question in turn. */
function fake(name: string, first: object, answers: readonly (object | string)[] = []): Peer {
  const program = `
    const answers = ${JSON.stringify(answers)};
    console.log("an engine greets");
    console.log(JSON.stringify({ ...${JSON.stringify(first)}, note: process.env.ADAMIX_TEST_NOTE }));
    require("node:readline").createInterface({ input: process.stdin }).on("line", () => {
      const answer = answers.shift();
      if (typeof answer === "string") throw new Error(answer);
      if (answer) console.log(JSON.stringify(answer));
    });`;
  return { name, command: () => [process.execPath, "-e", program] };
}

const ready = (figures: readonly number[] = [1, 2]): object => ({ versions: { engine: "1" }, figures });
const timed = (...samples: number[]): object => ({ samples, peakMiB: 7 });

peersTest("rounds are interleaved, another begins each; times are compared within their round", async () => {
  const turns: string[] = [];
  const peers = [
    fake("adamix", ready(), [timed(2, 2, 2), timed(20)]), // the second round found a busy machine
    fake("other", ready(), [timed(6), timed(50, 60, 70)]),
  ];
  const options = { rounds: 2, seconds: 0, limitSeconds: 20, onTurn: (what: string) => turns.push(what) };
  const { standings, failures } = await contest(work, "", peers, options);
  assert.equal(failures, []);
  assert.equal(turns, [
    "nothing: adamix prepares",
    "nothing: other prepares",
    "nothing: adamix, round 1 of 2",
    "nothing: other, round 1 of 2",
    "nothing: other, round 2 of 2",
    "nothing: adamix, round 2 of 2",
  ]);
  assert.equal(
    standings.map(({ peer, medianMs, ratio, ratioInterval, samples }) => ({
      peer,
      medianMs,
      ratio,
      ratioInterval,
      samples,
    })),
    [
      { peer: "adamix", medianMs: 2, ratio: 1, ratioInterval: [1, 1], samples: 4 },
      { peer: "other", medianMs: 55, ratio: 3, ratioInterval: [3, 3], samples: 4 },
    ],
  );
});

peersTest("a peer that cannot is told with its reason, and the others go on", async () => {
  const peers: Peer[] = [
    fake("adamix", ready(), [timed(1), timed(1)]),
    fake("refuses", { cannot: "no gradient of that\nstack" }),
    fake("dies", ready(), [timed(1), "out of luck"]),
    { name: "absent", command: () => ["adamix-no-such-program"] },
    { ...fake("not installed", ready()), missing: "not installed: npm ci" },
  ];
  const { standings, failures } = await contest(work, "", peers, { rounds: 2, seconds: 0, limitSeconds: 20 });
  assert.equal(
    standings.map(({ peer }) => peer),
    ["adamix"],
  );
  const reasons = new Map(failures.map(({ peer, cannot }) => [peer, cannot]));
  assert.is(reasons.get("refuses"), "no gradient of that");
  assert.is(reasons.get("dies"), "ended by exit code 1: Error: out of luck");
  assert.match(reasons.get("absent") ?? "", "ENOENT");
  assert.is(reasons.get("not installed"), "not installed: npm ci");
});

peersTest("a peer has the environment that it asks for; its note reaches the standings", async () => {
  const peers = [{ ...fake("adamix", ready(), [timed(1)]), env: { ADAMIX_TEST_NOTE: "two threads" } }];
  const { standings } = await contest(work, "", peers, { rounds: 1, seconds: 0, limitSeconds: 20 });
  assert.is(standings[0]?.note, "two threads");
  assert.is(standings[0]?.peakMiB, 7);
});

peersTest("a peer that does not answer in time is left out", async () => {
  const peers = [fake("adamix", ready(), [timed(1)]), fake("sleeps", ready(), [])];
  const { failures } = await contest(work, "", peers, { rounds: 1, seconds: 0, limitSeconds: 2 });
  assert.equal(failures, [{ peer: "sleeps", cannot: "no answer within 2 s" }]);
});

peersTest("figures that differ by more than 1e-3 are a disagreement, NaN and missing ones too", () => {
  const others = (...figures: number[]): string[] =>
    disagreements([
      { peer: "adamix", figures: [1, 50] },
      { peer: "other", figures },
    ]);
  assert.equal(others(1.0009, 50.04), []);
  assert.equal(others(1, 50.06), ["other finds 50.06 where adamix finds 50 (figure 2 of 2 and 2)"]);
  assert.is(others(Number.NaN, 50).length, 1);
  assert.is(others(1).length, 1);
  assert.is(others(1, 50, 3).length, 1);
});

/** Small enough for any adapter, with a larger rate so that every part moves. */
const TINY: CommonStep = {
  ...COMMON,
  layers: 2,
  channels: 16,
  heads: 2,
  inner: 32,
  vocabulary: 37,
  batch: 2,
  tokens: 7,
  lr: 1e-2,
  weightDecay: 0.1,
};

peersTest("the common step's first losses are PyTorch's", async () => {
  const gpu = await testGpu();
  const folder = mkdtempSync(join(tmpdir(), "adamix-test-"));
  writeWork(stepWork(TINY), folder);
  const given = readWork(folder);
  rmSync(folder, { recursive: true });
  // Of bench/peers/pytorch.py on the same folder; PyTorch 1.13.
  const expected = [3.6150879859924316, 3.4127261638641357, 3.214010000228882];
  const losses = await firstLosses(gpu, given, expected.length);
  losses.forEach((loss, i) => {
    assert.ok(Math.abs(loss - (expected[i] as number)) < 1e-5, `${losses}, expected ${expected}`);
  });
  const before = liveBytes(gpu); // with what the device makes once
  assert.equal(await firstLosses(gpu, given, expected.length), losses);
  assert.is(liveBytes(gpu), before);
});

async function firstLosses(gpu: Gpu, given: Given, n: number): Promise<number[]> {
  const load = (name: string) => tensor(gpu, given.values(name), given.shape(name));
  const [ids, labels] = [load("ids"), load("labels")];
  const values = (name: string) => given.values(name) as Float32Array<ArrayBuffer>; // weights are f32
  const step = prepareCommonStep(gpu, TINY, values, ids, labels);
  const losses: number[] = [];
  for (let i = 0; i < n; i++) {
    step.run();
    losses.push(await step.loss().item());
  }
  for (const it of [step, ids, labels]) it.dispose();
  return losses;
}

peersTest("the common step has 5,289,472 parameters", () => {
  const { tensors } = stepWork(COMMON);
  const sizes = tensors
    .filter(({ fill }) => !("below" in fill))
    .map(({ shape }) => shape.reduce((n, m) => n * m, 1));
  assert.is(
    sizes.reduce((sum, n) => sum + n, 0),
    5_289_472,
  );
});

peersTest.run();

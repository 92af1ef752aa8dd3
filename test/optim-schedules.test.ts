// Learning-rate schedules against values worked out by hand.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  constantSchedule,
  cosineSchedule,
  inverseSquareRootSchedule,
  linearSchedule,
  polynomialSchedule,
} from "../src/optim/index.ts";
import { assertClose } from "./compare.ts";

const byHand = JSON.parse(readFileSync(new URL("golden/adamix_by_hand.json", import.meta.url), "utf8"));
const schedules = suite("learning-rate schedules");

schedules("the linear schedule meets the values worked out by hand", () => {
  const { lr, W: warmupSteps, N: totalSteps, at } = byHand.linear_schedule;
  const schedule = linearSchedule({ lr, warmupSteps, totalSteps });
  for (const [step, rate] of Object.entries<number>(at))
    assertClose([schedule(Number(step))], [rate], { rtol: 1e-12, name: `step ${step}` });
  assert.is(schedule(totalSteps + 7), 0);
});

schedules("without a warm-up the first step has the full rate", () => {
  const schedule = linearSchedule({ lr: 0.3, totalSteps: 3 });
  assertClose([0, 1, 2, 3].map(schedule), [0.3, 0.2, 0.1, 0], { rtol: 1e-14 });
  assert.is(constantSchedule(0.3)(1e6), 0.3);
});

const steps = [0, 1, 2, 4, 6, 8, 10, 12];
const options = { lr: 0.8, warmupSteps: 2, totalSteps: 10 };
const close = (schedule: (step: number) => number, expected: readonly number[]): void =>
  assertClose(steps.map(schedule), expected, { rtol: 1e-14, atol: 1e-16 });

schedules("every schedule rises in the same way", () => {
  close(constantSchedule(0.8, { warmupSteps: 2 }), [0, 0.4, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]);
  close(linearSchedule(options), [0, 0.4, 0.8, 0.6, 0.4, 0.2, 0, 0]);
});

schedules("a cosine falls by half in half of the steps, to its end", () => {
  const quarter = 0.4 * (1 + Math.SQRT1_2);
  close(cosineSchedule(options), [0, 0.4, 0.8, quarter, 0.4, 0.8 - quarter, 0, 0]);
  close(cosineSchedule({ ...options, end: 0.5 }), [
    0,
    0.4,
    0.8,
    0.4 + quarter / 2,
    0.6,
    0.8 - quarter / 2,
    0.4,
    0.4,
  ]);
  // A whole cycle is back at its rate in the end.
  close(cosineSchedule({ ...options, cycles: 1 }), [0, 0.4, 0.8, 0.4, 0, 0.4, 0.8, 0.8]);
});

schedules("a polynomial falls as the power of what is left", () => {
  close(polynomialSchedule(options), [0, 0.4, 0.8, 0.6, 0.4, 0.2, 0, 0]);
  close(polynomialSchedule({ ...options, power: 2 }), [0, 0.4, 0.8, 0.45, 0.2, 0.05, 0, 0]);
  close(polynomialSchedule({ ...options, end: 0.25 }), [0, 0.4, 0.8, 0.65, 0.5, 0.35, 0.2, 0.2]);
});

schedules("an inverse square root halves in four times the steps", () => {
  const schedule = inverseSquareRootSchedule({ lr: 0.8, warmupSteps: 4 });
  assertClose([0, 2, 4, 16, 64].map(schedule), [0, 0.4, 0.8, 0.4, 0.2], { rtol: 1e-14 });
  const slow = inverseSquareRootSchedule({ lr: 0.8, timescale: 100 });
  assertClose([0, 300].map(slow), [0.8, 0.4], { rtol: 1e-14 });
  assertClose([inverseSquareRootSchedule({ lr: 1 })(30_000)], [0.5], { rtol: 1e-14 });
});

schedules("settings out of range are refused, with both values", () => {
  for (const warmupSteps of [4, -1, Number.NaN])
    for (const schedule of [linearSchedule, cosineSchedule, polynomialSchedule])
      assert.throws(
        () => schedule({ lr: 1, warmupSteps, totalSteps: 3 }),
        new RegExp(`schedule: ${warmupSteps} warm-up steps of 3 steps in all`),
      );
  assert.throws(() => constantSchedule(1, { warmupSteps: -1 }), /schedule: -1 warm-up steps/);
  assert.throws(() => cosineSchedule({ ...options, end: 2 }), /schedule: end is 2, expected 0..1/);
  assert.throws(() => polynomialSchedule({ ...options, power: 0 }), /schedule: power is 0/);
  assert.throws(() => inverseSquareRootSchedule({ lr: 1, timescale: 0 }), /schedule: timescale is 0/);
});

schedules.run();

// What benchmarks make of their samples.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { median, medianInterval, spread } from "../bench/statistics.ts";
import { Stream } from "../src/autograd/index.ts";

const statistics = suite("bench: statistics");

statistics("median and spread, of odd and even numbers of values in any order", () => {
  assert.is(median([3, 1, 2]), 2);
  assert.is(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
  assert.is(spread([8, 10, 11, 10, 2]), 0.1);
});

statistics("the interval leaves out as many values at either end as 95% allows", () => {
  const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => n - i);
  // The tables of the sign test: with n values, k at either end.
  for (const [n, k] of [
    [1, 1],
    [5, 1],
    [6, 1],
    [8, 1],
    [9, 2],
    [11, 2],
    [12, 3],
    [20, 6],
    [50, 18],
  ] as const)
    assert.equal(medianInterval(upTo(n)), [k, n + 1 - k], `${n} values`);
});

statistics("the interval holds the median as often as it says", () => {
  const stream = Stream.seed(5);
  let held = 0;
  for (let i = 0; i < 2000; i++) {
    const [low, high] = medianInterval([...stream.fold(i).normal(15)].map(Math.exp)); // lopsided; its median is 1
    if (low <= 1 && 1 <= high) held++;
  }
  assert.ok(held >= 0.95 * 2000 - 20 && held < 0.985 * 2000, `${held} of 2000`);
});

statistics.run();

/** Batches: padding, shuffled and sorted orders, masks; and the random numbers behind them. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  bucketedEpochs,
  collate,
  createRng,
  type Encoded,
  epochs,
  IGNORE,
  maskTokens,
  mixSeed,
  paddedLength,
  permutation,
  sequentialBatches,
  validateIds,
  validateLabels,
} from "../src/data/index.ts";
import { lastSentenceOf } from "../src/data/masking.ts";

const list = (values: Iterable<number>): number[] => [...values];
const sorted = (values: Iterable<number>): number[] => [...values].sort((a, b) => a - b);
const range = (n: number): number[] => [...Array(n).keys()];

/** Examples whose ids count up from 10 times their index. */
const examplesOf = (lengths: readonly number[], label?: (index: number) => number): Encoded[] =>
  lengths.map((length, index) => {
    const ids = Int32Array.from({ length }, (_, i) => 10 * index + i);
    return label === undefined ? { ids } : { ids, label: label(index) };
  });

const random = suite("data: random numbers");

random("a permutation holds every number once, and depends on the seed", () => {
  for (const n of [0, 1, 2, 7, 100]) assert.equal(sorted(permutation(n, createRng(4))), range(n));
  assert.equal(permutation(20, createRng(4)), permutation(20, createRng(4)));
  assert.not.equal(permutation(20, createRng(4)), permutation(20, createRng(5)));
});

random("all orders of three are equally frequent", () => {
  const rng = createRng(1);
  const counts = new Map<string, number>();
  for (let i = 0; i < 6000; i++) {
    const order = permutation(3, rng).join("");
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  assert.is(counts.size, 6);
  for (const [order, count] of counts) assert.ok(Math.abs(count - 1000) < 130, `${order}: ${count}`); // 4.5 sd
});

random("seeds differ by every part and by the order of the parts", () => {
  const seeds = new Set([
    mixSeed(1, 2),
    mixSeed(2, 1),
    mixSeed(1),
    mixSeed(1, 2, 0),
    mixSeed(0, 0),
    mixSeed(0),
  ]);
  assert.is(seeds.size, 6);
});

random("normal numbers have mean 0 and variance 1", () => {
  const rng = createRng(2);
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < 20_000; i++) {
    const x = rng.normal();
    sum += x;
    squares += x * x;
  }
  assert.ok(Math.abs(sum / 20_000) < 0.03, `mean ${sum / 20_000}`);
  assert.ok(Math.abs(squares / 20_000 - 1) < 0.04, `variance ${squares / 20_000}`);
});

random("picking from nothing is an error", () => {
  assert.throws(() => createRng(1).pick([]), /random: cannot pick from an empty list/);
});

random.run();

const padding = suite("data: padded batches");

padding("lengths are rounded up to a multiple and stay below the maximum", () => {
  assert.equal(
    [1, 8, 9, 25].map((n) => paddedLength(n)),
    [8, 8, 16, 32],
  );
  assert.is(paddedLength(25, { multiple: 8, maxLength: 30 }), 30);
  assert.is(paddedLength(5, { multiple: 1 }), 5);
});

padding("rows are padded at the end and masked there", () => {
  const batch = collate(
    examplesOf([2, 5, 3], (i) => i % 2),
    [2, 0],
    { padId: 1, multiple: 4 },
  );
  assert.is(batch.size, 2);
  assert.is(batch.length, 4);
  assert.equal(list(batch.inputIds), [20, 21, 22, 1, 0, 1, 1, 1]);
  assert.equal(list(batch.attentionMask), [1, 1, 1, 0, 1, 1, 0, 0]);
  assert.equal(list(batch.labels ?? []), [0, 0]);
  assert.equal(list(batch.indices), [2, 0]);
  assert.is(batch.valid, 2);
  assert.is(batch.typeIds, null);
  assert.is(batch.targets, null);
});

padding("labels may be absent, numbers, or token types beside the ids", () => {
  assert.is(collate(examplesOf([2]), [0], { padId: 0 }).labels, null);
  const scores = collate(
    examplesOf([2, 1], (i) => i + 0.5),
    [1, 0],
    { padId: 0, regression: true },
  );
  assert.equal(list(scores.targets ?? []), [1.5, 0.5]);
  assert.is(scores.labels, null);
  const typed = [{ ids: Int32Array.of(5, 6), types: Int32Array.of(0, 1) }, { ids: Int32Array.of(7) }];
  assert.equal(list(collate(typed, [1, 0], { padId: 0, multiple: 2 }).typeIds ?? []), [0, 0, 0, 1]);
});

padding("what cannot be a batch is an error that names the row", () => {
  assert.throws(
    () => collate(examplesOf([2, 9]), [0, 1], { padId: 0, maxLength: 8 }),
    /row 1 has 9 tokens, more than maxLength 8/,
  );
  assert.throws(() => collate(examplesOf([2]), [3], { padId: 0 }), /there is no example 3; there are 1/);
  const partly = [...examplesOf([1], () => 0), ...examplesOf([1])];
  assert.throws(() => collate(partly, [0, 1], { padId: 0 }), /row 1 has no label, others have/);
});

padding("sorted batches hold every example once; repeated rows do not count", () => {
  const examples = examplesOf([5, 1, 9, 3, 3, 12, 2], (i) => i % 3);
  const batches = [...sequentialBatches(examples, 3, { padId: 0, multiple: 4 })];
  assert.equal(
    batches.map(({ size, length, valid }) => [size, length, valid]),
    [
      [3, 4, 3],
      [3, 12, 3],
      [3, 12, 1],
    ],
  );
  assert.equal(list(batches[0]?.indices ?? []), [1, 6, 3]);
  assert.equal(list(batches[2]?.indices ?? []), [5, 5, 5]);
  assert.equal(sorted(batches.flatMap(({ indices, valid }) => list(indices.subarray(0, valid)))), range(7));
  assert.equal([...sequentialBatches([], 3, { padId: 0 })], []);
});

padding.run();

const orders = suite("data: epochs");

orders("every batch is full and every example comes once per epoch", () => {
  for (const [n, batchSize] of [
    [7, 3],
    [5, 5],
    [2, 5],
    [1, 1],
    [96, 8],
  ] as const) {
    const order = epochs({ n, batchSize, seed: 3 });
    const drawn = range(n).flatMap((step) => list(order.batch(step))); // n batches are batchSize epochs
    for (let epoch = 0; epoch < batchSize; epoch++) {
      assert.equal(
        sorted(drawn.slice(epoch * n, (epoch + 1) * n)),
        range(n),
        `epoch ${epoch} of ${n} by ${batchSize}`,
      );
    }
  }
});

orders("a batch depends on the seed and the step, not on what was asked before", () => {
  const order = epochs({ n: 11, batchSize: 4, seed: 9 });
  const forwards = range(20).map((step) => list(order.batch(step)));
  const backwards = range(20)
    .reverse()
    .map((step) => list(order.batch(step)))
    .reverse();
  assert.equal(backwards, forwards);
  const iterated: number[][] = [];
  for (const batch of epochs({ n: 11, batchSize: 4, seed: 9 })) if (iterated.push(list(batch)) === 20) break;
  assert.equal(iterated, forwards);
  assert.not.equal(list(epochs({ n: 11, batchSize: 4, seed: 10 }).batch(0)), forwards[0]);
  assert.not.equal(list(order.batch(11)), forwards[0]); // Step 11 begins epoch 4: another permutation.
  assert.equal(
    [0, 2, 3, 11].map((step) => order.epochOf(step)),
    [0, 0, 1, 4],
  );
});

orders("sizes and steps that make no sense are errors", () => {
  assert.throws(() => epochs({ n: 0, batchSize: 4, seed: 1 }), /batches: n is 0, not at least 1/);
  assert.throws(() => epochs({ n: 3, batchSize: 1.5, seed: 1 }), /batchSize is 1.5/);
  assert.throws(() => epochs({ n: 3, batchSize: 2, seed: 1 }).batch(-1), /-1 is no step/);
  assert.throws(
    () => bucketedEpochs({ lengths: [1, 2], batchSize: 3, seed: 1 }),
    /2 examples do not fill a batch of 3/,
  );
});

orders("bucketed batches hold similar lengths, each example at most once an epoch", () => {
  const rng = createRng(6);
  const lengths = range(203).map(() => 1 + rng.int(30));
  const order = bucketedEpochs({ lengths, batchSize: 4, seed: 1, pool: 10 });
  const steps = range(1000).findIndex((step) => order.epochOf(step) === 1);
  assert.is(steps, 50);
  const spread = (batch: Int32Array) =>
    Math.max(...list(batch).map((i) => lengths[i] ?? 0)) -
    Math.min(...list(batch).map((i) => lengths[i] ?? 0));
  for (const epoch of [0, 1]) {
    const batches = range(steps).map((step) => order.batch(epoch * steps + step));
    assert.is(new Set(batches.flatMap(list)).size, 200);
    const mean = batches.reduce((sum, batch) => sum + spread(batch), 0) / steps;
    assert.ok(mean < 5, `mean spread of lengths ${mean}`); // About 18 in random batches.
  }
  assert.not.equal(list(order.batch(0)), list(order.batch(steps)));
});

orders.run();

const checks = suite("data: checks");

checks("a label outside the classes is named with its row", () => {
  validateLabels([0, 2, 1], 3);
  assert.throws(() => validateLabels([0, 3], 3), /labels: row 1 has the label 3, not one of 0 .. 2/);
  assert.throws(() => validateLabels([-1], 3), /row 0 has the label -1/);
  assert.throws(() => validateLabels([0, null], 3), /row 1 has the label null/);
  assert.throws(() => validateLabels([0.5], 3), /row 0 has the label 0.5/);
});

checks("an id outside the vocabulary is named with its row and place", () => {
  validateIds([Int32Array.of(0, 9), []], 10);
  assert.throws(
    () => validateIds([[1], [2, 10]], 10),
    /ids: row 1 has the id 10 at place 1, not one of 0 .. 9 of/,
  );
  assert.throws(() => validateIds([[-100]], 10), /row 0 has the id -100 at place 0/);
});

checks.run();

const masking = suite("data: masking");

const V = 50;
const DOT = 9;
const options = { maskId: 4, vocabSize: V, specialIds: range(5), seed: 1 };
/** Rows of n tokens from 10 on, two sentences each, between <s> and </s> and some padding. */
const textBatch = (rows: number, n: number) => {
  const row = [
    0,
    ...range(n).map((i) => 10 + (i % 40)),
    DOT,
    ...range(n).map((i) => 10 + (i % 40)),
    DOT,
    2,
    1,
    1,
  ];
  return { inputIds: Int32Array.from(Array(rows).fill(row).flat()), size: rows, length: row.length };
};

masking("specials and padding are neither predicted nor changed", () => {
  const batch = textBatch(7, 30);
  const { inputIds, labels, count } = maskTokens(batch, options);
  let predicted = 0;
  batch.inputIds.forEach((id, i) => {
    const label = labels[i];
    if (label === IGNORE) {
      assert.is(inputIds[i], id, `place ${i}`);
      return;
    }
    predicted++;
    assert.is(label, id, `place ${i}`);
    assert.ok(id >= 5, `special ${id} at ${i}`);
  });
  assert.is(predicted, count);
  assert.equal(batch.inputIds, textBatch(7, 30).inputIds); // The batch itself stays as it is.
});

masking("of the predicted tokens 80% are masked, 10% kept, 10% random", () => {
  const batch = textBatch(300, 60);
  const { inputIds, labels, count } = maskTokens(batch, { ...options, randomFrom: 40 });
  const total = 300 * 122;
  assert.ok(Math.abs(count / total - 0.15) < 0.01, `rate ${count / total}`);
  let masked = 0;
  let replaced = 0;
  labels.forEach((label, i) => {
    if (label === IGNORE) return;
    const id = inputIds[i] ?? -1;
    if (id === 4) masked++;
    else if (id !== label) {
      replaced++;
      assert.ok(id >= 40 && id < V, `random id ${id}`);
    }
  });
  assert.ok(Math.abs(masked / count - 0.8) < 0.03, `masked ${masked / count}`);
  assert.ok(Math.abs(replaced / count - 0.1) < 0.03, `replaced ${replaced / count}`);
});

masking("the last sentence has a rate of its own, without its separators", () => {
  const batch = textBatch(200, 40);
  const { labels } = maskTokens(batch, {
    ...options,
    rate: 0,
    lastSentence: { separatorId: DOT, rate: 0.4 },
  });
  let inside = 0;
  labels.forEach((label, i) => {
    if (label === IGNORE) return;
    const place = i % batch.length;
    assert.ok(place > 41 && place < 82, `place ${place}`);
    inside++;
  });
  assert.ok(Math.abs(inside / (200 * 40) - 0.4) < 0.03, `rate ${inside / (200 * 40)}`);
  assert.equal(lastSentenceOf(Int32Array.of(0, 7, DOT, 8, DOT, 2), DOT), [3, 4]);
  assert.equal(lastSentenceOf(Int32Array.of(0, 7, DOT, 2), DOT), [0, 0]);
  assert.equal(lastSentenceOf(Int32Array.of(0, 7), DOT), [0, 0]);
  assert.equal(lastSentenceOf(Int32Array.of(DOT), DOT), [0, 0]);
});

masking("masks depend on the seed alone", () => {
  const batch = textBatch(3, 20);
  assert.equal(maskTokens(batch, options), maskTokens(batch, options));
  assert.not.equal(maskTokens(batch, options), maskTokens(batch, { ...options, seed: 2 }));
});

masking("at least one token is predicted wherever there is one", () => {
  const one = { inputIds: Int32Array.of(0, 7, 2), size: 1, length: 3 };
  const masked = maskTokens(one, { ...options, rate: 0 });
  assert.is(masked.count, 1);
  assert.equal(list(masked.labels), [IGNORE, 7, IGNORE]);
  assert.is(maskTokens({ inputIds: Int32Array.of(0, 2), size: 1, length: 2 }, options).count, 0);
  assert.throws(() => maskTokens(one, { ...options, randomFrom: 50 }), /masking: no id from 50 below 50/);
});

masking.run();

/** Encoded examples to batches of few shapes, in an order that depends on the seed and the step alone. */

import { createRng, mixSeed, permutation, shuffle } from "./random.ts";

/** One encoded example. */
export interface Encoded {
  readonly ids: Int32Array;
  /** A class index, or a number to regress on; absent in unlabelled data. */
  readonly label?: number | null;
  /** Token types, for models that have them. */
  readonly types?: Int32Array;
}

/** Rows padded to one length. All tables are row-major [size, length]. */
export interface Batch {
  /** Token ids, padded at the end. */
  readonly inputIds: Int32Array;
  /** 1 for a token, 0 for padding. */
  readonly attentionMask: Int32Array;
  /** Token types; null when no example has any. */
  readonly typeIds: Int32Array | null;
  /** Class indices [size]; null for unlabelled data and for regression. */
  readonly labels: Int32Array | null;
  /** Numbers to regress on [size]; null unless asked for. */
  readonly targets: Float32Array | null;
  readonly size: number;
  readonly length: number;
  /** Which example each row is [size]. */
  readonly indices: Int32Array;
  /** The rows from here on repeat the last one and count for nothing. */
  readonly valid: number;
}

export interface CollateOptions {
  readonly padId: number;
  /** Lengths are rounded up to a multiple of this, so that batches come in few shapes. */
  readonly multiple?: number;
  /** No batch is longer than this; a longer row is an error. */
  readonly maxLength?: number;
  /** Whether labels are numbers to regress on, not classes. */
  readonly regression?: boolean;
  /** How many rows are no repetitions; all by default. */
  readonly valid?: number;
}

/** The longest row rounded up to a multiple, and never above `maxLength`. */
export function paddedLength(
  longest: number,
  { multiple = 8, maxLength = Number.POSITIVE_INFINITY }: Pick<CollateOptions, "multiple" | "maxLength"> = {},
): number {
  return Math.min(Math.ceil(longest / multiple) * multiple, maxLength);
}

/** A batch of the examples at `indices`, in their order. */
export function collate(
  examples: readonly Encoded[],
  indices: ArrayLike<number>,
  options: CollateOptions,
): Batch {
  const { padId, maxLength = Number.POSITIVE_INFINITY, regression = false } = options;
  const rows = Array.from(indices, (index) => exampleAt(examples, index));
  let longest = 0;
  rows.forEach(({ ids }, row) => {
    if (ids.length > maxLength) {
      throw new RangeError(
        `batches: row ${indices[row]} has ${ids.length} tokens, more than maxLength ${maxLength} (cut it when encoding)`,
      );
    }
    longest = Math.max(longest, ids.length);
  });
  const size = rows.length;
  const length = paddedLength(longest, options);
  const inputIds = new Int32Array(size * length).fill(padId);
  const attentionMask = new Int32Array(size * length);
  const typeIds = rows.some(({ types }) => types !== undefined) ? new Int32Array(size * length) : null;
  rows.forEach(({ ids, types }, row) => {
    inputIds.set(ids, row * length);
    attentionMask.fill(1, row * length, row * length + ids.length);
    if (types !== undefined) typeIds?.set(types, row * length);
  });
  const isLabelled = rows.some(({ label }) => label !== undefined && label !== null);
  const label = ({ label }: Encoded, row: number) => labelOf(label, indices[row]);
  return {
    inputIds,
    attentionMask,
    typeIds,
    labels: isLabelled && !regression ? Int32Array.from(rows, label) : null,
    targets: isLabelled && regression ? Float32Array.from(rows, label) : null,
    size,
    length,
    indices: Int32Array.from(indices),
    valid: options.valid ?? size,
  };
}

function exampleAt(examples: readonly Encoded[], index: number): Encoded {
  const example = examples[index];
  if (example === undefined) {
    throw new RangeError(`batches: there is no example ${index}; there are ${examples.length}`);
  }
  return example;
}

function labelOf(label: number | null | undefined, row: number | undefined): number {
  if (label === null || label === undefined) {
    throw new RangeError(`batches: row ${row} has no label, others have`);
  }
  return label;
}

/** An endless order of examples in full batches. */
export interface Epochs extends Iterable<Int32Array> {
  /** The examples of batch `step`, from 0 on: the same however it is reached. */
  batch(step: number): Int32Array;
  /** The epoch in which batch `step` begins. */
  epochOf(step: number): number;
}

export interface EpochsOptions {
  /** How many examples there are. */
  readonly n: number;
  readonly batchSize: number;
  readonly seed: number;
}

/**
 * Shuffled epochs without an end: each is a new permutation, and a batch that an epoch cannot fill goes on
 * in the next one. So every batch is full, and every example comes once per epoch.
 */
export function epochs({ n, batchSize, seed }: EpochsOptions): Epochs {
  checkCount("n", n);
  checkCount("batchSize", batchSize);
  const order = cachedEpochs((epoch) => permutation(n, createRng(mixSeed(seed, epoch))));
  return endless({
    epochOf: (step) => Math.floor((step * batchSize) / n),
    batch(step) {
      const indices = new Int32Array(batchSize);
      for (let row = 0; row < batchSize; row++) {
        const place = step * batchSize + row;
        indices[row] = order(Math.floor(place / n))[place % n] as number; // place % n < n
      }
      return indices;
    },
  });
}

export interface BucketedEpochsOptions {
  /** The length of each example. */
  readonly lengths: ArrayLike<number>;
  readonly batchSize: number;
  readonly seed: number;
  /** How many batches are sorted together; 20 as in the pretraining recipe. */
  readonly pool?: number;
}

/**
 * Shuffled epochs whose batches hold examples of similar length: the examples are shuffled, sorted within
 * pools of `pool` batches, cut into batches, and the batches shuffled. What fills no batch waits for a later
 * epoch. Needs at least `batchSize` examples.
 */
export function bucketedEpochs({ lengths, batchSize, seed, pool = 20 }: BucketedEpochsOptions): Epochs {
  const n = lengths.length;
  checkCount("batchSize", batchSize);
  checkCount("pool", pool);
  if (n < batchSize) throw new RangeError(`batches: ${n} examples do not fill a batch of ${batchSize}`);
  const lengthOf = (index: number) => lengths[index] ?? 0;

  function makeEpoch(epoch: number): Int32Array[] {
    const rng = createRng(mixSeed(seed, epoch));
    const order = permutation(n, rng);
    const batches: Int32Array[] = [];
    for (let start = 0; start < n; start += batchSize * pool) {
      const part = order
        .slice(start, start + batchSize * pool)
        .sort((a, b) => lengthOf(a) - lengthOf(b) || a - b);
      for (let i = 0; i + batchSize <= part.length; i += batchSize)
        batches.push(part.slice(i, i + batchSize));
    }
    return shuffle(batches, rng);
  }
  const epochBatches = cachedEpochs(makeEpoch);
  const stepsPerEpoch = epochBatches(0).length;
  return endless({
    epochOf: (step) => Math.floor(step / stepsPerEpoch),
    batch: (step) =>
      (epochBatches(Math.floor(step / stepsPerEpoch))[step % stepsPerEpoch] as Int32Array).slice(), // step % n < n
  });
}

/** Keeps the last two epochs: a batch may span both. */
function cachedEpochs<T>(make: (epoch: number) => T): (epoch: number) => T {
  const kept = new Map<number, T>();
  return (epoch) => {
    let made = kept.get(epoch);
    if (made === undefined) {
      made = make(epoch);
      kept.set(epoch, made);
      for (const old of kept.keys()) if (kept.size > 2) kept.delete(old);
    }
    return made;
  };
}

function endless(source: Pick<Epochs, "batch" | "epochOf">): Epochs {
  const check = (step: number): number => {
    if (!Number.isInteger(step) || step < 0) throw new RangeError(`batches: ${step} is no step`);
    return step;
  };
  const batch = (step: number) => source.batch(check(step));
  return {
    batch,
    epochOf: (step) => source.epochOf(check(step)),
    *[Symbol.iterator]() {
      for (let step = 0; ; step++) yield batch(step);
    },
  };
}

function checkCount(name: string, value: number): void {
  if (!Number.isInteger(value) || value < 1)
    throw new RangeError(`batches: ${name} is ${value}, not at least 1`);
}

/**
 * Every example once, sorted by length so that little is padded, for evaluation. The last batch is filled up
 * with its last row; `valid` says how many rows count. No example gives no batch.
 */
export function* sequentialBatches(
  examples: readonly Encoded[],
  batchSize: number,
  options: Omit<CollateOptions, "valid">,
): Generator<Batch, void, undefined> {
  checkCount("batchSize", batchSize);
  const order = examples.map((_, index) => index);
  order.sort((a, b) => exampleAt(examples, a).ids.length - exampleAt(examples, b).ids.length || a - b);
  for (let start = 0; start < order.length; start += batchSize) {
    const indices = order.slice(start, start + batchSize);
    const valid = indices.length;
    const last = indices[valid - 1] ?? 0;
    while (indices.length < batchSize) indices.push(last);
    yield collate(examples, indices, { ...options, valid });
  }
}

/** Checks that every label is a class index; the error names the first row that is wrong, as one of `what`. */
export function validateLabels(
  labels: ArrayLike<number | null | undefined>,
  classes: number,
  what = "labels: row",
): void {
  for (let row = 0; row < labels.length; row++) {
    const label = labels[row];
    if (typeof label !== "number" || !Number.isInteger(label) || label < 0 || label >= classes) {
      throw new RangeError(`${what} ${row} has the label ${label}, not one of 0 .. ${classes - 1}`);
    }
  }
}

/** Checks that every id has a row in an embedding table; the error names the first one that has not, in a row of `what`. */
export function validateIds(rows: Iterable<ArrayLike<number>>, vocabSize: number, what = "ids: row"): void {
  let row = 0;
  for (const ids of rows) {
    for (let place = 0; place < ids.length; place++) {
      const id = ids[place];
      if (id === undefined || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
        throw new RangeError(
          `${what} ${row} has the id ${id} at place ${place}, not one of 0 .. ${vocabSize - 1} of the vocabulary`,
        );
      }
    }
    row++;
  }
}

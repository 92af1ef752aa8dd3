// Kernels chosen by time: what is decided by given times, what a record keeps and refuses, and that it repeats a run.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../src/array/index.ts";
import { matmul, noGrad, Stream, tidy, zeros } from "../src/autograd/index.ts";
import { GpuError, ShapeError } from "../src/gpu/index.ts";
import { FormatError } from "../src/io/index.ts";
import { RobertaForSequenceClassification } from "../src/models/index.ts";
import { initBertWeights } from "../src/nn/index.ts";
import { formsInForce, race, type Stopwatch } from "../src/ops/index.ts";
import { AdaptationSet, adamixLora, lora, type PeftMethod } from "../src/peft/index.ts";
import {
  type FineTuneOptions,
  fineTune,
  type KernelRecord,
  tuneKernels,
  useKernels,
} from "../src/train/index.ts";
import { assertBitEqual } from "./compare.ts";
import { bothKernels, liveBytes, gpu as testGpu } from "./device.ts";
import { bytesOf, tinyConfig } from "./peft.table.ts";

const gpu = await testGpu();

const races = suite("races of kernels");

/** Runs a race in which `times` says how long each contender takes in each round, and who was timed. */
async function raced(times: Readonly<Record<string, readonly number[]>>, options: object = {}) {
  const order: string[] = [];
  const turns = new Map<string, number>();
  const stopwatch: Stopwatch = async (run, name) => {
    run();
    order.push(name);
    const turn = turns.get(name) ?? 0;
    turns.set(name, turn + 1);
    return times[name]?.[turn] ?? Number.NaN;
  };
  const names = Object.keys(times);
  const rounds = Math.max(...Object.values(times).map(({ length }) => length));
  const contenders = names.map((name) => ({ name, run: () => {} }));
  return { ...(await race(gpu, contenders, { rounds, stopwatch, ...options })), order };
}

races("the first stays unless another one is faster by the margin, in medians", async () => {
  const winner = async (table: readonly number[], other: readonly number[], options?: object) =>
    (await raced({ table, other }, options)).winner;
  assert.is(await winner([100, 100, 100], [96, 96, 96]), "table");
  assert.is(await winner([100, 100, 100], [94, 94, 94]), "other");
  assert.is(await winner([100, 100, 100], [94, 94, 94], { margin: 0.1 }), "table");
  assert.is(await winner([100, 100, 100], [99, 99, 99], { margin: 0 }), "other");
  assert.is(await winner([100, 100, 100], [100, 100, 100], { margin: 0 }), "table");
  assert.is(await winner([100, 100, 100], [100, 60, 100]), "table", "one lucky round");
  assert.is(await winner([100, 100, 100], [90, 190, 90]), "other", "one unlucky round");
  assert.is(await winner([100, 100], [88, 100]), "other", "an even number: the mean of two");
});

races(
  "in turn, another first in each round; hopeless ones are not timed again, the first always",
  async () => {
    const times = { table: [50, 50, 50], slow: [51, 51, 51], fast: [20, 20, 20] };
    const { winner, ms, order } = await raced(times);
    assert.is(winner, "fast");
    assert.equal(ms, { table: 50, slow: 51, fast: 20 });
    assert.equal(order, ["table", "slow", "fast", "slow", "fast", "table", "fast", "table"]);
  },
);

races.run();

const records = suite("records of kernels");

/** A step of three products: two of a class, one of another. */
function step(on: Gpu): void {
  const product = (M: number, K: number, N: number): void => {
    matmul(zeros(on, [M, K]), zeros(on, [N, K]), { transposeB: true });
  };
  tidy(() => {
    noGrad(() => {
      product(40, 36, 32);
      product(36, 36, 32);
      product(16, 16, 20);
    });
  });
}

/** By this stopwatch the forms whose name ends so take a millisecond, all others two. */
const preferring =
  (form: string): Stopwatch =>
  async (run, name) => {
    run();
    return name.endsWith(form) ? 1 : 2;
  };

/** Kernels of products that `body` records. */
function productsOf({ device }: Gpu, body: () => void): string[] {
  const labels: string[] = [];
  const onlooker = { onRecorded: ({ kernel }: { kernel: { label: string } }) => labels.push(kernel.label) };
  void device.watch.add(onlooker);
  body();
  void device.watch.remove(onlooker);
  return labels.filter((label) => label.startsWith("matmul"));
}

const kernels = await bothKernels();

for (const [name, on] of Object.entries(kernels))
  records(
    `${name}: the heaviest classes, each with its forms; the same times give the same record`,
    async () => {
      step(on);
      on.device.trim();
      const before = { live: liveBytes(on), compiled: on.device.statistics().kernels };
      const stopwatch = preferring("plain");
      const record = await tuneKernels(on, () => step(on), { rounds: 1, stopwatch });
      const { live, compiled } = before;
      assert.is(liveBytes(on), live, "memory");
      assert.is(formsInForce(on), null, "nothing is in force yet");
      const tried = Object.values(record.products).flatMap(({ ms }) => Object.keys(ms));
      // A kernel for each form, and two that pack.
      assert.ok(on.device.statistics().kernels - compiled <= tried.length + 4, "kernels");
      assert.equal(Object.keys(record.products), ["nt 32x32x32", "nt 16x16x16"]);
      const [first, second] = Object.values(record.products);
      assert.equal([first?.size, first?.form, first?.share], ["40x36x32", "plain", 0.9448]);
      assert.is(second?.share, 0.0552);
      assert.ok(first?.table !== "plain" || on.subgroupSize > 8);
      assert.is(first?.ms.plain, 1);
      assert.is(record.adapter.kernels, name);
      assert.is(record.passes, null);
      const again = await tuneKernels(on, () => step(on), { rounds: 3, stopwatch });
      assert.equal(again, record);
      const one = await tuneKernels(on, () => step(on), { rounds: 1, stopwatch, most: 1 });
      assert.equal(Object.keys(one.products), ["nt 32x32x32"]);
      const stays = await tuneKernels(on, () => step(on), { rounds: 1, stopwatch: async () => 1 });
      for (const { form, table } of Object.values(stays.products)) assert.is(form, table);
    },
  );

records("a long sum that a GPU takes in parts is heard as its parts", async () => {
  const on = kernels.hardware;
  const [M, K, N] = [8, 2048, 20];
  const longSum = (): void =>
    tidy(() => {
      noGrad(() => matmul(zeros(on, [K, M]), zeros(on, [K, N]), { transposeA: true }));
    });
  const { products } = await tuneKernels(on, longSum, { rounds: 1, stopwatch: preferring("plain") });
  assert.equal(Object.keys(products), ["tn 8x256x16, batch 8"]);
  assert.is(products["tn 8x256x16, batch 8"]?.share, 1);
});

records("a record is in force until another one is, on its own Gpu, and goes through JSON", async () => {
  const on = kernels.hardware;
  const stopwatch = preferring("plain");
  const record = await tuneKernels(on, () => step(on), { rounds: 1, stopwatch, most: 1 });
  const table = productsOf(on, () => step(on));
  assert.equal(table, Array(3).fill("matmul_tiled.tiled"));
  useKernels(on, JSON.parse(JSON.stringify(record)));
  const chosen = productsOf(on, () => step(on));
  assert.equal(chosen, ["matmul.plain", "matmul.plain", "matmul_tiled.tiled"]);
  const other = new Gpu(on.device, { kernels: "hardware" });
  assert.equal(
    productsOf(other, () => step(other)),
    table,
  );
  useKernels(on, null);
  assert.equal(
    productsOf(on, () => step(on)),
    table,
  );
});

records("what is no record of this adapter is refused, and what was in force stays", async () => {
  const { software, hardware } = kernels;
  const record = await tuneKernels(hardware, () => step(hardware), {
    rounds: 1,
    stopwatch: preferring("plain"),
  });
  useKernels(hardware, record);
  const inForce = formsInForce(hardware);
  const refused = (on: Gpu, given: unknown, message: RegExp, type: new () => Error): void => {
    assert.throws(
      () => useKernels(on, given as KernelRecord),
      (error: Error) =>
        (error instanceof type && message.test(error.message)) || assert.unreachable(error.message),
    );
  };
  refused(
    software,
    record,
    /useKernels: the record of kernels is of .* \(hardware kernels.* this device is .* \(software kernels/,
    GpuError,
  );
  const elsewhere = { ...record, adapter: { ...record.adapter, name: "another" } };
  refused(
    hardware,
    elsewhere,
    /the record of kernels is of another \(.*, this device is .*; tune on this one/,
    GpuError,
  );
  const [[name, product] = ["", undefined]] = Object.entries(record.products);
  const unknown = { ...record, products: { [name]: { ...product, form: "cubes" } } };
  refused(
    hardware,
    unknown,
    /products > nt 32x32x32 > form: "cubes" is no form .* there are vector, /,
    FormatError,
  );
  refused(hardware, { ...record, passes: undefined }, /is no record of kernels: passes: /, FormatError);
  refused(hardware, 7, /useKernels: the record is no record of kernels: /, FormatError);
  assert.is(formsInForce(hardware), inForce);
  useKernels(hardware, null);
});

records("a step without products, and options that make no sense", async () => {
  const refused = async (message: RegExp, options: object, body = (): void => step(gpu)): Promise<void> => {
    let told = "";
    await tuneKernels(gpu, body, options).catch((error: unknown) => {
      if (error instanceof ShapeError) told = error.message;
    });
    assert.match(told, message);
  };
  await refused(/the step has recorded no matrix product/, {}, () => {});
  await refused(/tuneKernels: rounds is 0, expected 1 or more/, { rounds: 0 });
  await refused(/tuneKernels: margin is 1, expected a share/, { margin: 1 });
  await refused(/tuneKernels: most is 1.5, expected 1 or more/, { most: 1.5 });
});

records.run();

const training = suite("tuned training");

/** Sequences of two lengths; the label is the first token's. */
const train = Array.from({ length: 12 }, (_, i) => ({
  ids: Int32Array.from({ length: 4 + ((i * 5) % 4) }, (_, t) =>
    t === 0 ? 2 + (i % 3) : 3 + ((7 * i + t) % 13),
  ),
  label: i % 3,
}));

/** A training of six steps: its losses, what it learned, and the kernels of its products. */
async function trained(
  options: Partial<FineTuneOptions>,
  method: PeftMethod = adamixLora({ rank: 2, experts: 3 }),
) {
  const model = new RobertaForSequenceClassification(gpu, tinyConfig(0.1));
  initBertWeights(model, Stream.seed(11), 0.3);
  model.setRequiresGrad(false);
  model.classifier.setRequiresGrad(true);
  const set = new AdaptationSet(gpu, model, method, { stream: Stream.seed(1) });
  const losses: number[] = [];
  const settings = {
    train,
    steps: 6,
    batchSize: 4,
    multiple: 1,
    lr: 0.02,
    seed: 3,
    capture: false,
    ...options,
  };
  let result: Awaited<ReturnType<typeof fineTune>> | null = null;
  try {
    result = await fineTune(gpu, model, set, { ...settings, onStep: ({ loss }) => losses.push(loss) });
    const bytes = [...(await bytesOf(set.namedParameters())).values()].flatMap((values) => [...values]);
    const { kernels: record, drawn } = result;
    return { losses: Float32Array.from(losses), bytes: Float32Array.from(bytes), record, drawn };
  } finally {
    result?.optimiser.dispose();
    set.dispose();
    model.dispose();
  }
}

/** Every product by the plain kernel, passes one after the other. */
const plain: Stopwatch = async (run, name) => {
  run();
  return /plain$|other$/.test(name) ? 1 : 2;
};

training("where the table wins, tuning leaves no trace: the same bits as without", async () => {
  const untouched = await trained({});
  assert.is(untouched.record, null);
  const tuned = await trained({ tune: { rounds: 1, stopwatch: preferring("none of them") } });
  assertBitEqual(tuned.losses, untouched.losses, "losses");
  assertBitEqual(tuned.bytes, untouched.bytes, "experts");
  assert.equal(tuned.drawn, untouched.drawn);
  assert.is(tuned.record?.passes?.winner, "in one batch");
});

training("a record repeats the run that wrote it to the bit, captured or not", async () => {
  const told: KernelRecord[] = [];
  const onTuned = (record: KernelRecord): void => {
    told.push(record);
  };
  const tuned = await trained({ tune: { rounds: 1, stopwatch: plain, onTuned } });
  assert.is(formsInForce(gpu), null, "the table's again");
  assert.equal(told, [tuned.record]);
  const record: KernelRecord = JSON.parse(JSON.stringify(tuned.record));
  assert.is(record.passes?.winner, "one after the other");
  const forms = Object.values(record.products).map(({ form, ms }) => form === "plain" || !("plain" in ms));
  assert.ok(forms.length > 3 && forms.every(Boolean));
  for (const capture of [false, true]) {
    const again = await trained({ kernels: record, capture });
    assertBitEqual(again.losses, tuned.losses, "losses");
    assertBitEqual(again.bytes, tuned.bytes, "experts");
    assert.equal(again.record, record);
  }
  const labels = async (options: Partial<FineTuneOptions>): Promise<string[]> => {
    const all = new Set<string>();
    const onlooker = { onRecorded: ({ kernel }: { kernel: { label: string } }) => all.add(kernel.label) };
    await gpu.device.watch.add(onlooker);
    await trained(options);
    await gpu.device.watch.remove(onlooker);
    return [...all].filter((label) => label.startsWith("matmul"));
  };
  assert.ok((await labels({ kernels: record })).includes("matmul.plain"));
  assert.not((await labels({})).includes("matmul.plain"), "by the table");
});

training("passes are chosen where there are two and nothing is said", async () => {
  const tune = { rounds: 1, stopwatch: plain, batches: 1, most: 1 };
  const passesOf = async (options: object, method?: PeftMethod) =>
    (await trained({ steps: 1, tune, ...options }, method)).record?.passes ?? null;
  assert.equal(await passesOf({}), {
    winner: "one after the other",
    ms: { "in one batch": 2, "one after the other": 1 },
  });
  assert.is(await passesOf({ passesInOneBatch: true }), null);
  assert.is(await passesOf({ passes: 1 }), null);
  assert.is(await passesOf({}, lora({ rank: 2 })), null);
});

training("routers are asked for the steps of the training alone", async () => {
  const asked: number[] = [];
  const router = ({ step }: { readonly step: number }): number => {
    asked.push(step);
    return 0;
  };
  await trained({ steps: 2, router });
  const own = asked.splice(0);
  await trained({ steps: 2, router, tune: { rounds: 1, stopwatch: plain, most: 1 } });
  assert.equal(asked, own);
});

training("a tuned run leaves nothing behind, nor does one that fails", async () => {
  const options: Partial<FineTuneOptions> = { tune: { rounds: 1, stopwatch: plain, most: 2 } };
  await trained(options);
  const before = liveBytes(gpu);
  await trained(options);
  assert.is(liveBytes(gpu), before);
  const broken = { rounds: 1, stopwatch: async (): Promise<number> => Promise.reject(new Error("no clock")) };
  await trained({ tune: broken }).then(
    () => assert.unreachable("no error"),
    (error: Error) => assert.is(error.message, "no clock"),
  );
  assert.is(liveBytes(gpu), before);
  assert.is(formsInForce(gpu), null);
});

training("options that do not go together are refused before anything runs", async () => {
  const record = (await trained({ steps: 1, tune: { rounds: 1, stopwatch: plain, most: 1 } }))
    .record as KernelRecord;
  const refused = async (message: RegExp, options: Partial<FineTuneOptions>): Promise<void> => {
    let told = "";
    await trained(options).catch((error: unknown) => {
      told = (error as Error).message;
    });
    assert.match(told, message);
  };
  await refused(/fineTune: kernels are given and tune is too/, { tune: true, kernels: record });
  await refused(
    /fineTune: passesInOneBatch is true, and passes of the record of kernels run one after the other/,
    {
      kernels: record,
      passesInOneBatch: true,
    },
  );
  await refused(/fineTune: tune: rounds is 0/, { tune: { rounds: 0 } });
  await refused(/fineTune: tune.batches is 0, expected 1 or more/, { tune: { batches: 0 } });
  const elsewhere = { ...record, adapter: { ...record.adapter, name: "another" } };
  await refused(/fineTune: the record of kernels is of another/, { kernels: elsewhere });
});

training.run();

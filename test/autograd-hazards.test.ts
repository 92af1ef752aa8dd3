// What a recorded graph needs must not be overwritten before it goes backward: every way of writing is found out.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openGpu } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { capture, drawOf, Parameter, Stream, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { GpuError } from "../src/gpu/index.ts";
import { accumulate, copyInto, fill } from "../src/ops/index.ts";
import { AdamW, clipGradNorm } from "../src/optim/index.ts";
import { liveBytes, gpu as openTestGpu, withEnv } from "./device.ts";
import { floats, free, leaf } from "./graphs.ts";

const gpu = await openTestGpu();
const hazards = suite("overwritten arrays");
const fine = suite("overwritten arrays, none");

const overwritten = (op: string, what: string) => (error: Error) =>
  error instanceof GpuError &&
  error.message ===
    `backward: "${op}" saved ${what}, which was overwritten after the forward pass; go backward first, run the forward pass again, or let one of the two use a copy`;

/** Every way of writing to the memory of a tensor [2, 3]. */
const writes: Readonly<Record<string, (x: Tensor) => void>> = {
  "write()": (x) => x.write(new Float32Array(6)),
  "write() to a view": (x) => {
    const flat = x.reshape(6);
    flat.write(new Float32Array(6));
    flat.dispose();
  },
  "write() to a part": (x) => {
    const row = x.slice(0, 1, 2);
    row.write(new Float32Array(3));
    row.dispose();
  },
  "replaceArray()": (x) => x.replaceArray(gpu.from(new Float32Array(6), [2, 3])),
  "a fill": (x) => fill(gpu, x.array),
  "an accumulation": (x) => {
    const more = gpu.from(new Float32Array(6), [2, 3]);
    accumulate(gpu, x.array, more);
    more.release();
  },
  "a copy into it": (x) => {
    const other = gpu.from(new Float32Array(6), [2, 3]);
    gpu.scope(
      () => copyInto(gpu, other, x.array),
      () => [],
    );
    other.release();
  },
};

for (const [name, write] of Object.entries(writes)) {
  hazards(`${name} of what an op saved`, () => {
    const [x, y] = [leaf(gpu, [1, 2, 3, 4, 5, 6], [2, 3]), leaf(gpu, [1, 1, 1, 1, 1, 1], [2, 3])];
    const before = liveBytes(gpu);
    const loss = tidy(() => x.mul(y).sum());
    write(x);
    assert.throws(() => loss.backward(), overwritten("mul", "a [2, 3]"));
    loss.dispose();
    assert.is(liveBytes(gpu), before);
    assert.equal([x.grad, y.grad], [null, null]);
    free(x, y);
  });
}

hazards("the output of an op that saved it", () => {
  const x = leaf(gpu, [1, 2]);
  const y = ad.exp(x);
  y.write(Float32Array.of(0, 0));
  assert.throws(() => tidy(() => y.sum().backward()), overwritten("exp", "kept [2]"));
  free(x, y);
});

hazards("an optimiser's step, and a new optimiser, between forward and backward", () => {
  const make = (): Parameter => Parameter.from(gpu, Float32Array.of(1, 2, 3), [3]);
  const parameter = make();
  const optimiser = new AdamW([parameter]);
  const run = (of: Parameter): Tensor => tidy(() => ad.square(of).sum());
  const first = run(parameter);
  optimiser.step();
  assert.throws(() => first.backward(), overwritten("square", "kept [3]"));
  const other = make();
  const second = run(other);
  const late = new AdamW([other]);
  assert.throws(() => second.backward(), overwritten("square", "kept [3]"));
  free(first, second, parameter, other);
  optimiser.dispose();
  late.dispose();
});

hazards("a gradient that a graph uses as a constant, when another backward adds to it", async () => {
  const x = leaf(gpu, [1, 2]);
  tidy(() => x.mul(3).sum().backward());
  const loss = tidy(() => x.mul(x.grad as Tensor).sum());
  tidy(() => x.sum().backward());
  assert.throws(() => loss.backward(), overwritten("mul", "b [2]"));
  free(loss, x);
  const parameter = Parameter.from(gpu, Float32Array.of(1, 2), [2]);
  const optimiser = new AdamW([parameter]);
  for (const change of [() => clipGradNorm(optimiser.arena, 1).dispose(), () => optimiser.zeroGrad()]) {
    const penalty = tidy(() => parameter.mul(parameter.grad as Tensor).sum());
    change();
    assert.throws(() => penalty.backward(), overwritten("mul", "b [2]"));
    penalty.dispose();
  }
  optimiser.dispose();
  parameter.dispose();
});

hazards("input slots: ids, labels, masks and the clock of dropout", () => {
  const table = leaf(gpu, [1, 2, 3, 4], [2, 2]);
  const ids = tensor(gpu, Int32Array.of(0, 1));
  const clock = tensor(gpu, Uint32Array.of(1, 0));
  const draw = drawOf({ stream: Stream.seed(1), clock, examples: 2 }, "dropout");
  const keep = tensor(gpu, Int32Array.of(1, 1), [1, 2]);
  const cases: readonly [() => Tensor, () => void, string, string][] = [
    [() => ad.embedding(table, ids), () => ids.write(Int32Array.of(1, 1)), "embedding", "ids [2]"],
    [() => ad.crossEntropy(table, ids), () => ids.write(Int32Array.of(0, 0)), "crossEntropy", "labels [2]"],
    [
      () => ad.dropout(table, { p: 0.5, draw }),
      () => clock.write(Uint32Array.of(1, 1)),
      "dropout",
      "clock [2]",
    ],
    [
      () => attend({ dropout: { p: 0.5, draw } }),
      () => clock.write(Uint32Array.of(1, 2)),
      "attention",
      "clock [2]",
    ],
    [() => attend(), () => keep.write(Int32Array.of(1, 0)), "attention", "keep [1, 2]"],
  ];
  function attend(attrs: object = {}): Tensor {
    return tidy(() => {
      const x = table.reshape(1, 2, 2);
      return ad.attention(x, x, x, keep, { heads: 1, ...attrs });
    });
  }
  for (const [run, change, op, what] of cases) {
    const loss = tidy(() => run().sum());
    change();
    assert.throws(() => loss.backward(), overwritten(op, what));
    loss.dispose();
  }
  free(table, ids, clock, keep);
});

hazards("a clock that is freed before backward stays readable to it", async () => {
  const x = leaf(gpu, new Array(64).fill(1), [8, 8]);
  const clock = tensor(gpu, Uint32Array.of(1, 0));
  const y = tidy(() => {
    const draw = drawOf({ stream: Stream.seed(1), clock, examples: 8 }, "dropout");
    return ad.dropout(x, { p: 0.5, draw });
  });
  clock.dispose();
  tidy(() => y.sum().backward());
  assert.equal([...(await floats(x.grad))], [...(await floats(y))]);
  free(x, y);
});

hazards("a captured step that writes to it, each time", () => {
  const [x, y] = [leaf(gpu, [1, 2]), leaf(gpu, [3, 4])];
  const one = gpu.from(Float32Array.of(1, 1));
  const step = capture(gpu, () => accumulate(gpu, x.array, one));
  for (let run = 0; run < 3; run++) {
    const loss = tidy(() => x.mul(y).sum());
    step.run();
    assert.throws(() => loss.backward(), overwritten("mul", "a [2]"), `run ${run}`);
    loss.dispose();
  }
  const reading = capture(gpu, () => x.mul(2));
  for (let run = 0; run < 3; run++) {
    const loss = tidy(() => x.mul(y).sum());
    reading.run();
    loss.backward();
    loss.dispose();
  }
  step.dispose();
  reading.dispose();
  one.release();
  free(x, y);
});

hazards("arrays of several chunks", async () => {
  const small = await withEnv("ADAMIX_MAX_BINDING_BYTES", "1024", () => openGpu());
  const array = small.from(new Float32Array(1000), [10, 100]);
  assert.ok(array.storage.chunks.length > 1);
  const { version } = array.storage;
  const last = array.view([1, 100], 900);
  small.write(last, new Float32Array(100));
  assert.ok(array.storage.version > version);
  for (const view of [last, array]) view.release();
  await small.device.close();
});

// --- what is no hazard

fine("writing after backward, and to what no op has saved", async () => {
  const [x, ids] = [leaf(gpu, [1, 2, 3, 4], [2, 2]), tensor(gpu, Int32Array.of(0, 1))];
  for (let step = 0; step < 3; step++) {
    ids.write(Int32Array.of(step % 2, 1));
    x.write(new Float32Array(4).fill(step));
    tidy(() => ad.square(ad.embedding(x, ids)).sum().backward());
  }
  // Row 1 twice with value 1, then both rows once with value 2.
  assert.equal([...(await floats(x.grad))], [4, 4, 8, 8]);
  x.grad = null;
  const loss = tidy(() => x.add(1).neg().sum()); // saves shapes alone
  x.write(new Float32Array(4));
  loss.backward();
  assert.equal([...(await floats(x.grad))], [-1, -1, -1, -1]);
  free(x, ids, loss);
});

fine("a copy made before", async () => {
  const x = leaf(gpu, [2, 3]);
  const loss = tidy(() => ad.square(x.mul(1)).sum());
  x.write(Float32Array.of(0, 0));
  loss.backward();
  assert.equal([...(await floats(x.grad))], [4, 6]);
  free(x, loss);
});

fine("freeing tensors of the graph: it holds on to the memory, which nobody else gets", async () => {
  const x = leaf(gpu, new Array(64).fill(3));
  const h = x.mul(1);
  const y = ad.square(h);
  const loss = y.sum();
  free(h, y);
  const others = Array.from({ length: 8 }, () => tensor(gpu, new Float32Array(64)));
  loss.backward();
  assert.equal([...(await floats(x.grad))], new Array(64).fill(6));
  free(x, loss, ...others);
});

fine("a leaf that was freed gets no gradient, and no memory", () => {
  const before = liveBytes(gpu);
  const [x, y] = [leaf(gpu, [1, 2]), leaf(gpu, [3, 4])];
  const loss = tidy(() => x.mul(y).sum());
  x.dispose();
  loss.backward();
  assert.ok(y.grad);
  assert.is(x.grad, null);
  free(y, loss);
  assert.is(liveBytes(gpu), before);
});

hazards.run();
fine.run();

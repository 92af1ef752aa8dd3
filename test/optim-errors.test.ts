// Optimisers: what they refuse before anything moves, and what is not theirs any more.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { openGpu } from "../src/array/index.ts";
import { Stream, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { initUniform, Linear } from "../src/nn/index.ts";
import { AdamW, clipGradNorm, clipGradValue, SGD } from "../src/optim/index.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const errors = suite("errors of optimisers");

errors("a parameter belongs to one optimiser at a time", async () => {
  const layer = new Linear(gpu, 3, 2);
  initUniform(layer.weight, Stream.seed(0), 1);
  const first = new SGD(layer.parameters(), { lr: 1 });
  const before = liveBytes(gpu);
  const message =
    /^SGD: a parameter \[2, 3\] belongs to an optimiser that is not disposed; dispose\(\) that one first$/;
  assert.throws(() => new SGD(layer.parameters(), { lr: 1 }), message);
  assert.is(liveBytes(gpu), before, "nothing was made for the second");
  const values = async (): Promise<string> => String(await layer.weight.data());
  const start = await values();
  const x = tensor(gpu, [1, 2, 3], [1, 3]);
  const step = (optimiser: SGD): void => {
    optimiser.zeroGrad();
    tidy(() => layer.forward(x).sum().backward());
    optimiser.step();
  };
  step(first);
  const moved = await values();
  assert.is.not(moved, start, "the first still trains");
  first.dispose();
  first.dispose();
  const second = new SGD(layer.parameters(), { lr: 1 });
  step(second);
  assert.is.not(await values(), moved, "and then the second");
  second.dispose();
  layer.dispose();
});

errors("an optimiser that was refused leaves its parameters free", () => {
  const layer = new Linear(gpu, 3, 2);
  for (const Optimiser of [AdamW, SGD]) {
    assert.throws(() => new Optimiser(layer.parameters(), { lr: -1 }), /lr is -1, expected 0 or more/);
    new Optimiser(layer.parameters()).dispose();
  }
  layer.dispose();
});

errors("parameters of two devices", async () => {
  const other = await openGpu();
  const layers = [new Linear(gpu, 3, 2), new Linear(other, 3, 2)];
  const parameters = layers.flatMap((layer) => layer.parameters());
  assert.throws(
    () => new AdamW(parameters),
    /^AdamW: parameters of two devices; make an optimiser for each$/,
  );
  await other.device.close();
});

errors("after dispose() an optimiser does nothing, and says so", () => {
  const layer = new Linear(gpu, 3, 2);
  for (const Optimiser of [AdamW, SGD]) {
    const optimiser = new Optimiser(layer.parameters());
    optimiser.dispose();
    const call = (name: string): RegExp =>
      new RegExp(`^${Optimiser.name}: ${name}\\(\\) after dispose\\(\\)$`);
    assert.throws(() => optimiser.step(), call("step"));
    assert.throws(() => optimiser.zeroGrad(), call("zeroGrad"));
    assert.throws(() => clipGradNorm(optimiser.arena, 1), call("clipGradNorm"));
    assert.throws(() => clipGradValue(optimiser.arena, 1), call("clipGradValue"));
  }
  layer.dispose();
});

errors("what is no list of parameters, or no arena", () => {
  const layer = new Linear(gpu, 2, 2);
  const plain: Tensor = tensor(gpu, [1, 2]);
  assert.throws(
    () => new AdamW(layer as never),
    /^AdamW: expected an array of parameters; pass module\.parameters\(\)$/,
  );
  assert.throws(
    () => new AdamW([layer.weight, plain] as never),
    /^AdamW: element 1 of the parameters is no Parameter; make it with Parameter\.from\(\.\.\.\)$/,
  );
  assert.throws(
    () => clipGradNorm(layer.parameters() as never, 1),
    /^clipGradNorm: expected an arena; pass that of the optimiser: clipGradNorm\(optimiser\.arena, 1\)$/,
  );
  assert.is(layer.weight.holder, null);
});

errors.run();

// Optimisers move four elements at a time where no slice ends within them, and one at a time elsewhere: the same bits.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { mul, Parameter, Stream, sum, tensor, tidy } from "../src/autograd/index.ts";
import { AdamW, type Optimizer, SGD } from "../src/optim/index.ts";
import { segmentTables } from "../src/optim/slice-steps.ts";
import { LinearBank } from "../src/peft/index.ts";
import { assertBitEqual } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const widths = suite("widths of optimisers");

/** A bank of three experts, with slices of so many elements. */
function bankOf(outputs: number): LinearBank {
  const bank = new LinearBank(gpu, { experts: 3, inputs: outputs === 7 ? 4 : 5, outputs, bias: false });
  bank.weight.write(Stream.seed(1).normal(bank.weight.size));
  return bank;
}

/** Values after three steps of which each draws another expert; with `neighbour`, beside a bank of odd slices. */
async function trained(
  make: (parameters: readonly Parameter[]) => Optimizer & { dispose(): void },
  neighbour: boolean,
): Promise<Float32Array[]> {
  const odd = Parameter.from(gpu, Stream.seed(2).normal(67), [67]);
  const bank = bankOf(7);
  const parameters = [odd, bank.weight, ...(neighbour ? [bankOf(3).weight] : [])];
  const optimiser = make(parameters);
  const [segment] = optimiser.arena.segments;
  assert.ok(segment);
  gpu.scope(
    () => assert.is(segmentTables(optimiser.arena, segment, 0).width, neighbour ? 1 : 4),
    () => [],
  );
  for (const [t, expert] of [1, 0, 1].entries()) {
    optimiser.zeroGrad();
    tidy(() => {
      sum(mul(odd, tensor(gpu, Stream.seed(10 + t).normal(67)))).backward();
      const x = tensor(gpu, Stream.seed(20 + t).normal(8), [2, 4]);
      const y = bank.forward(x, tensor(gpu, Int32Array.of(expert)));
      sum(mul(y, y)).backward();
    });
    optimiser.step();
  }
  const values = await Promise.all([odd, bank.weight].map(async (p) => (await p.data()) as Float32Array));
  optimiser.dispose();
  return values;
}

for (const [name, make] of Object.entries({
  "AdamW as PyTorch has it": (all: readonly Parameter[]) => new AdamW(all, { lr: 0.1, weightDecay: 0.3 }),
  "AdamW as Hugging Face had it": (all: readonly Parameter[]) =>
    new AdamW(all, { lr: 0.1, weightDecay: 0.3, convention: "huggingface" }),
  SGD: (all: readonly Parameter[]) => new SGD(all, { lr: 0.1, weightDecay: 0.3 }),
  "SGD with momentum": (all: readonly Parameter[]) =>
    new SGD(all, { lr: 0.1, momentum: 0.9, weightDecay: 0.3, nesterov: true }),
})) {
  widths(`${name}: four at a time give the bits of one at a time`, async () => {
    const [fours, ones] = [await trained(make, false), await trained(make, true)];
    for (const [i, values] of fours.entries())
      assertBitEqual(values, ones[i] as Float32Array, `parameter ${i}`);
    // Expert 2 was never drawn.
    assertBitEqual(
      (fours[1] as Float32Array).subarray(56),
      Stream.seed(1).normal(84).subarray(56),
      "expert 2",
    );
  });
}

widths.run();

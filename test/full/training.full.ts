// 10,000 training steps of a small model: neither the process nor the device grows. About two minutes on lavapipe
// with two cores.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  attention,
  crossEntropy,
  type DrawSource,
  gelu,
  Stream,
  type Tensor,
  tensor,
  tidy,
} from "../../src/autograd/index.ts";
import { Embedding, initBertWeights, LayerNorm, Linear, Module, maybeDropout } from "../../src/nn/index.ts";
import { AdamW, clipGradNorm } from "../../src/optim/index.ts";
import { gpu as openTestGpu } from "../device.ts";
import { progress } from "../progress.ts";

const STEPS = 10_000;
const SETTLED = 2_000;
const EVERY = 20;
const MOST_BYTES_PER_STEP = 1024;
const [B, T, C, V] = [4, 12, 32, 20];

const gpu = await openTestGpu();
const test = suite("10,000 training steps");

/** One block of a decoder: [B, T] ids -> [B, T, V]. */
class Decoder extends Module {
  readonly tokens = new Embedding(gpu, V, C);
  readonly norm = new LayerNorm(gpu, C);
  readonly q = new Linear(gpu, C, C);
  readonly k = new Linear(gpu, C, C);
  readonly v = new Linear(gpu, C, C);
  readonly inner = new Linear(gpu, C, 4 * C);
  readonly outer = new Linear(gpu, 4 * C, C);
  readonly head = new Linear(gpu, C, V);

  forward(ids: Tensor, draw: DrawSource): Tensor {
    const x = this.tokens.forward(ids);
    const n = this.norm.forward(x);
    const [q, k, v] = [this.q.forward(n), this.k.forward(n), this.v.forward(n)];
    const seen = x.add(
      maybeDropout(attention(q, k, v, null, { heads: 4, causal: true }), 0.1, { draw }, "seen"),
    );
    return this.head.forward(seen.add(this.outer.forward(gelu(this.inner.forward(seen)))));
  }
}

test("resident memory after step 2,000 grows by less than 1 KiB a step", async () => {
  const stream = Stream.seed(3);
  const model = new Decoder();
  initBertWeights(model, stream, 0.1);
  model.setRequiresGrad(true);
  const optimiser = new AdamW(model.parameters());
  const clock = tensor(gpu, new Uint32Array([3, 0]));
  // Two lengths take turns, as batches do.
  const slots = [T, T - 3].map((length) => ({
    ids: tensor(gpu, new Int32Array(B * length), [B, length]),
    labels: tensor(gpu, new Int32Array(B * length), [B, length]),
    length,
  }));
  const told = progress("training steps", STEPS);
  const steps: number[] = [];
  const bytes: number[] = [];
  const losses: number[] = [];
  let settled = gpu.device.statistics();
  for (let step = 0; step < STEPS; step++) {
    const slot = slots[step % slots.length] as (typeof slots)[number];
    const ids = Int32Array.from(
      { length: B * slot.length },
      (_, i) => (i * 7 + stream.integer(3, step, i)) % V,
    );
    slot.ids.write(ids);
    slot.labels.write(ids.map((id) => (id + 1) % V));
    clock.write(new Uint32Array([3, step]));
    optimiser.zeroGrad();
    const loss = tidy(() => {
      const logits = model.forward(slot.ids, { stream, clock, examples: B });
      const result = crossEntropy(logits, slot.labels);
      result.backward();
      return result;
    });
    clipGradNorm(optimiser.arena, 1).dispose();
    optimiser.step(1e-3);
    if (step % EVERY === EVERY - 1) {
      losses.push(await loss.item());
      globalThis.gc?.();
      steps.push(step);
      bytes.push(process.memoryUsage().rss);
      told(step + 1, `loss ${losses.at(-1)?.toFixed(4)}, ${((bytes.at(-1) ?? 0) / 2 ** 20).toFixed(1)} MiB`);
    }
    loss.dispose();
    if (step === SETTLED) settled = gpu.device.statistics();
  }
  const end = gpu.device.statistics();
  assert.is(end.liveBytes, settled.liveBytes, "live bytes of the device");
  assert.is(end.created, settled.created, "buffers");
  assert.is(end.kernels, settled.kernels, "kernels");
  assert.is(end.bindGroups, settled.bindGroups, "bind groups");
  assert.ok((losses.at(-1) ?? 9) < 0.1 * (losses[0] ?? 0), `loss from ${losses[0]} to ${losses.at(-1)}`);
  const from = steps.findIndex((step) => step >= SETTLED);
  const slope = slopeOf(steps.slice(from), bytes.slice(from));
  console.log(`  resident memory: ${slope.toFixed(1)} bytes a step`);
  assert.ok(slope < MOST_BYTES_PER_STEP, `${slope} bytes a step`);
  optimiser.dispose();
  model.dispose();
  for (const x of [clock, ...slots.flatMap(({ ids, labels }) => [ids, labels])]) x.dispose();
});

/** Least squares. */
function slopeOf(x: readonly number[], y: readonly number[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length;
  const [middleX, middleY] = [mean(x), mean(y)];
  let above = 0;
  let below = 0;
  for (const [i, v] of x.entries()) {
    above += (v - middleX) * ((y[i] ?? 0) - middleY);
    below += (v - middleX) ** 2;
  }
  return above / below;
}

test.run();

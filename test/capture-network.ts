import type { Gpu } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { Parameter, Stream, type Tensor, tensor } from "../src/autograd/index.ts";
import { AdamW, clipGradNorm, type LossScaler } from "../src/optim/index.ts";
import { gpu as openTestGpu } from "./device.ts";

const gpu = await openTestGpu();

export const floats = async (x: Tensor): Promise<number[]> => [...(await x.data())];
export const capturedBytes = (on: Gpu = gpu): number => on.device.statistics().capturedBytes;

/** What a step that has settled down must not change. */
export const counts = (): Record<string, number> => {
  const { created, bindGroups, kernels, liveBytes, capturedBytes } = gpu.device.statistics();
  return { created, bindGroups, kernels, liveBytes, capturedBytes };
};

export function parametersOf(...shapes: number[][]): Parameter[] {
  const stream = Stream.seed(3);
  return shapes.map((shape, i) =>
    Parameter.from(gpu, stream.fold(i).normal(shape.reduce((a, b) => a * b)), shape),
  );
}

/** A network of two layers with its optimiser, for batches of any size. */
export function network() {
  const parameters = parametersOf([8, 6], [8], [8], [3, 8]);
  const [weight, gain, bias, head] = parameters as [Parameter, Parameter, Parameter, Parameter];
  const optimiser = new AdamW(parameters, { lr: 0.01 });
  const slots = new Map<number, { x: Tensor; labels: Tensor }>();
  const slot = (batch: number) => {
    const known = slots.get(batch);
    if (known) return known;
    const made = {
      x: tensor(gpu, new Float32Array(batch * 6), [batch, 6]),
      labels: tensor(gpu, new Int32Array(batch)),
    };
    slots.set(batch, made);
    return made;
  };
  return {
    parameters,
    optimiser,
    /** Writes what changes from step to step. */
    load(batch: number, step: number): void {
      const { x, labels } = slot(batch);
      x.write(Stream.seed(step).normal(batch * 6));
      labels.write(Int32Array.from({ length: batch }, (_, i) => (i + step) % 3));
      optimiser.setLearningRate(0.02 / (1 + step));
    },
    /** A whole step; with a scaler, in f16. */
    step:
      (batch: number, { scaler = null }: { readonly scaler?: LossScaler | null } = {}) =>
      () => {
        const { x, labels } = slot(batch);
        optimiser.zeroGrad();
        const { logits, loss } = ad.autocast(scaler && "f16", () => {
          const logits = ad.linear(ad.layerNorm(ad.gelu(ad.linear(x, weight)), gain, bias), head);
          return { logits, loss: ad.crossEntropy(logits, labels) };
        });
        (scaler ? scaler.scale(loss) : loss).backward();
        scaler?.unscale(optimiser.arena);
        const norm = clipGradNorm(optimiser.arena, 0.5);
        optimiser.step();
        scaler?.update();
        return { loss, more: [norm, logits] as const };
      },
    dispose(): void {
      optimiser.dispose();
      for (const { x, labels } of slots.values()) for (const t of [x, labels]) t.dispose();
      for (const parameter of parameters) parameter.dispose();
    },
  };
}

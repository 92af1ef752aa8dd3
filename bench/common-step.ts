// The training step that other engines are measured with too: see bench/peers.
import {
  attention,
  capture,
  crossEntropy,
  embedding,
  type Gpu,
  layerNorm,
  matmul,
  Parameter,
  type Shape,
  type Tensor,
  tidy,
} from "../src/index.ts";
import { AdamW } from "../src/optim/index.ts";

/** Sizes and settings of the step. */
export interface CommonStep {
  readonly layers: number;
  readonly channels: number;
  readonly heads: number;
  readonly inner: number;
  readonly vocabulary: number;
  readonly batch: number;
  readonly tokens: number;
  readonly eps: number;
  readonly lr: number;
  readonly weightDecay: number;
}

/** A pre-LayerNorm encoder with learned positions, tanh GELU and a head of its own; 5,289,472 parameters. */
export const COMMON: CommonStep = {
  layers: 4,
  channels: 256,
  heads: 4,
  inner: 1024,
  vocabulary: 4096,
  batch: 8,
  tokens: 128,
  eps: 1e-5,
  lr: 3e-4,
  weightDecay: 0.01,
};

/** Names and shapes of its parameters; matrices are [in, out]. */
export function commonShapes({
  layers,
  channels: C,
  inner,
  vocabulary,
  tokens,
}: CommonStep): Map<string, Shape> {
  const shapes = new Map<string, Shape>([
    ["words", [vocabulary, C]],
    ["positions", [tokens, C]],
  ]);
  const norm = (name: string): void => {
    shapes.set(`${name}.weight`, [C]).set(`${name}.bias`, [C]);
  };
  const dense = (name: string, inputs: number, outputs: number): void => {
    shapes.set(`${name}.weight`, [inputs, outputs]).set(`${name}.bias`, [outputs]);
  };
  for (let i = 0; i < layers; i++) {
    norm(`${i}.norm1`);
    dense(`${i}.qkv`, C, 3 * C);
    dense(`${i}.proj`, C, C);
    norm(`${i}.norm2`);
    dense(`${i}.up`, C, inner);
    dense(`${i}.down`, inner, C);
  }
  norm("norm");
  return shapes.set("head", [C, vocabulary]);
}

type Parameters = ReadonlyMap<string, Parameter>;

/** Mean cross-entropy over all tokens: ids [B, T], labels [B, T] -> scalar. */
function commonLoss(
  { layers, channels: C, heads, eps }: CommonStep,
  parameters: Parameters,
  ids: Tensor,
  labels: Tensor,
): Tensor {
  const of = (name: string): Parameter => parameters.get(name) as Parameter; // of commonShapes()
  const norm = (x: Tensor, name: string): Tensor =>
    layerNorm(x, of(`${name}.weight`), of(`${name}.bias`), eps);
  const dense = (x: Tensor, name: string, activation?: "geluTanh"): Tensor =>
    matmul(x, of(`${name}.weight`), { bias: of(`${name}.bias`), activation });
  const layer = (x: Tensor, i: number): Tensor => {
    const qkv = dense(norm(x, `${i}.norm1`), `${i}.qkv`); // [B, T, 3C]
    const [q, k, v] = [0, C, 2 * C].map((from) => qkv.slice(2, from, from + C)) as [Tensor, Tensor, Tensor];
    const middle = x.add(dense(attention(q, k, v, null, { heads }), `${i}.proj`));
    const inner = dense(norm(middle, `${i}.norm2`), `${i}.up`, "geluTanh"); // [B, T, 4C]
    return middle.add(dense(inner, `${i}.down`));
  };
  let x = tidy(() => embedding(of("words"), ids).add(of("positions"))); // [B, T, C]
  for (let i = 0; i < layers; i++) {
    const before = x;
    x = tidy(() => layer(before, i));
    before.dispose(); // What backward needs of it lives on.
  }
  return crossEntropy(matmul(norm(x, "norm"), of("head")), labels);
}

/** Where a step's initial values come from. */
export type InitialValues = (name: string, shape: Shape) => Float32Array<ArrayBuffer>;

/** The step, recorded once and replayed, as training does. `loss` is overwritten by every run. */
export function prepareCommonStep(
  gpu: Gpu,
  common: CommonStep,
  values: InitialValues,
  ids: Tensor,
  labels: Tensor,
): { run(): void; loss(): Tensor; dispose(): void } {
  const parameters = new Map(
    [...commonShapes(common)].map(([name, shape]) => [name, Parameter.from(gpu, values(name, shape), shape)]),
  );
  const { lr, weightDecay } = common;
  const optimiser = new AdamW([...parameters.values()], { lr, weightDecay });
  const step = capture(gpu, () =>
    tidy(() => {
      optimiser.zeroGrad();
      const loss = commonLoss(common, parameters, ids, labels);
      loss.backward();
      optimiser.step();
      return loss;
    }),
  );
  return {
    run: () => step.run(),
    loss: () => step.output,
    dispose() {
      step.dispose();
      optimiser.dispose();
      for (const parameter of parameters.values()) parameter.dispose();
    },
  };
}

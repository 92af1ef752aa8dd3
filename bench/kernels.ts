import {
  attention,
  capture,
  crossEntropy,
  embedding,
  type Gpu,
  gelu,
  layerNorm,
  linear,
  matmul,
  noGrad,
  Parameter,
  Stream,
  softmax,
  type Tensor,
  tensor,
  tidy,
} from "../src/index.ts";
import { AdamW } from "../src/optim/index.ts";
import type { Case } from "./measure.ts";

const stream = Stream.seed(1);

/** A tensor of normal numbers; the same for the same name. */
function normal(gpu: Gpu, name: string, shape: readonly number[]): Tensor {
  const size = shape.reduce((product, n) => product * n, 1);
  return tensor(gpu, stream.fold(name).normal(size), shape);
}

function disposeAll(tensors: Iterable<Tensor>): void {
  for (const x of tensors) x.dispose();
}

/** A case of tensors made once and a computation over them, without gradients. */
function forward(
  name: string,
  { amount, unit }: Pick<Case, "amount" | "unit">,
  inputs: (gpu: Gpu) => Tensor[],
  compute: (inputs: readonly Tensor[]) => Tensor,
): Case {
  return {
    name,
    amount,
    unit,
    setup(gpu) {
      const made = inputs(gpu);
      return { run: () => noGrad(() => compute(made).dispose()), dispose: () => disposeAll(made) };
    },
  };
}

/** The same with its backward pass: the first `trained` inputs get gradients, from a gradient that is made once. */
function forwardAndBackward(
  name: string,
  { amount, unit }: Pick<Case, "amount" | "unit">,
  inputs: (gpu: Gpu) => Tensor[],
  compute: (inputs: readonly Tensor[]) => Tensor,
  trained: number,
): Case {
  return {
    name,
    amount,
    unit,
    setup(gpu) {
      const made = inputs(gpu);
      const wanting = made.slice(0, trained);
      for (const x of wanting) x.requiresGrad = true;
      const { shape } = noGrad(() => tidy(() => compute(made)));
      const dy = shape.length === 0 ? null : normal(gpu, "dy", shape);
      return {
        run() {
          tidy(() => compute(made).backward(dy ?? undefined));
          for (const x of wanting) x.grad = null; // else the next gradient is added to it
        },
        dispose: () => disposeAll(dy ? [...made, dy] : made),
      };
    },
  };
}

type Form = "nn" | "nt" | "tn";

function matmulCase(form: Form, [M, K, N]: readonly [number, number, number]): Case {
  const size = M === K && K === N ? `${M}` : `${M}x${K}x${N}`;
  const flags = { transposeA: form === "tn", transposeB: form === "nt" };
  return forward(
    `matmul ${form} ${size}`,
    { amount: (2 * M * N * K) / 1e9, unit: "GFLOP/s" },
    (gpu) => [
      normal(gpu, "a", form === "tn" ? [K, M] : [M, K]),
      normal(gpu, "b", form === "nt" ? [N, K] : [K, N]),
    ],
    ([a, b]) => matmul(a as Tensor, b as Tensor, flags),
  );
}

/** A layer with an activation in its product, as a step of the embedded encoder has them, and one token through a layer. */
function linearCases(): Case[] {
  const [rows, inputs, outputs] = [384, 64, 256];
  const product = (2 * rows * inputs * outputs) / 1e9;
  const parts = (gpu: Gpu): Tensor[] => [
    normal(gpu, "x", [rows, inputs]),
    normal(gpu, "weight", [outputs, inputs]),
    normal(gpu, "bias", [outputs]),
  ];
  const layer = ([x, weight, bias]: readonly Tensor[]): Tensor =>
    linear(x as Tensor, weight as Tensor, bias as Tensor, { activation: "gelu" });
  const size = `${rows}x${inputs}x${outputs}`;
  return [
    forward(`linear + gelu fwd ${size}`, { amount: product, unit: "GFLOP/s" }, parts, layer),
    forwardAndBackward(
      `linear + gelu fwd+bwd ${size}`,
      { amount: 3 * product, unit: "GFLOP/s" },
      parts,
      layer,
      3,
    ),
    forward(
      "linear 1x768x3072",
      traffic(1, 768, 3072),
      (gpu) => [normal(gpu, "x", [1, 768]), normal(gpu, "weight", [3072, 768])],
      ([x, weight]) => linear(x as Tensor, weight as Tensor),
    ),
  ];
}

/** Bytes of `times` passes over an array, in units of 1e9. */
function traffic(times: number, ...shape: number[]): Pick<Case, "amount" | "unit"> {
  return { amount: (4 * times * shape.reduce((product, n) => product * n, 1)) / 1e9, unit: "GB/s" };
}

const [ROWS, CHANNELS] = [4096, 1024];

function rowCases(): Case[] {
  const rows = (gpu: Gpu): Tensor => normal(gpu, "x", [ROWS, CHANNELS]);
  const parts = (gpu: Gpu): Tensor[] => [
    rows(gpu),
    normal(gpu, "weight", [CHANNELS]),
    normal(gpu, "bias", [CHANNELS]),
  ];
  const norm = ([x, weight, bias]: readonly Tensor[]): Tensor =>
    layerNorm(x as Tensor, weight as Tensor, bias as Tensor);
  return [
    // Reads x, writes y; then x and dy to dx; then x and dy to the weights' gradients.
    forward("layerNorm fwd 4096x1024", traffic(2, ROWS, CHANNELS), parts, norm),
    forwardAndBackward("layerNorm fwd+bwd 4096x1024", traffic(7, ROWS, CHANNELS), parts, norm, 3),
    forwardAndBackward(
      "softmax fwd+bwd 4096x1024",
      traffic(5, ROWS, CHANNELS),
      (gpu) => [rows(gpu)],
      ([x]) => softmax(x as Tensor),
      1,
    ),
    forward(
      "gelu fwd 4096x1024",
      traffic(2, ROWS, CHANNELS),
      (gpu) => [rows(gpu)],
      ([x]) => gelu(x as Tensor),
    ),
    forwardAndBackward(
      "gelu fwd+bwd 4096x1024",
      traffic(5, ROWS, CHANNELS),
      (gpu) => [rows(gpu)],
      ([x]) => gelu(x as Tensor),
      1,
    ),
  ];
}

function lossCases(): Case[] {
  const [rows, classes] = [1024, 4096];
  return [
    forwardAndBackward(
      "crossEntropy fwd+bwd 1024x4096",
      traffic(3, rows, classes),
      (gpu) => [normal(gpu, "logits", [rows, classes]), ids(gpu, rows, classes)],
      ([logits, labels]) => crossEntropy(logits as Tensor, labels as Tensor),
      1,
    ),
    forwardAndBackward(
      "embedding fwd+bwd 4096x256 of 4096 rows",
      traffic(4, 4096, 256),
      (gpu) => [normal(gpu, "table", [4096, 256]), ids(gpu, 4096, 4096)],
      ([table, tokens]) => embedding(table as Tensor, tokens as Tensor),
      1,
    ),
  ];
}

function ids(gpu: Gpu, n: number, below: number): Tensor {
  const own = stream.fold("ids");
  return tensor(
    gpu,
    Int32Array.from({ length: n }, (_, i) => own.integer(below, i)),
  );
}

/** Two products of T x T x D for each head forward, and five backward, one of them computed again. */
function attentionCases(): Case[] {
  const [batch, length, heads, size] = [8, 128, 4, 64];
  const product = (2 * batch * heads * length * length * size) / 1e9;
  const inputs = (gpu: Gpu): Tensor[] =>
    ["q", "k", "v"].map((name) => normal(gpu, name, [batch, length, heads * size]));
  const compute = ([q, k, v]: readonly Tensor[]): Tensor =>
    attention(q as Tensor, k as Tensor, v as Tensor, null, { heads });
  const shape = `${batch}x${length}, ${heads} heads of ${size}`;
  return [
    forward(`attention fwd ${shape}`, { amount: 2 * product, unit: "GFLOP/s" }, inputs, compute),
    forwardAndBackward(
      `attention fwd+bwd ${shape}`,
      { amount: 7 * product, unit: "GFLOP/s" },
      inputs,
      compute,
      3,
    ),
    forward(
      "attention of a token, 512 keys, 12 heads of 64",
      traffic(2, 512, 12 * 64),
      (gpu) => [
        normal(gpu, "q", [1, 1, 768]),
        normal(gpu, "k", [1, 512, 768]),
        normal(gpu, "v", [1, 512, 768]),
      ],
      ([q, k, v]) => attention(q as Tensor, k as Tensor, v as Tensor, null, { heads: 12 }),
    ),
  ];
}

function adamwCase(): Case {
  const n = 4 * 2 ** 20;
  return {
    name: "AdamW 4M parameters",
    ...traffic(7, n), // reads value, gradient and two moments, writes three of them
    setup(gpu) {
      const parameter = Parameter.from(gpu, stream.fold("adamw").normal(n), [2048, n / 2048]);
      const optimiser = new AdamW([parameter], { lr: 1e-3 });
      return {
        run: () => optimiser.step(),
        dispose() {
          optimiser.dispose();
          parameter.dispose();
        },
      };
    },
  };
}

const DISPATCHES = 200; // fewer than a submit holds: nothing is submitted while the host's clock runs

function replayCase(): Case {
  return {
    name: "host: replay an add",
    amount: 1,
    unit: "dispatches/s",
    clock: "host",
    inside: DISPATCHES,
    setup(gpu) {
      const x = normal(gpu, "x", [64]);
      const step = capture(gpu, () => {
        let y = x;
        for (let i = 0; i < DISPATCHES; i++) y = y.add(x);
      });
      for (let i = 0; i < 2; i++) step.run(); // every sample is a replay
      return {
        run: () => step.run(),
        dispose() {
          step.dispose();
          x.dispose();
        },
      };
    },
  };
}

function hostCases(): Case[] {
  const record = (name: string, withTape: boolean): Case => ({
    name,
    amount: 1,
    unit: "dispatches/s",
    clock: "host",
    inside: DISPATCHES,
    setup(gpu) {
      const x = normal(gpu, "x", [64]);
      x.requiresGrad = withTape;
      const chain = (): void => {
        let y = x;
        for (let i = 0; i < DISPATCHES; i++) y = y.add(x);
      };
      return { run: () => tidy(chain), dispose: () => x.dispose() };
    },
  });
  return [
    record("host: record an add", false),
    record("host: record an add with a tape", true),
    replayCase(),
  ];
}

/** Single ops. */
export function kernelCases(): Case[] {
  const shapes = [
    [256, 256, 256],
    [512, 512, 512],
    [1024, 1024, 1024],
    [1024, 768, 3072],
    [256, 768, 4097], // a vocabulary of odd size
  ] as const;
  const forms = ["nn", "nt", "tn"] as const;
  return [
    ...shapes.flatMap((shape) => forms.map((form) => matmulCase(form, shape))),
    ...linearCases(),
    ...rowCases(),
    ...attentionCases(),
    ...lossCases(),
    adamwCase(),
    ...hostCases(),
  ];
}

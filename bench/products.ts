// Matrix products: plain, with what is fused into them, and routed through banks of experts.
import { bankLinear, type Gpu, gelu, linear, matmul, type Tensor, tensor } from "../src/index.ts";
import { forward, forwardAndBackward, normal, products, traffic } from "./cases.ts";
import type { Case } from "./measure.ts";

type Form = "nn" | "nt" | "tn";

function matmulCase(form: Form, [M, K, N]: readonly [number, number, number]): Case {
  const size = M === K && K === N ? `${M}` : `${M}x${K}x${N}`;
  const flags = { transposeA: form === "tn", transposeB: form === "nt" };
  return forward(
    `matmul ${form} ${size}`,
    products(1, M, K, N),
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

/** What a product's last step may do beside storing: nothing, a bias, an activation too. */
function epilogueCases(): Case[] {
  const [M, K, N] = [1024, 768, 3072];
  const parts = (gpu: Gpu): Tensor[] => [
    normal(gpu, "x", [M, K]),
    normal(gpu, "weight", [N, K]),
    normal(gpu, "bias", [N]),
  ];
  const activations = [undefined, "relu", "gelu", "geluTanh"] as const;
  return activations.map((activation) =>
    forward(
      `matmul nt + bias${activation ? ` + ${activation}` : ""} ${M}x${K}x${N}`,
      products(1, M, K, N),
      parts,
      ([x, weight, bias]) => linear(x as Tensor, weight as Tensor, bias as Tensor, { activation }),
    ),
  );
}

const EXPERTS = 4;

/** A bank of experts: one route for the whole batch, for each half of it (two passes), for each example. */
function bankCases(): Case[] {
  const [rows, inputs, outputs] = [1024, 768, 16];
  return ([1, 2, 8] as const).map((groups) =>
    forwardAndBackward(
      `bank of ${EXPERTS} fwd+bwd, ${groups} ${groups === 1 ? "route" : "routes"} ${rows}x${inputs}x${outputs}`,
      products(3, rows, inputs, outputs),
      (gpu) => [
        normal(gpu, "x", [rows, inputs]),
        normal(gpu, "weight", [EXPERTS, outputs, inputs]),
        normal(gpu, "bias", [EXPERTS, outputs]),
        routes(gpu, groups),
      ],
      ([x, weight, bias, route]) =>
        bankLinear(x as Tensor, weight as Tensor, bias as Tensor, route as Tensor),
      3,
    ),
  );
}

function routes(gpu: Gpu, groups: number): Tensor {
  return tensor(
    gpu,
    Int32Array.from({ length: groups }, (_, i) => (3 * i + 1) % EXPERTS),
  );
}

/** What a method adds to a layer's output y, as src/peft has it, with two routes: forward, and backward to all its inputs. */
function sidePathCases(): Case[] {
  const [rows, channels] = [1024, 768];
  const sidePath = (what: string, size: number, inner: (h: Tensor) => Tensor): Case =>
    forwardAndBackward(
      `${what} side path fwd+bwd ${rows}x${channels}`,
      products(6, rows, channels, size),
      (gpu) => [
        normal(gpu, "y", [rows, channels]),
        normal(gpu, "x", [rows, channels]),
        normal(gpu, "down", [EXPERTS, size, channels]),
        normal(gpu, "up", [1, channels, size]),
        routes(gpu, 2),
        tensor(gpu, new Int32Array(1)),
      ],
      ([y, x, down, up, route, only]) => {
        const inside = inner(bankLinear(x as Tensor, down as Tensor, null, route as Tensor));
        return (y as Tensor).add(bankLinear(inside, up as Tensor, null, only as Tensor, { scale: 2 }));
      },
      4,
    );
  return [sidePath("LoRA of rank 8,", 8, (h) => h), sidePath("adapter of 16,", 16, gelu)];
}

/** Matrix products. */
export function productCases(): Case[] {
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
    ...epilogueCases(),
    ...linearCases(),
    ...bankCases(),
    ...sidePathCases(),
  ];
}

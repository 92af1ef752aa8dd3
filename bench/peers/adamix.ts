// adamix itself, through its public interface.
import { readFileSync } from "node:fs";
import {
  type Gpu,
  geluTanh,
  layerNorm,
  matmul,
  noGrad,
  openGpu,
  softmax,
  type Tensor,
  tensor,
  tidy,
} from "../../src/index.ts";
import { type CommonStep, prepareCommonStep } from "../common-step.ts";
import { type Given, type Prepared, serve, someOf } from "./serve.ts";

await serve(async () => {
  const gpu = await openGpu();
  const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return {
    versions: {
      adamix: manifest.version,
      webgpu: manifest.dependencies.webgpu,
      adapter: gpu.device.traits.name,
    },
    prepare: async (given) => prepare(gpu, given),
  };
});

function prepare(gpu: Gpu, given: Given): Prepared {
  switch (given.kind) {
    case "step":
      return step(gpu, given);
    case "matmul": {
      const { transposeA, transposeB } = given.settings as { transposeA: boolean; transposeB: boolean };
      return forward(gpu, given, ({ a, b }) => matmul(a, b, { transposeA, transposeB }));
    }
    case "gelu":
      return forward(gpu, given, ({ x }) => geluTanh(x));
    case "softmax":
      return forwardAndBackward(gpu, given, ["x"], ({ x }) => softmax(x));
    case "layerNorm":
      return forwardAndBackward(gpu, given, ["x", "weight", "bias"], ({ x, weight, bias }) =>
        layerNorm(x, weight, bias, given.settings.eps as number),
      );
    default:
      throw new RangeError(`adamix: no work of kind "${given.kind}"`);
  }
}

function step(gpu: Gpu, given: Given): Prepared {
  const [ids, labels] = [load(gpu, given, "ids"), load(gpu, given, "labels")];
  const values = (name: string) => given.values(name) as Float32Array<ArrayBuffer>; // weights are f32
  const common = given.settings as unknown as CommonStep; // as stepWork() wrote them
  const prepared = prepareCommonStep(gpu, common, values, ids, labels);
  return {
    run: () => prepared.run(),
    settle: () => prepared.loss().item(),
    figures: async () => [await prepared.loss().item()],
  };
}

type Tensors = Record<string, Tensor> & Record<"a" | "b" | "x" | "weight" | "bias" | "dy", Tensor>;

function loadAll(gpu: Gpu, given: Given): Tensors {
  return Object.fromEntries(given.tensors.map(({ name }) => [name, load(gpu, given, name)])) as Tensors; // as the work needs them
}

function load(gpu: Gpu, given: Given, name: string): Tensor {
  return tensor(gpu, given.values(name), given.shape(name));
}

function forward(gpu: Gpu, given: Given, compute: (inputs: Tensors) => Tensor): Prepared {
  const inputs = loadAll(gpu, given);
  return {
    run: () => noGrad(() => compute(inputs).dispose()),
    settle: () => gpu.device.recorder.throttle(),
    figures: async () => someOf(await noGrad(() => compute(inputs)).data()),
  };
}

function forwardAndBackward(
  gpu: Gpu,
  given: Given,
  trained: readonly string[],
  compute: (inputs: Tensors) => Tensor,
): Prepared {
  const inputs = loadAll(gpu, given);
  const wanting = trained.map((name) => inputs[name] as Tensor);
  for (const x of wanting) x.requiresGrad = true;
  const run = (): void => {
    for (const x of wanting) x.grad = null; // else the next gradient is added to it
    tidy(() => compute(inputs).backward(inputs.dy));
  };
  return {
    run,
    settle: () => gpu.device.recorder.throttle(),
    async figures() {
      const found = someOf(await noGrad(() => compute(inputs)).data());
      for (const { grad } of wanting) if (grad) found.push(...someOf(await grad.data()));
      return found;
    },
  };
}

// Kernels over rows in the three ways in which lanes share a row: one subgroup, the subgroups of a workgroup, a workgroup
// without subgroups. The op table has the first two where an adapter has subgroups; here is the third beside them.
import { suite } from "uvu";
import { Gpu } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { grad, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { bothKernels } from "./device.ts";
import { assertWithin } from "./ops-table/bounds.ts";
import { normal } from "./ops-table/row.ts";

const test = suite("row kernels");
const { software, hardware } = await bothKernels();
const plain = new Gpu(hardware.device, { kernels: "hardware", subgroups: false });

type Rows = (x: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) => Tensor;

const kernels: Readonly<Record<string, Rows>> = {
  softmax: (x) => ad.softmax(x),
  logSoftmax: (x) => ad.logSoftmax(x),
  layerNorm: (x, weight, bias) => ad.layerNorm(x, weight, bias, 1e-5),
  addLayerNorm: (x, weight, bias) => ad.addLayerNorm(x, x, weight, bias, 1e-5),
  rmsNorm: (x, weight) => ad.rmsNorm(x, weight, 1e-5),
  crossEntropy: (x, _weight, _bias, labels) => ad.crossEntropy(x, labels, { reduction: "none" }),
  sum: (x) => x.sum([-1]),
  logSumExp: (x) => ad.logSumExp(x, [-1]),
};

/** y, and the gradient of x for a dy of the values of another seed. */
async function run(gpu: Gpu, op: Rows, columns: number): Promise<readonly ArrayLike<number>[]> {
  const rows = 5;
  const made = (shape: readonly number[], seed: number): Tensor =>
    tensor(gpu, Float32Array.from(normal(shape, seed).data), shape);
  const results = tidy(() => {
    const x = made([rows, columns], columns);
    x.requiresGrad = true;
    const labels = tensor(
      gpu,
      Int32Array.from({ length: rows }, (_, i) => (3 * i) % columns),
    );
    const y = op(x, made([columns], 1), made([columns], 2), labels);
    const [dx] = grad(y.mul(made(y.shape, 4)).sum(), [x]);
    return [y, dx as Tensor];
  });
  const data = await Promise.all(results.map((result) => result.data()));
  for (const result of results) result.dispose();
  return data;
}

for (const [name, op] of Object.entries(kernels))
  test(`${name}, whoever shares a row`, async () => {
    for (const columns of [1, 7, 64, 520, 1027]) {
      const [y = [], dx = []] = await run(software, op, columns);
      for (const other of [hardware, plain]) {
        const [otherY = [], otherDx = []] = await run(other, op, columns);
        const label = `${name} of ${columns}, ${other === plain ? "without" : "with"} subgroups`;
        assertWithin(otherY, Array.from(y), (i) => 1e-5 * (1 + Math.abs(y[i] ?? 0)), label);
        assertWithin(
          otherDx,
          Array.from(dx),
          (i) => 2e-5 * (1 + Math.abs(dx[i] ?? 0)),
          `gradient of ${label}`,
        );
      }
    }
  });

test.run();

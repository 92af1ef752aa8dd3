/**
 * Softmax that reads its operands from textures (texture.wgsl, the copies to them in its times) beside the kernels in use,
 * on a software adapter with subgroups of eight lanes. Checks that both give the same.
 *   ADAMIX_DEVICE=lavapipe node --import tsx bench/workbench/softmax/compare.ts
 *
 * Medians of ten rounds in turn, [4096, 1024], lavapipe (Mesa 25.0.7) on two cores:
TABLE
 */
import { readFileSync } from "node:fs";
import type { KernelSpec } from "../../../src/gpu/index.ts";
import { type GpuArray, openGpu, Stream } from "../../../src/index.ts";
import { rowKernel, runRows } from "../../../src/ops/index.ts";
import { race } from "../../../src/ops/race.ts";

const SHAPE = [4096, 1024] as const;
const [rows, columns] = SHAPE;
const LANES = 8;

const gpu = await openGpu();
const { name } = gpu.device.traits;
if (!gpu.isSoftware || gpu.subgroupSize !== LANES)
  throw new RangeError(
    `compare: ${name} has no subgroups of ${LANES} lanes, for which texture.wgsl is written`,
  );

const random = (what: string): GpuArray =>
  gpu.from(
    Stream.seed(0)
      .fold(what)
      .normal(rows * columns),
    SHAPE,
  );
const [x, dy, y, dx] = [random("x"), random("dy"), gpu.empty(SHAPE), gpu.empty(SHAPE)];

const code = readFileSync(new URL("texture.wgsl", import.meta.url), "utf8");

function fromTextures(entry: "forward" | "backward"): KernelSpec {
  const uses = { "lib/row_workgroup": "lib/row_subgroup" };
  return { shader: "texture", code, entry, uses, constants: { LANES: `${LANES}u` } };
}

/** An array as the texture of a slot. */
function texture(slot: number, array: GpuArray) {
  const target = gpu.device.scratch(slot, (rows * columns) / 4);
  gpu.copyToScratch(array, target);
  return target;
}

const kernels = { forward: rowKernel("softmax", "forward"), backward: rowKernel("softmax", "backward") };
const textured = { forward: fromTextures("forward"), backward: fromTextures("backward") };
const params = { rows, columns: columns / 4 };

const forward = [
  {
    name: "buffers",
    run: () => runRows(gpu, kernels.forward(gpu, columns).kernel, { rows, split: { x, y }, params }),
  },
  {
    name: "textures",
    run: () => gpu.run(textured.forward, { x: texture(0, x), y }, params, [rows, 1, 1]),
  },
];
const backward = [
  {
    name: "buffers",
    run: () =>
      runRows(gpu, kernels.backward(gpu, columns).kernel, { rows, split: { y_saved: y, dy, dx }, params }),
  },
  {
    name: "textures",
    run: () => gpu.run(textured.backward, { x: texture(0, y), dy: texture(1, dy), dx }, params, [rows, 1, 1]),
  },
];

console.log(`${name}, [${SHAPE.join(", ")}]: median ms of ten rounds`);
for (const [entry, contenders, result] of [
  ["forward", forward, y],
  ["backward", backward, dx],
] as const) {
  const found: Float32Array[] = [];
  for (const { run } of contenders) {
    run();
    found.push((await gpu.read(result)) as Float32Array); // f32 arrays
  }
  const [first = [], second = []] = found;
  if (!Array.from(first).every((v, i) => Math.abs(v - (second[i] ?? Number.NaN)) < 1e-5))
    throw new Error(`compare: ${entry} from textures gives something else`);
  const { ms } = await race(gpu, contenders, { rounds: 10 });
  console.log(
    `  ${entry.padEnd(9)} ${Object.entries(ms)
      .map(([who, time]) => `${who} ${time}`)
      .join(", ")}`,
  );
}
await gpu.device.close();

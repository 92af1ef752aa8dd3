/**
 * Which form of a product a software adapter with subgroups of eight lanes runs fastest. The winner is
 * shaders/matmul_panels.wgsl; packing is not in the times. Checks some elements of each against float64.
 *   ADAMIX_DEVICE=lavapipe node --import tsx bench/workbench/panels/compare.ts 512 512 512
 *
 * GFLOP/s, fastest and median of ten rounds in turn, lavapipe (Mesa 25.0.7) on two cores:
 *   form                                                      512³          1024³
 *   buffer, rows, 16 rows, loads between                  47.0  42.7    47.6  44.5
 *   buffer, rows, 16 rows, loads first                    48.4  44.5    48.8  44.5
 *   buffer, rows, 32 rows, loads between                  46.8  41.9    49.1  48.6
 *   buffer, rows, 32 rows, loads first                    56.8  51.4    59.6  55.9
 *   buffer, panels, 32 rows, loads first                  58.3  52.4    63.4  61.2
 *   texture, rows, 32 rows, loads first                   60.5  57.3    46.9  43.5
 *   sampled, panels, 32 rows, loads first                 58.0  52.0    61.3  59.4
 *   texture, panels, 16 rows, loads first                 59.2  57.7    65.1  64.1
 *   texture, panels, 32 rows, loads between               65.7  57.9    71.2  67.8
 *   texture, panels, 32 rows, loads first                 70.1  64.4    78.7  74.2
 *   texture, panels, 32 rows, loads first, one array      75.2  64.8    78.9  72.1
 *   texture, panels, 64 rows, loads between               57.6  51.2    58.3  53.2
 *   texture, panels, 64 rows, loads first                 75.6  67.4    82.6  77.7
 *   texture, panels, 64 rows, loads first, one array      72.5  65.8    82.8  76.7
 * Rows in textures lose by where they lie: a power of two apart, on the same lines of the cache. A load of a texture is a
 * call, and what is in registers is put aside for it: loads first, then products alone. One array of 64 sums is as fast
 * here, but stores in a loop of unknown length (which compiles faster) would keep it in memory.
 */
import { globals } from "webgpu";
import { findAdapter, settle } from "../../../src/platform/index.ts";
import { median } from "../../statistics.ts";
import { codeOf, type Form } from "./variants.ts";

const forms: readonly Form[] = [
  { from: "buffer", order: "rows", rows: 16, loads: "between" },
  { from: "buffer", order: "rows", rows: 16, loads: "first" },
  { from: "buffer", order: "rows", rows: 32, loads: "between" },
  { from: "buffer", order: "rows", rows: 32, loads: "first" },
  { from: "buffer", order: "panels", rows: 32, loads: "first" },
  { from: "texture", order: "rows", rows: 32, loads: "first" },
  { from: "sampled", order: "panels", rows: 32, loads: "first" },
  { from: "texture", order: "panels", rows: 16, loads: "first" },
  { from: "texture", order: "panels", rows: 32, loads: "between" },
  { from: "texture", order: "panels", rows: 32, loads: "first" },
  { from: "texture", order: "panels", rows: 32, loads: "first", isOneArray: true },
  { from: "texture", order: "panels", rows: 64, loads: "between" },
  { from: "texture", order: "panels", rows: 64, loads: "first" },
  { from: "texture", order: "panels", rows: 64, loads: "first", isOneArray: true },
];

Object.assign(globalThis, globals); // GPUBufferUsage and its like

const ROUNDS = 10;
const [M = 512, K = 512, N = 512] = process.argv.slice(2).map(Number);
if ([M, K, N].some((n) => !(n > 0) || n % 64 !== 0))
  throw new RangeError(`compare: ${M} ${K} ${N}; sizes M K N are multiples of 64`);

const { adapter, name } = await findAdapter();
const device = await adapter.requestDevice({ requiredFeatures: ["subgroups" as GPUFeatureName] });
device.onuncapturederror = ({ error }) => {
  console.error(error.message);
  process.exit(1);
};

const random = (size: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: size }, () => Math.random() - 0.5);
const [a, b] = [random(M * K), random(K * N)];
const panels = { a: panelsOfA(), b: panelsOfB() };

function panelsOfA(): Float32Array<ArrayBuffer> {
  const packed = new Float32Array(M * K);
  for (let m = 0; m < M; m++)
    for (let k = 0; k < K; k++)
      packed[((Math.floor(m / 32) * (K / 4) + (k >> 2)) * 32 + (m % 32)) * 4 + (k % 4)] = a[
        m * K + k
      ] as number;
  return packed;
}

function panelsOfB(): Float32Array<ArrayBuffer> {
  const packed = new Float32Array(K * N);
  for (let k = 0; k < K; k++)
    for (let n = 0; n < N; n++)
      packed[((Math.floor(n / 32) * (K / 4) + (k >> 2)) * 32 + (k % 4) * 8 + ((n % 32) >> 2)) * 4 + (n % 4)] =
        b[k * N + n] as number;
  return packed;
}

function bufferOf(data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>, usage: number): GPUBuffer {
  const buffer = device.createBuffer({ size: data.byteLength, usage: usage | GPUBufferUsage.COPY_DST });
  device.queue.writeBuffer(buffer, 0, data);
  return buffer;
}

/** Rows of `wide` texels. */
function textureOf(data: Float32Array<ArrayBuffer>, wide: number): GPUTextureView {
  const rows = data.length / 4 / wide;
  const texture = device.createTexture({
    size: [wide, rows],
    format: "rgba32float",
    usage: GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.COPY_DST,
  });
  device.queue.writeTexture({ texture }, data, { bytesPerRow: 16 * wide }, [wide, rows]);
  return texture.createView();
}

const sizes = bufferOf(new Uint32Array([M, K, N, 0]), GPUBufferUsage.UNIFORM);
const c = device.createBuffer({ size: 4 * M * N, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });

function operandsOf({ from, order }: Form): readonly [GPUBindingResource, GPUBindingResource] {
  const data = order === "rows" ? { a, b } : panels;
  if (from === "buffer") {
    const storage = (x: Float32Array<ArrayBuffer>) => ({ buffer: bufferOf(x, GPUBufferUsage.STORAGE) });
    return [storage(data.a), storage(data.b)];
  }
  return order === "rows"
    ? [textureOf(a, K / 4), textureOf(b, N / 4)]
    : [textureOf(panels.a, 32), textureOf(panels.b, 32)];
}

function layoutOf({ from }: Form): GPUBindGroupLayout {
  const visibility = GPUShaderStage.COMPUTE;
  const operand = {
    buffer: { buffer: { type: "read-only-storage" } },
    texture: { storageTexture: { access: "read-only", format: "rgba32float" } },
    sampled: { texture: { sampleType: "unfilterable-float" } },
  } as const;
  return device.createBindGroupLayout({
    entries: [
      { binding: 0, visibility, buffer: { type: "uniform" } },
      { binding: 1, visibility, ...operand[from] },
      { binding: 2, visibility, ...operand[from] },
      { binding: 3, visibility, buffer: { type: "storage" } },
    ],
  });
}

function prepare(form: Form): () => Promise<number> {
  const layout = layoutOf(form);
  const pipeline = device.createComputePipeline({
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module: device.createShaderModule({ code: codeOf(form) }) },
  });
  const [left, right] = operandsOf(form);
  const resources = [{ buffer: sizes }, left, right, { buffer: c }];
  const group = device.createBindGroup({
    layout,
    entries: resources.map((resource, binding) => ({ binding, resource })),
  });
  const repeats = Math.max(1, Math.round(5e8 / (2 * M * N * K)));
  return async () => {
    const started = performance.now();
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    for (let i = 0; i < repeats; i++) pass.dispatchWorkgroups(N / 32, M / form.rows);
    pass.end();
    device.queue.submit([encoder.finish()]);
    await settle(device.queue.onSubmittedWorkDone(), true);
    return (performance.now() - started) / repeats;
  };
}

async function check(form: Form): Promise<void> {
  const staging = device.createBuffer({
    size: 4 * M * N,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(c, 0, staging, 0, 4 * M * N);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const found = new Float32Array(staging.getMappedRange().slice(0));
  staging.destroy();
  for (let i = 0; i < 500; i++) {
    const [m, n] = [Math.floor(Math.random() * M), Math.floor(Math.random() * N)];
    let expected = 0;
    for (let k = 0; k < K; k++) expected += (a[m * K + k] as number) * (b[k * N + n] as number);
    const actual = found[m * N + n] as number;
    if (!(Math.abs(actual - expected) < 1e-5 * K))
      throw new Error(
        `compare: ${JSON.stringify(form)} gives ${actual} at [${m}, ${n}], expected ${expected}`,
      );
  }
}

const runs = forms.map(prepare);
const times = forms.map((): number[] => []);
for (const [i, run] of runs.entries()) {
  await run();
  await check(forms[i] as Form);
}
for (let round = 0; round < ROUNDS; round++)
  for (const [i, run] of runs.entries()) times[i]?.push(await run());

console.log(`${name}, ${M} x ${K} x ${N}: GFLOP/s at the fastest and the median of ${ROUNDS} rounds`);
for (const [i, { from, order, rows, loads, isOneArray }] of forms.entries()) {
  const rate = (ms: number): string => ((2 * M * N * K) / ms / 1e6).toFixed(1);
  const own = times[i] ?? [];
  const form = `${from}, ${order}, ${rows} rows, loads ${loads}${isOneArray ? ", one array" : ""}`;
  console.log(`  ${form.padEnd(52)} ${rate(Math.min(...own)).padStart(5)} ${rate(median(own)).padStart(5)}`);
}
process.exit(0);

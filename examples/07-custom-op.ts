// An op of one's own: shapes, forward and backward in one object, with WGSL of one's own.
//
//     npm run build && node --import tsx examples/07-custom-op.ts
import {
  apply,
  defineOp,
  type GpuArray,
  type KernelSpec,
  openGpu,
  ShapeError,
  silu,
  type Tensor,
  tensor,
  threads,
  tidy,
} from "adamix";

// Bindings and parameters carry the names that `gpu.run` passes; an entry point is given those that it reads. Lines
// `// use:` append files of the library: the unfolding of long grids, and functions that hold on every driver.
const code = /* wgsl */ `
// use: lib/grid
// use: lib/scalar
// use: lib/math
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> da: array<f32>;
@group(0) @binding(6) var<storage, read_write> db: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i < params.n) { y[i] = a[i] * sigmoid(a[i]) * b[i]; }
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n) { return; }
  let s = sigmoid(a[i]);
  da[i] = dy[i] * b[i] * s * (1.0 + a[i] * (1.0 - s));
  db[i] = dy[i] * a[i] * s;
}`;

// Made once: a device knows its kernels by these objects. Shapes are parameters, so no other shape compiles.
const forward: KernelSpec = { shader: "swiglu", code, entry: "forward" };
const backward: KernelSpec = { shader: "swiglu", code, entry: "backward" };

/** y = silu(a) b, the gate of many feed-forward layers. a, b of one shape. Saves a and b. */
const swigluOp = defineOp<
  readonly [a: GpuArray, b: GpuArray],
  Record<string, never>,
  { readonly a: GpuArray; readonly b: GpuArray }
>({
  name: "swiglu",
  shape([a, b]) {
    if (String(a) !== String(b)) throw new ShapeError(`swiglu: [${a}] and [${b}] differ`);
    return a;
  },
  // What is made here and is neither returned nor saved goes back to the pool by itself.
  forward(gpu, [a, b]) {
    const y = gpu.like(a);
    gpu.run(forward, { a, b, y }, { n: y.size }, threads(y.size));
    return { output: y, saved: { a, b } };
  },
  // Only for inputs that need a gradient; null for the others.
  backward(gpu, dy, { a, b }, _attrs, [needsA, needsB]) {
    const [da, db] = [gpu.like(a), gpu.like(b)];
    gpu.run(backward, { a, b, dy, da, db }, { n: dy.size }, threads(dy.size));
    return [needsA ? da : null, needsB ? db : null];
  },
});

const swiglu = (a: Tensor, b: Tensor): Tensor => apply(swigluOp, [a, b], {});

const gpu = await openGpu();
const a = tensor(gpu, [-2, -1, 0, 1, 2, 3], [2, 3]);
const b = tensor(gpu, [1, 2, 3, 4, 5, 6], [2, 3]);
for (const x of [a, b]) x.requiresGrad = true;

/** Σ y² and the gradients of a and b. */
async function gradients(f: (a: Tensor, b: Tensor) => Tensor): Promise<number[]> {
  for (const x of [a, b]) x.grad = null;
  tidy(() => {
    const y = f(a, b);
    y.mul(y).sum().backward();
  });
  return [...((await a.grad?.data()) ?? []), ...((await b.grad?.data()) ?? [])];
}

console.log("y", [...(await swiglu(a, b).data())].map((value) => value.toFixed(4)).join(" "));
const own = await gradients(swiglu);
const composed = await gradients((x, gate) => silu(x).mul(gate)); // the same of the library's ops
console.log("gradients", own.map((value) => value.toFixed(3)).join(" "));
const difference = Math.max(...own.map((value, i) => Math.abs(value - (composed[i] ?? 0))));
console.log("the composed one agrees:", difference < 1e-4);

// It meets the rest of the library as any op does: views, other types, wrong shapes.
console.log("of views", (await swiglu(a.transpose(0, 1), b.transpose(0, 1)).sum().item()).toFixed(4));
console.log("of f16", swiglu(a.to("f16"), b.to("f16")).dtype);
try {
  swiglu(a, b.reshape(6));
} catch (error) {
  console.log((error as Error).message);
}

await gpu.device.close();

// Prints:
// y -0.2384 -0.5379 0.0000 2.9242 8.8080 17.1463
// gradients 0.043 -0.156 0.000 21.702 96.076 223.884 0.114 0.289 0.000 4.276 31.032 97.999
// the composed one agrees: true
// of views 28.1022
// of f16 f16
// swiglu: [2,3] and [6] differ

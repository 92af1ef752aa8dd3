// What is wrong with a kernel of one's own, or with how it is called, is told at once, and the device lives on.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { TypedArray } from "../src/array/index.ts";
import { tensor } from "../src/autograd/index.ts";
import { GpuError, type Grid, type KernelSpec, ShapeError } from "../src/gpu/index.ts";
import { threads } from "../src/ops/index.ts";
import { gpu as testGpu } from "./device.ts";
import { runProgram } from "./program-process.ts";

const gpu = await testGpu();
const failures = suite("failures of kernels");

/** y = 2 a, with `expression` for 2. */
const doubling = (expression: string, head = ""): KernelSpec => ({
  shader: "mine",
  entry: "forward",
  code: `${head}struct Params { n: u32, shift: i32, list: array<vec4u, 1> }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < params.n) { y[id.x] = ${expression} * a[id.x]; }
}
`,
});

function rejected(body: () => void, kind: new () => Error): string {
  try {
    body();
  } catch (error) {
    assert.instance(error, kind);
    return (error as Error).message;
  }
  assert.unreachable("no error");
  return "";
}

const run = (kernel: KernelSpec, params: Record<string, number | number[]> = {}): Promise<TypedArray> => {
  const [a, y] = [gpu.from(Float32Array.of(1, 2, 3)), gpu.empty([3])];
  try {
    gpu.run(kernel, { a, y }, { n: 3, shift: 0, list: [], ...params }, threads(3));
    return gpu.read(y);
  } finally {
    for (const array of [a, y]) array.release();
  }
};

failures("WGSL that does not compile: kernel, line and column, each time; other kernels run", async () => {
  const kernels = gpu.device.statistics().kernels;
  for (const head of ["", "// subgroupAdd in a comment needs nothing\n"]) {
    const line = head === "" ? 7 : 8;
    for (const broken of [doubling("2u", head), doubling("2u", head)]) {
      const message = rejected(() => void run(broken), GpuError);
      assert.match(message, new RegExp(`^mine\\.forward: line ${line}, column \\d+: .*u32`));
      assert.match(message, /y\[id\.x\] = 2u \* a\[id\.x\]/);
    }
  }
  assert.is(gpu.device.statistics().kernels, kernels, "nothing of them is kept");
  assert.equal([...(await run(doubling("2.0")))], [2, 4, 6]);
  assert.equal([...(await tensor(gpu, [1, 2, 3]).mul(2).data())], [2, 4, 6]);
});

failures("lines are those of one's own text, whatever the loader puts in front", () => {
  if (!gpu.device.traits.features.has("subgroups")) return;
  const broken = doubling("subgroupAdd(2u)");
  assert.match(
    rejected(() => void run(broken), GpuError),
    /^mine\.forward: line 7, column/,
  );
});

failures("a pipeline that the device cannot make says why", async () => {
  const broken = doubling("2.0");
  const code = broken.code?.replace("@workgroup_size(64)", "@workgroup_size(65536)") ?? "";
  assert.match(
    rejected(() => void run({ ...broken, code }), GpuError),
    /^mine\.forward: .*65536/,
  );
  assert.equal([...(await run(doubling("2.0")))], [2, 4, 6]);
});

failures(
  "a process in which such an error was caught ends with success, and prints nothing itself",
  async () => {
    const program = `
    import { openGpu } from "./src/array/index.ts";
    const gpu = await openGpu();
    const y = gpu.empty([4]);
    try { gpu.run({ shader: "../test/shaders/broken", entry: "main" }, { y }, {}, [1, 1, 1]); }
    catch (error) { console.log(error.message.split("\\n")[0]); }
    console.log((await gpu.read(gpu.from(Float32Array.of(7))))[0]);
    await gpu.device.close();`;
    const { code, stdout, stderr } = await runProgram(program);
    const message = "../test/shaders/broken.main: line 5, column 18: cannot assign 'u32' to 'f32'";
    assert.equal([code, stdout.trim().split("\n"), stderr], [0, [message, "7"], ""]);
  },
);

failures("memory that a dispatch writes is no other array of it", async () => {
  const kernel = doubling("2.0");
  const a = gpu.from(Float32Array.of(1, 2, 3));
  const params = { n: 3, shift: 0, list: [] };
  const { dispatches } = gpu.device.statistics();
  for (let attempt = 0; attempt < 2; attempt++) {
    const message = rejected(() => gpu.run(kernel, { a, y: a }, params, threads(3)), GpuError);
    assert.is(message, 'mine.forward: "a" and "y" share memory, and "y" is written; let it be another array');
  }
  const apart = gpu.empty([256]);
  const two = { a: apart.view([64], 0), y: apart.view([64], 64) };
  rejected(() => gpu.run(kernel, two, params, threads(3)), GpuError);
  assert.is(gpu.device.statistics().dispatches, dispatches);
  assert.equal([...(await gpu.read(a))], [1, 2, 3]);
});

failures("a parameter that is no such whole number is refused", async () => {
  const kernel = doubling("2.0");
  const bad: readonly [Record<string, number | number[]>, string][] = [
    [{ n: 1.5 }, '"n" is 1.5, expected a u32'],
    [{ n: -1 }, '"n" is -1, expected a u32'],
    [{ n: Number.NaN }, '"n" is NaN, expected a u32'],
    [{ n: 2 ** 32 }, '"n" is 4294967296, expected a u32'],
    [{ shift: 2 ** 31 }, '"shift" is 2147483648, expected a i32'],
    [{ list: [1, -2] }, '"list" is -2, expected a u32'],
    [{ n: [1, 2] }, '"n" is a list of 2, expected a u32'],
    [{ list: 7 }, '"list" is 7, expected a list of u32, 4 at most'],
    [{ list: [1, 2, 3, 4, 5] }, '"list" is a list of 5, expected a list of u32, 4 at most'],
  ];
  for (const [params, message] of bad)
    assert.is(
      rejected(() => void run(kernel, params), ShapeError),
      `mine.forward: parameter ${message}`,
    );
  assert.equal(
    [...(await run(kernel, { n: 2 ** 32 - 1, shift: -(2 ** 31), list: [1, 2, 3, 4] }))],
    [2, 4, 6],
  );
});

failures(
  "a grid that the device cannot start is refused, with the way out, and the device lives",
  async () => {
    const kernel = doubling("2.0");
    const [a, y] = [gpu.from(Float32Array.of(1, 2, 3)), gpu.empty([3])];
    const start = (grid: readonly number[]): void =>
      gpu.run(kernel, { a, y }, { n: 3, shift: 0, list: [] }, grid as Grid);
    const { dispatches } = gpu.device.statistics();
    const bad: readonly [number[], string][] = [
      [[65_536, 1, 1], "65536 workgroups in x"],
      [[1, 70_000, 1], "70000 workgroups in y"],
      [[1, 1, -1], "-1 workgroups in z"],
      [[1.5, 1, 1], "1.5 workgroups in x"],
      [[Number.NaN, 1, 1], "NaN workgroups in x"],
      [[1], "undefined workgroups in y"],
    ];
    for (const [grid, message] of bad)
      assert.is(
        rejected(() => start(grid), ShapeError),
        `mine.forward: ${message}, expected a whole number of 0 .. 65535; grid1d(groups) folds a longer row of them`,
      );
    assert.is(gpu.device.statistics().dispatches, dispatches);
    start([1, 1, 1]);
    assert.equal([...(await gpu.read(y))], [2, 4, 6]);
  },
);

failures.run();

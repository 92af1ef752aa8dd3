// The WGSL loader, and every file of shaders/ in all its entries and variants. A backend of Dawn that runs nothing
// validates them, so what passes here does not depend on the adapter.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { chooseMatrices, kernelCode } from "../src/gpu/index.ts";
import { KernelCache, type KernelSpec, kernelKey } from "../src/gpu/kernel.ts";
import { entryLayout, resolveUses, specialise } from "../src/gpu/wgsl.ts";
import { matrixParts } from "../src/ops/gemm.ts";
import { openDawn } from "../src/platform/dawn.ts";
import { shaderNames, shaderText } from "../src/platform/index.ts";

const loader = suite("WGSL loader");
const shaders = suite("shaders");

// --- loader

const files: Readonly<Record<string, string>> = {
  main: "// use: lib/a\n// use: lib/b\nfn main() {}",
  "lib/a": "// use: lib/b\nfn a() {}",
  "lib/b": "fn b() {}",
  "lib/other": "fn other() {}",
  circle: "// use: circle\nfn c() {}",
  lanes: "fn main() { let s = subgroupShuffle(1u, 0u); }",
  sums: "fn main() { let s = subgroupAdd(1u); }",
  comment: "// subgroupAdd is not used\nfn main() {}",
};
const text = (name: string) => {
  const found = files[name];
  if (found === undefined) throw new Error(`no file ${name}`);
  return found;
};
const count = (code: string, part: string) => code.split(part).length - 1;

loader("a file named by several `use` lines is taken once", () => {
  const code = resolveUses("main", text);
  for (const name of ["main", "a", "b"]) assert.is(count(code, `fn ${name}(`), 1, name);
  assert.is(count(resolveUses("circle", text), "fn c("), 1);
});

loader("a library takes the place of another, wherever it is named", () => {
  const code = resolveUses("main", text, { "lib/b": "lib/other" });
  assert.is(count(code, "fn b("), 0);
  assert.is(count(code, "fn other("), 1);
});

loader("a missing file is named with its path", () => {
  assert.throws(
    () => kernelCode({ shader: "nothing", entry: "main" }),
    /no file .*nothing\.wgsl for the shader "nothing"/,
  );
});

loader("WGSL of one's own takes the place of a file, and may use the library's", () => {
  const own = "// use: lib/grid\nalias T = f32;\nfn main() {}";
  const code = kernelCode({ shader: "own", code: own, entry: "main", constants: { T: "vec4f" } });
  assert.ok(code.startsWith("// use: lib/grid\nalias T = vec4f;\nfn main() {}"));
  assert.is(count(code, "fn unfold("), 1);
  const key = (code: string) => kernelKey({ shader: "own", code, entry: "main" });
  assert.is.not(key("fn main() {}"), key("fn main() { }"));
  assert.throws(
    () => kernelCode({ shader: "own", code: "fn main() {}", entry: "main", constants: { T: "f32" } }),
    /own\.main: no top-level declaration named T/,
  );
});

loader("`enable subgroups` stands in front where subgroups are used, not where they are spoken of", () => {
  assert.ok(resolveUses("lanes", text).startsWith("enable subgroups; "));
  assert.is(count(resolveUses("comment", text), "enable"), 0);
  assert.ok(resolveUses("sums", text).startsWith("diagnostic(off, subgroup_uniformity); enable subgroups; "));
});

loader("specialise replaces aliases, constants and one-line functions by name", () => {
  const code =
    "alias T = f32;\nconst LANES: u32 = 8u; // lanes\nfn value(x: T) -> T { return x; }\nconst LANES_MORE: u32 = 1u;";
  const result = specialise("k", code, { T: "vec4f", LANES: "4u", value: "$1 * x" });
  assert.is(
    result,
    "alias T = vec4f;\nconst LANES: u32 = 4u; // lanes\nfn value(x: T) -> T { return $1 * x; }\nconst LANES_MORE: u32 = 1u;",
  );
});

loader("a name that no declaration has is an error, as is one inside a function", () => {
  const code = "const A: u32 = 1u;\nfn f() {\n  const B: u32 = 2u;\n}";
  assert.throws(
    () => specialise("matmul.tiled", code, { C: 3 }),
    /matmul\.tiled: no top-level declaration named C/,
  );
  assert.throws(() => specialise("k", code, { B: 3 }), /no top-level declaration named B/);
});

const layoutCode = `
struct Params { n: u32, scale: f32, shape: array<vec4u, 2>, last: i32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> mask: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> z: array<f32>; // never read: mask
fn load(i: u32) -> f32 { return x[i]; }
fn size() -> u32 { return params.n; }
fn masked(i: u32) -> f32 { return load(i) * mask[i]; }
@compute @workgroup_size(64)
fn plain(@builtin(global_invocation_id) id: vec3u) { let masked = 1.0; y[id.x] = load(id.x); }
@compute @workgroup_size(64)
fn deep(@builtin(global_invocation_id) id: vec3u) { let size = size(); if (id.x < size) { y[id.x] = masked(id.x); } }
@compute @workgroup_size(1)
fn member() { z[0] = Pair(1.0, 2.0).y; }
struct Pair { x: f32, y: f32 }
`;

loader("an entry point is bound to what it reaches, through functions and not by members or locals", () => {
  const names = (entry: string) => entryLayout("k", layoutCode, entry).bindings.map(({ name }) => name);
  assert.equal(names("plain"), ["x", "y"]);
  assert.equal(names("deep"), ["x", "mask", "y"]);
  assert.equal(names("member"), ["z"]);
  assert.is(entryLayout("k", layoutCode, "plain").params, null);
  const [x, , y] = entryLayout("k", layoutCode, "deep").bindings;
  assert.equal([x?.writes, y?.writes], [false, true]);
});

loader("parameters lie where WGSL puts them", () => {
  const { params } = entryLayout("k", layoutCode, "deep");
  const fields = params?.fields.map(({ name, type, offset, count: n }) => [name, type, offset, n]);
  assert.equal(fields, [
    ["n", "u32", 0, 1],
    ["scale", "f32", 1, 1],
    ["shape", "u32", 4, 8],
    ["last", "i32", 12, 1],
  ]);
  assert.is(params?.bytes, 64);
});

loader("a parameter of another type, and an entry that is not there, are errors", () => {
  const odd = layoutCode.replace("scale: f32", "scale: vec2f");
  assert.throws(
    () => entryLayout("k", odd, "deep"),
    /k: 1 of 4 fields of Params are not u32, i32, f32 or array/,
  );
  assert.throws(() => entryLayout("k", layoutCode, "nothing"), /k: no entry point nothing/);
});

// --- shaders

const dawn = await openDawn(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
const adapter = await dawn.requestAdapter();
if (!adapter) throw new Error("Dawn has no null backend");
const features = ["subgroups", "shader-f16", "chromium-experimental-subgroup-matrix"] as GPUFeatureName[]; // the last is experimental
const device = await adapter.requestDevice({ requiredFeatures: features });
const kernels = new KernelCache(device, null);

const swaps: readonly (readonly [from: string, to: string])[] = [
  ["lib/vec4", "lib/scalar"],
  ["lib/row_workgroup", "lib/row_subgroup"],
  ["lib/row_workgroup", "lib/row_subgroups"],
  ["lib/lanes_workgroup", "lib/lanes_subgroup"],
  ["lib/gemm_load_fours", "lib/gemm_load_ones"],
  ["lib/gemm_put_fours", "lib/gemm_put_ones"],
  ["lib/gemm_store", "lib/gemm_store_activated"],
  ["lib/gemm_store", "lib/gemm_store_added"],
  ["lib/halves", "lib/brain"],
  ["lib/heads_fours", "lib/heads_ones"],
];

const flag = ["false", "true"];
const constants = {
  LANES: ["4u", "8u", "16u"],
  HAS_BIAS: flag,
  IS_TALL: flag,
  IS_LEFT: flag,
  IS_ALONG_K: flag,
  SPANS: ["1u", "2u", "3u", "4u"],
};

/** A shader with each of the libraries that may take another's place, and each number of lanes. */
function variantsOf(shader: string): Omit<KernelSpec, "entry">[] {
  const source = shaderText(shader);
  let variants: Omit<KernelSpec, "entry">[] = [{ shader }];
  for (const [from, to] of swaps) {
    if (!source.includes(`// use: ${from}\n`)) continue;
    variants = variants.flatMap((variant) => [
      variant,
      { ...variant, uses: { ...variant.uses, [from]: to } },
    ]);
  }
  for (const [name, values] of Object.entries(constants)) {
    variants = variants.flatMap((variant) => {
      const hasConstant = resolveUses(shader, shaderText, variant.uses).includes(`const ${name}: `);
      if (!hasConstant) return [variant];
      return values.map((value) => ({ ...variant, constants: { ...variant.constants, [name]: value } }));
    });
  }
  return variants;
}

function entriesOf(shader: string): string[] {
  return [...shaderText(shader).matchAll(/@compute[^\n]*\s+fn (\w+)/g)].map((match) => match[1] ?? "");
}

for (const shader of shaderNames()) {
  shaders(`${shader} validates in every entry and variant, and binds what it uses`, async () => {
    const entries = entriesOf(shader);
    assert.ok(entries.length > 0);
    for (const variant of variantsOf(shader)) {
      for (const entry of entries) await validate({ ...variant, entry });
    }
  });
}

/** Rows, columns and steps of the matrices that adapters are known to have. */
const matrices = [
  [8, 8, 8],
  [16, 16, 8],
  [16, 16, 16],
  [16, 8, 16],
] as const;
/** Sides and depths of the tiles that are made of them. */
const tiles = [
  [64, 16],
  [64, 32],
  [128, 16],
  [128, 32], // takes more workgroup memory than this device has, as some emulated ones do: only the text is validated
] as const;

for (const [rows, columns, step] of matrices)
  shaders(`products of matrices of ${rows} x ${step} and ${step} x ${columns} validate`, async () => {
    for (const [tile, depth] of tiles)
      for (const alongK of [true, false])
        for (const isEmulated of [false, true])
          for (const loads of ["gemm_load_fours", "gemm_load_ones"]) {
            const sizes = { rows, columns, step, subgroup: 32, depth, tile, alongK, isEmulated };
            const { uses, constants } = matrixParts(sizes);
            const spec: KernelSpec = {
              shader: "matmul_matrix",
              entry: "matrix",
              constants,
              uses: { ...uses, "lib/gemm_load_fours": `lib/${loads}` },
            };
            if (tile * depth < 128 * 32 && !isEmulated) await validate(spec);
            else
              await checked(JSON.stringify(sizes), () =>
                device.createShaderModule({ code: kernelCode(spec) }),
              );
          }
  });

shaders("a device takes the largest matrices that fit", () => {
  const config = (M: number, N: number, K: number, componentType = "f16", resultComponentType = "f32") => ({
    componentType,
    resultComponentType,
    M,
    N,
    K,
  });
  const some = [config(16, 8, 16), config(16, 16, 16), config(16, 8, 8), config(16, 16, 32, "i8", "i32")];
  const device = { subgroup: 32, workgroupBytes: 16_384 };
  const largest = { rows: 16, columns: 16, step: 16, subgroup: 32, depth: 16 };
  assert.equal(chooseMatrices(some, device), largest);
  assert.equal(chooseMatrices(some, { ...device, workgroupBytes: 49_152 }), { ...largest, depth: 32 });
  assert.equal(chooseMatrices([config(8, 8, 8)], device), { ...largest, rows: 8, columns: 8, step: 8 });
  const others = [config(16, 16, 16, "f16", "f16"), config(12, 16, 16), config(32, 32, 16)];
  assert.is(chooseMatrices(others, device), null);
  assert.is(chooseMatrices(some, { ...device, subgroup: 0 }), null, "subgroups of more than one size");
});

const texture = device.createTexture({ size: [8, 8], format: "rgba32float", usage: 8 }); // STORAGE_BINDING

async function validate(spec: KernelSpec): Promise<void> {
  const name = `${spec.shader}.${spec.entry} ${JSON.stringify({ ...spec.uses, ...spec.constants })}`;
  const { layout } = await checked(name, () => kernels.get(spec));
  assert.ok(layout.bindings.length <= 8, `${name}: ${layout.bindings.length} storage buffers`);
  // What Dawn finds that the entry uses is what the loader found: else the bind group does not fit the layout.
  const module = device.createShaderModule({ code: kernelCode(spec) });
  const pipeline = device.createComputePipeline({
    layout: "auto",
    compute: { module, entryPoint: spec.entry },
  });
  await checked(`${name}: bindings`, () => {
    const resource = (usage: number) => ({ buffer: device.createBuffer({ size: 1024, usage }) });
    const entries: GPUBindGroupEntry[] = layout.bindings.map(({ binding, isTexture }) => ({
      binding,
      resource: isTexture ? texture.createView() : resource(128),
    }));
    if (layout.params) entries.push({ binding: layout.params.binding, resource: resource(64) });
    device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  });
}

/** Runs `body`, and fails with the error that Dawn reports. */
async function checked<T>(name: string, body: () => T): Promise<T> {
  device.pushErrorScope("validation");
  let reported: Promise<GPUError | null>;
  let result: T;
  try {
    result = body();
  } finally {
    reported = device.popErrorScope(); // a scope that stays open swallows every later error
  }
  const error = await reported;
  if (error) throw new Error(`${name}: ${error.message}`);
  return result;
}

shaders("every library is used", () => {
  const used = [...shaderNames(), ...shaderNames("lib")].map(shaderText).join("\n");
  const swapped = [...swaps.map(([, to]) => to), "lib/matrix_emulated"];
  const unused = shaderNames("lib").filter(
    (name) => !used.includes(`// use: ${name}\n`) && !swapped.includes(name),
  );
  assert.equal(unused, []);
});

shaders("libraries that take each other's place declare the same names", () => {
  const declared = (name: string) =>
    [...shaderText(name).matchAll(/^(?:fn|alias|const) (\w+)/gm)].map((match) => match[1]).sort();
  for (const [from, to] of swaps) assert.equal(declared(to), declared(from), `${from} and ${to}`);
});

loader.run();
shaders.run();

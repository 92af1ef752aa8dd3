// Forms of a product: what the fixed table takes, and that each form computes whatever it says it can.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu, GpuArray } from "../src/array/index.ts";
import { gemm, type Product } from "../src/ops/gemm.ts";
import { canCompute, type Form, formsToTry, type Traits, tableForm } from "../src/ops/gemm-forms.ts";
import { stridesOf } from "../src/ops/product.ts";
import { chooseForms, classOf, formsInForce, listenToProducts, withForms } from "../src/ops/product-forms.ts";
import { bothKernels, liveBytes } from "./device.ts";
import { assertWithin } from "./ops-table/bounds.ts";
import { normal } from "./ops-table/row.ts";

const forms = suite("forms of a product");

const MiB = 2 ** 20;
const eight: Traits = { isSoftware: true, subgroupSize: 8, matrices: null, maxBindingBytes: 128 * MiB };
const four: Traits = { ...eight, subgroupSize: 4 };
const sixteen: Traits = { ...eight, subgroupSize: 16 };
const hardware: Traits = { ...eight, isSoftware: false, subgroupSize: 32 };
const withMatrices: Traits = {
  ...hardware,
  matrices: { rows: 16, columns: 16, step: 16, subgroup: 32, depth: 32 },
};

/** A product as far as the table looks at it. */
function like(form: string, [M, K, N]: readonly [number, number, number], more: object = {}): Product {
  const product = { M, K, N, transposeA: form[0] === "t", transposeB: form[1] === "t" };
  return { ...product, b: { dtype: "f32" }, ...more } as Product;
}

const half = { b: { dtype: "f16" } };

const table: readonly (readonly [Traits, Product, Form])[] = [
  [eight, like("nt", [1, 768, 3072]), "vector"],
  [eight, like("nn", [1, 768, 3072]), "subgroup"],
  [eight, like("nt", [31, 768, 3072]), "subgroup"],
  [eight, like("nt", [32, 768, 3072]), "subgroup-tall"],
  [eight, like("nt", [32, 256, 512]), "subgroup-tall"],
  [eight, like("nt", [32, 255, 512]), "subgroup"],
  [eight, like("nt", [32, 255, 512], { batch: 2 }), "subgroup-tall"],
  [eight, like("nt", [64, 1024, 512]), "panels"],
  [eight, like("nt", [64, 1023, 512]), "subgroup-tall"],
  [eight, like("nt", [63, 1024, 1024]), "subgroup-tall"],
  [eight, like("nt", [127, 1024, 1024]), "panels"],
  [eight, like("tn", [128, 1024, 512]), "panels-tall"],
  [eight, like("tt", [128, 1024, 512]), "panels-tall"],
  [eight, like("tn", [128, 1024, 512], { routing: "collect" }), "subgroup"],
  [eight, like("nt", [512, 1024, 512], { routing: "pick" }), "subgroup-tall"],
  [eight, like("nn", [512, 1024, 512], { sums: 2 }), "plain"],
  [eight, like("tt", [32, 32, 32]), "plain"],
  [four, like("nt", [512, 1024, 512]), "subgroup"],
  [four, like("tn", [512, 1024, 512]), "subgroup"],
  [sixteen, like("nt", [512, 1024, 512]), "plain"],
  [hardware, like("nt", [1, 768, 3072]), "vector"],
  [hardware, like("nt", [128, 1024, 1024]), "tiled-64"],
  [hardware, like("nt", [2048, 1024, 1024]), "tiled-128"],
  [hardware, like("nt", [2048, 1024, 1024], half), "tiled-128"],
  [withMatrices, like("nt", [2048, 1024, 1024], half), "matrix-128"],
  [withMatrices, like("nn", [32, 32, 32], half), "matrix-64"],
  [withMatrices, like("nn", [31, 32, 32], half), "tiled-narrow"],
  [hardware, like("nt", [8192, 1024, 8]), "tiled-narrow"],
  [hardware, like("tn", [32, 8192, 1024]), "tiled-narrow"],
  [hardware, like("nt", [8192, 1024, 33]), "tiled-64"],
  [withMatrices, like("tn", [64, 64, 64], half), "tiled-64"],
];

forms("the fixed table", () => {
  for (const [gpu, product, form] of table) {
    const { M, K, N, transposeA, transposeB } = product;
    const what = `${transposeA ? "t" : "n"}${transposeB ? "t" : "n"} ${M}x${K}x${N}, subgroups of ${gpu.subgroupSize}`;
    assert.is(tableForm(gpu, product), form, what);
    assert.ok(canCompute(gpu, product, form), what);
    assert.ok(formsToTry(gpu, product).includes(form), what);
  }
});

forms(
  "tuning never rounds to f16 what the table does not, nor tries barriers where there are subgroups",
  () => {
    assert.ok(!formsToTry(withMatrices, like("nn", [31, 32, 32], half)).some((form) => /matrix/.test(form)));
    assert.ok(!formsToTry(withMatrices, like("nn", [64, 64, 64])).some((form) => /matrix/.test(form)));
    const tried = ["panels", "panels-tall", "subgroup", "subgroup-tall", "plain"];
    assert.equal(formsToTry(eight, like("nt", [9, 9, 9])), tried);
    assert.equal(formsToTry(sixteen, like("nt", [9, 9, 9])), [
      "tiled-64",
      "tiled-128",
      "tiled-narrow",
      "plain",
    ]);
  },
);

forms("classes: sizes rounded down to powers of two, and what else decides", () => {
  const fours = { loads: true, stores: true };
  assert.is(classOf(like("nt", [1023, 768, 3072]), fours), "nt 512x512x2048");
  assert.is(classOf(like("nt", [512, 512, 2048]), fours), "nt 512x512x2048");
  assert.is(
    classOf(like("nn", [1, 2, 3], { batch: 24, routing: "pick", ...half, activation: "gelu" }), {
      loads: false,
      stores: false,
    }),
    "nn 1x2x2, batch 16, picked, b in f16, activated, loads by ones, stores by ones",
  );
  const added = like("tn", [8, 8, 8], { sums: 3, routing: "collect", accumulate: true });
  assert.is(classOf(added, fours), "tn 8x8x8, sums 2, collected, added");
});

interface Case {
  readonly form: string;
  readonly size: readonly [number, number, number];
  readonly batch: number;
  readonly routing?: "pick";
  readonly activation?: "relu";
}

/** An activation, routes, a batch; sizes of a few elements, of multiples of four and of nothing. */
const cases: readonly Case[] = [
  { form: "nt", size: [37, 70, 35], batch: 1, activation: "relu" },
  { form: "nt", size: [9, 33, 66], batch: 3, routing: "pick" },
  { form: "nn", size: [5, 3, 7], batch: 1 },
  { form: "tn", size: [36, 72, 40], batch: 1 },
  { form: "tt", size: [33, 6, 65], batch: 1 },
  { form: "nn", size: [40, 36, 33], batch: 3 },
  { form: "nt", size: [1, 37, 19], batch: 1 },
];

/** Float64 beside what is on the device. */
function prepared(gpu: Gpu, { form, size: [M, K, N], batch, routing, activation }: Case) {
  const [tA, tB] = [form[0] === "t", form[1] === "t"];
  const [a, b, bias] = [normal([batch, M * K], 1), normal([2 + batch, K * N], 2), normal([2 + batch, N], 3)];
  const route = Int32Array.from({ length: batch }, (_, i) => (i + 1) % 3);
  const arrays = [a, b, bias].map(({ data, shape }) => gpu.from(Float32Array.from(data), shape));
  const [left, right, add] = arrays as [GpuArray, GpuArray, GpuArray];
  const c = gpu.empty([batch, M, N]);
  const routes = routing && gpu.from(route);
  const product: Product = {
    ...{ a: left, b: right, c, bias: add, M, N, K, batch, transposeA: tA, transposeB: tB, activation },
    layoutA: { stride: M * K },
    layoutB: { stride: K * N },
    ...(routes && { routing: "pick", route: routes }),
  };
  const expected = new Float64Array(batch * M * N);
  for (let i = 0; i < batch; i++)
    for (let m = 0; m < M; m++)
      for (let n = 0; n < N; n++) {
        const e = routing ? (route[i] as number) : i;
        let sum = (bias.data[(routing ? e : 0) * N + n] ?? Number.NaN) as number;
        for (let k = 0; k < K; k++)
          sum +=
            (a.data[i * M * K + (tA ? k * M + m : m * K + k)] ?? Number.NaN) *
            (b.data[e * K * N + (tB ? n * K + k : k * N + n)] ?? Number.NaN);
        expected[(i * M + m) * N + n] = activation ? Math.max(0, sum) : sum;
      }
  const dispose = (): void => {
    for (const array of [...arrays, c, ...(routes ? [routes] : [])]) array.release();
  };
  return { product, expected, dispose };
}

const kernels = await bothKernels();

for (const [name, gpu] of Object.entries(kernels))
  forms(`${name}: every form that can compute a product does`, async () => {
    const first = prepared(gpu, cases[0] as Case);
    record(gpu, first.product); // the device makes what it keeps for absent operands
    first.dispose();
    const before = liveBytes(gpu);
    const seen = new Set<Form>();
    // The op table has tiles of any size; here they are where it would not take them.
    for (const one of gpu.isSoftware ? cases : cases.slice(0, 2)) {
      const { product, expected, dispose } = prepared(gpu, one);
      const { K } = product;
      let found = "";
      listenToProducts(
        gpu,
        (_, className) => {
          found = className;
        },
        () => record(gpu, product),
      );
      for (const form of formsToTry(gpu, product)) {
        seen.add(form);
        gpu.write(product.c, new Float32Array(product.c.size).fill(Number.NaN));
        withForms(gpu, new Map([[found, form]]), () => record(gpu, product));
        const bound = 2 ** -23 * (8 + 2 * K ** 0.5) * K ** 0.5;
        assertWithin(
          (await gpu.read(product.c)) as Float32Array,
          expected,
          () => bound,
          `${found} by ${form}`,
        );
      }
      dispose();
    }
    assert.is(formsInForce(gpu), null);
    assert.is(liveBytes(gpu), before);
    const own: Form[] = gpu.isSoftware ? ["plain", "vector"] : ["tiled-64", "tiled-128", "plain"];
    for (const form of own) assert.ok(seen.has(form), form);
  });

function record(gpu: Gpu, product: Product): void {
  gpu.scope(
    () => gemm(gpu, product),
    () => [],
  );
}

forms("a form that cannot compute a product is left to the table; others keep theirs", () => {
  const gpu = kernels.hardware;
  const { product, dispose } = prepared(gpu, cases[2] as Case);
  const name = classOf(product, { loads: false, stores: false });
  assert.ok(stridesOf(product).a_row % 4 !== 0, "loads by ones");
  const labels = (): string[] => labelsOf(gpu, () => record(gpu, product));
  chooseForms(gpu, new Map([[name, "panels"]]));
  assert.equal(labels(), ["matmul_tiled.tiled"]);
  chooseForms(gpu, new Map([[name, "plain"]]));
  assert.equal(labels(), ["matmul.plain"]);
  assert.is(formsInForce(kernels.software), null, "another Gpu of the same device");
  chooseForms(gpu, null);
  assert.equal(labels(), ["matmul_tiled.tiled"]);
  dispose();
});

/** Kernels that `body` records. */
function labelsOf({ device }: Gpu, body: () => void): string[] {
  const labels: string[] = [];
  const onlooker = { onRecorded: ({ kernel }: { kernel: { label: string } }) => labels.push(kernel.label) };
  void device.watch.add(onlooker);
  body();
  void device.watch.remove(onlooker);
  return labels;
}

forms.run();

import type { Gpu } from "../array/index.ts";
import { canCompute, type Form, type Fours, foursOf, tableForm } from "./gemm-forms.ts";
import type { Product, Strides } from "./product.ts";

/** Forms by the class of the product; see `classOf`. */
export type Forms = ReadonlyMap<string, Form>;

/** Hears of each product and its class. */
export type ProductListener = (product: Product, name: string) => void;

/** What is beside the fixed table: of one device's products. */
interface Beside {
  readonly forms: Forms | null;
  readonly listener: ProductListener | null;
}

/** Devices whose products have forms of their own, or are listened to. All others are not in it. */
const devices = new WeakMap<Gpu, Beside>();

/** The form of a product: what was chosen for its class, as far as that can compute it, else the fixed table's. */
export function formOf(gpu: Gpu, p: Product, fours: Fours): Form {
  const beside = devices.get(gpu);
  if (!beside) return tableForm(gpu, p);
  const form = beside.forms?.get(classOf(p, fours));
  return form && canCompute(gpu, p, form) ? form : tableForm(gpu, p);
}

/** Tells those who listen of a product that is recorded in the form that was chosen for it. */
export function tellOfProduct(gpu: Gpu, p: Product, strides: Strides): void {
  const listener = devices.get(gpu)?.listener;
  listener?.(p, classOf(p, foursOf(p, strides)));
}

/** The forms that a device's products have beside the fixed table's; null: none. */
export function formsInForce(gpu: Gpu): Forms | null {
  return devices.get(gpu)?.forms ?? null;
}

/** The forms that a device's products have from now on, beside the fixed table's; null: none. */
export function chooseForms(gpu: Gpu, forms: Forms | null): void {
  place(gpu, { forms, listener: devices.get(gpu)?.listener ?? null });
}

/** Runs `body`, whose products have these forms. */
export function withForms(gpu: Gpu, forms: Forms | null, body: () => void): void {
  const before = formsInForce(gpu);
  chooseForms(gpu, forms);
  try {
    body();
  } finally {
    chooseForms(gpu, before);
  }
}

/** Runs `body` and tells of each product that it records. Of a sum in parts it tells the parts. */
export function listenToProducts(gpu: Gpu, listener: ProductListener, body: () => void): void {
  const before = devices.get(gpu);
  place(gpu, { forms: before?.forms ?? null, listener });
  try {
    body();
  } finally {
    place(gpu, before ?? { forms: null, listener: null });
  }
}

function place(gpu: Gpu, beside: Beside): void {
  if (beside.forms || beside.listener) devices.set(gpu, beside);
  else devices.delete(gpu);
}

/**
 * What products are alike, as in "nt 512x256x1024, added": what is transposed, M x K x N each rounded down to a power of
 * two, and what else decides on the kernel. So lengths of texts share a choice.
 */
export function classOf(p: Product, { loads, stores }: Fours): string {
  const { M, N, K, batch = 1, sums = 1, routing } = p;
  const form = `${p.transposeA ? "t" : "n"}${p.transposeB ? "t" : "n"}`;
  const parts = [`${form} ${[M, K, N].map(floorPower).join("x")}`];
  if (batch > 1) parts.push(`batch ${floorPower(batch)}`);
  if (sums > 1) parts.push(`sums ${floorPower(sums)}`);
  if (routing) parts.push(routing === "pick" ? "picked" : "collected");
  if (p.b.dtype !== "f32") parts.push(`b in ${p.b.dtype}`);
  if (p.activation) parts.push("activated");
  else if (p.accumulate) parts.push("added");
  if (!loads) parts.push("loads by ones");
  if (!stores) parts.push("stores by ones");
  return parts.join(", ");
}

function floorPower(n: number): number {
  return 2 ** Math.floor(Math.log2(n));
}

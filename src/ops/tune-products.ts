import type { Gpu, GpuArray } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { gemm } from "./gemm.ts";
import { type Form, formsToTry, tableForm } from "./gemm-forms.ts";
import type { Product } from "./product.ts";
import { listenToProducts, withForms } from "./product-forms.ts";
import { checkRace, type RaceOptions, race } from "./race.ts";

export interface TuneOptions extends RaceOptions {
  /** Classes of products that are tuned: those with the most operations. Default 8. */
  readonly most?: number;
}

/** What was found out about a class of products. */
export interface TunedProduct {
  /** What it is computed by from now on. */
  readonly form: Form;
  /** What the fixed table takes for the one that was timed. */
  readonly table: Form;
  /** M x K x N of that one, the largest of its class. */
  readonly size: string;
  /** Of the operations of all products that were heard. */
  readonly share: number;
  /** Median milliseconds of each form. */
  readonly ms: Readonly<Partial<Record<Form, number>>>;
}

/** Products of one class. */
interface Heard {
  flops: number;
  largest: Product;
}

/**
 * Listens to the products of `step`, which is run once as always, and times the kernels that can compute those with the
 * most operations, on arrays of their own. By class, the heaviest first; see `classOf`. Nothing is chosen yet.
 */
export async function tuneProducts(
  gpu: Gpu,
  step: () => void,
  { most = 8, ...options }: TuneOptions = {},
): Promise<Readonly<Record<string, TunedProduct>>> {
  checkRace("tuneKernels", options);
  if (!(Number.isInteger(most) && most > 0))
    throw new ShapeError(`tuneKernels: most is ${most}, expected 1 or more`);
  const heard = hear(gpu, step);
  if (heard.size === 0)
    throw new ShapeError(
      "tuneKernels: the step has recorded no matrix product on this device; let it be a function that computes, not a replay of a captured step",
    );
  const all = [...heard.values()].reduce((sum, { flops }) => sum + flops, 0);
  const heaviest = [...heard].sort(([, x], [, y]) => y.flops - x.flops);
  const tuned: Record<string, TunedProduct> = {};
  for (const [name, { largest, flops }] of heaviest.slice(0, most)) {
    const { M, K, N } = largest;
    const finish = await raceOf(gpu, name, largest, options);
    tuned[name] = {
      form: finish.winner,
      table: tableForm(gpu, largest),
      size: `${M}x${K}x${N}`,
      share: Number((flops / all).toFixed(4)),
      ms: finish.ms,
    };
  }
  gpu.device.trim();
  return tuned;
}

function hear(gpu: Gpu, step: () => void): Map<string, Heard> {
  const heard = new Map<string, Heard>();
  const listener = (product: Product, name: string): void => {
    const flops = flopsOf(product);
    const known = heard.get(name);
    if (!known) heard.set(name, { flops, largest: product });
    else {
      known.flops += flops;
      if (flops > flopsOf(known.largest)) known.largest = product;
    }
  };
  listenToProducts(gpu, listener, step);
  return heard;
}

async function raceOf(gpu: Gpu, name: string, product: Product, options: RaceOptions) {
  const table = tableForm(gpu, product);
  const others = formsToTry(gpu, product).filter((form) => form !== table);
  if (others.length === 0) return { winner: table, ms: {} };
  const { own, arrays } = onOwnArrays(gpu, product);
  try {
    const contenders = [table, ...others].map((form) => ({
      name: form,
      run(): void {
        withForms(gpu, new Map([[name, form]]), () =>
          gpu.scope(
            () => gemm(gpu, own),
            () => [],
            { op: "tuneKernels" },
          ),
        );
      },
    }));
    const { stopwatch } = options;
    return await race(gpu, contenders, {
      ...options,
      ...(stopwatch && { stopwatch: (run, form) => stopwatch(run, `${name}: ${form}`) }),
    });
  } finally {
    for (const array of arrays) array.release();
  }
}

/** The same product of zeros, whose routes go through all experts. */
function onOwnArrays(gpu: Gpu, p: Product): { readonly own: Product; readonly arrays: readonly GpuArray[] } {
  const arrays: GpuArray[] = [];
  const like = ({ shape, dtype }: GpuArray): GpuArray => {
    const made = gpu.zeros(shape, dtype);
    arrays.push(made);
    return made;
  };
  const route = p.route && like(p.route);
  const experts = p.routing === "collect" ? (p.batch ?? 1) : expertsOf(p);
  if (route)
    gpu.write(
      route,
      new Int32Array(route.size).map((_, i) => i % experts),
    );
  const own: Product = {
    ...p,
    a: like(p.a),
    b: like(p.b),
    c: like(p.c),
    ...(p.bias && { bias: like(p.bias) }),
    ...(p.z && { z: like(p.z) }),
    ...(route && { route }),
  };
  return { own, arrays };
}

/** Experts of the bank that a product picks from. */
function expertsOf({ b, layoutB = {} }: Product): number {
  return Math.max(1, Math.floor(b.size / Math.max(1, layoutB.stride ?? b.size)));
}

function flopsOf({ M, N, K, batch = 1, sums = 1, routing, route }: Product): number {
  // Each group of rows is in the sum of one expert.
  const terms = routing === "collect" ? (route?.size ?? 0) : batch * sums;
  return 2 * M * N * K * terms;
}

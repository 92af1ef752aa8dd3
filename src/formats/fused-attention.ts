// GPT-2 has one product for queries, keys and values. Here each third is a site; other tools see one layer, c_attn.
import { FormatError } from "../io/index.ts";
import { columnsOf, type HostTensor, isZero, place, rowsOf, zeros } from "./host-tensor.ts";
import { evenLora, type LoraPair, type LoraPairs } from "./lora-weights.ts";

const PARTS = ["query", "key", "value"] as const;
const SLICE = /^(.+\.c_attn)\.(query|key|value)$/;
type Part = (typeof PARTS)[number];

/**
 * LoRA on slices as LoRA on the whole of c_attn, exactly: with n slices of rank r, A' [n r, in] holds their A behind one
 * another, and B' [3d, n r] has B of slice p in the rows of p and the columns of its A, zeros elsewhere. The factor
 * alpha / r stays, so alpha' = n alpha. Other layers pass through.
 */
export function fuseSlices(pairs: LoraPairs): LoraPairs {
  const modules = new Map<string, Map<Part, LoraPair>>();
  const result = new Map<string, LoraPair>();
  const isSliced = [...pairs.keys()].some((name) => SLICE.test(name));
  for (const [name, pair] of isSliced ? evenLora(pairs).pairs : pairs) {
    const [, module, part] = SLICE.exec(name) ?? [];
    if (!module || !part) {
      result.set(name, pair);
      continue;
    }
    const slices = modules.get(module) ?? new Map<Part, LoraPair>();
    modules.set(module, slices.set(part as Part, pair)); // one of PARTS: the pattern has no other
  }
  for (const [module, slices] of modules) result.set(module, fused(slices));
  return result;
}

function fused(slices: ReadonlyMap<Part, LoraPair>): LoraPair {
  const [first] = slices.values();
  const [rank = 0, inputs = 0] = first?.a.shape ?? [];
  const outputs = first?.b.shape[0] ?? 0;
  const a = zeros([slices.size * rank, inputs]);
  const b = zeros([PARTS.length * outputs, slices.size * rank]);
  let at = 0;
  for (const [i, part] of PARTS.entries()) {
    const slice = slices.get(part);
    if (!slice) continue;
    place(a, slice.a, at, 0);
    place(b, slice.b, i * outputs, at);
    at += rank;
  }
  return { a, b, scale: first?.scale ?? 1 };
}

/**
 * LoRA on c_attn as LoRA on its slices, exactly: slice p has the rows of B that belong to it and, of its columns and of
 * A's rows, those that are not all zeros. A slice whose B is zero in every layer is left out.
 */
export function splitSlices(modules: LoraPairs): LoraPairs {
  const result = new Map<string, LoraPair>();
  const drawn = new Set<Part>();
  for (const [name, pair] of modules) {
    if (!name.endsWith(".c_attn")) {
      result.set(name, pair);
      continue;
    }
    for (const part of PARTS) {
      const slice = sliceOfModule(name, pair, part);
      if (!isZero(slice.b)) drawn.add(part);
      result.set(`${name}.${part}`, slice);
    }
  }
  for (const name of [...result.keys()]) {
    const part = SLICE.exec(name)?.[2] as Part | undefined; // one of PARTS
    if (part && drawn.size > 0 && !drawn.has(part)) result.delete(name);
  }
  return result;
}

function sliceOfModule(name: string, { a, b, scale }: LoraPair, part: Part): LoraPair {
  const outputs = (b.shape[0] ?? 0) / PARTS.length;
  if (!Number.isInteger(outputs))
    throw new FormatError(`import: ${name} has ${b.shape[0]} outputs, which are no three equal parts`);
  const i = PARTS.indexOf(part);
  const own = rowsOf(b, i * outputs, (i + 1) * outputs);
  const rank = b.shape[1] ?? 0;
  const used = Array.from({ length: rank }, (_, j) => j).filter((j) => !isZero(columnsOf(own, [j])));
  // Of a fresh LoRA, whose B is zero, everything is kept.
  const columns = used.length > 0 ? used : Array.from({ length: rank }, (_, j) => j);
  return { a: rowsAt(a, columns), b: columnsOf(own, columns), scale };
}

function rowsAt(x: HostTensor, rows: readonly number[]): HostTensor {
  const width = x.shape[1] ?? 0;
  const result = zeros([rows.length, width]);
  for (const [i, row] of rows.entries()) place(result, rowsOf(x, row, row + 1), i, 0);
  return result;
}

// Checkpoints of microsoft/LoRA: `MODULE.lora_A`, `MODULE.lora_B`, as lora_state_dict returns them. They hold no alpha.
import { FormatError, type RawTensor } from "../io/index.ts";
import type { AdapterFile } from "./adapter-file.ts";
import { holdsTensor, withCheckpoint } from "./checkpoint.ts";
import type { ImportSettings } from "./format.ts";
import { type HostTensor, hostTensor } from "./host-tensor.ts";
import { type LoraPair, type LoraPairs, loraFile } from "./lora-weights.ts";
import { ATTENTION_PARTS, type AttentionPart, splitMerged } from "./merged-linear.ts";
import { nameOfModel } from "./model-names.ts";
import { headProvenance } from "./notes.ts";
import { layerName } from "./sites.ts";

const KEY = /^(.+)\.lora_A$/;

export function isLoralibFile(path: string): boolean {
  return holdsTensor(path, KEY);
}

/** Reads a checkpoint; `alpha` and `base` are what it was trained with. Other tensors than LoRA's and a head's are left. */
export function importLoralib(path: string, settings: ImportSettings): AdapterFile {
  const { base, alpha, model, labels, head = true } = settings;
  const trainedWith = expectTrainedWith(path, { base, alpha });
  return withCheckpoint(path, (tensors) => {
    const pairs = pairsOf(tensors, trainedWith.alpha, model?.type);
    const trained = head ? headOf(tensors) : new Map<string, HostTensor>();
    const provenance = {
      base: trainedWith.base,
      ...headProvenance(trained, labels),
      ...(model && { model }),
      importedFrom: "loralib",
    };
    return loraFile(provenance, pairs, trained);
  });
}

/** What files of LoRA without a config must be told. */
export function expectTrainedWith(
  path: string,
  { base, alpha }: { readonly base?: string | undefined; readonly alpha?: number | undefined },
): { readonly base: string; readonly alpha: number } {
  if (base === undefined)
    throw new FormatError(`import: ${path} does not say its base model (give it: { base }, --base)`);
  if (alpha !== undefined && alpha > 0) return { base, alpha };
  throw new FormatError(
    `import: ${path} does not say alpha, by which LoRA is scaled (give what it was trained with: { alpha }, --alpha)`,
  );
}

/** The classification head of a checkpoint. */
export function headOf(tensors: ReadonlyMap<string, RawTensor>): Map<string, HostTensor> {
  const head = [...tensors].filter(([name]) => /^classifier\./.test(name));
  return new Map(head.map(([name, tensor]) => [name, hostTensor(tensor)]));
}

function pairsOf(
  tensors: ReadonlyMap<string, RawTensor>,
  alpha: number,
  type: string | undefined,
): LoraPairs {
  const pairs = new Map<string, LoraPair>();
  for (const [name, rawA] of tensors) {
    const module = KEY.exec(name)?.[1];
    const rawB = tensors.get(`${module}.lora_B`);
    if (module === undefined) continue;
    if (!rawB) throw new FormatError(`import: ${name} has no lora_B`);
    const [a, b] = [hostTensor(rawA), hostTensor(rawB)];
    const own = nameOfModel(module, type);
    layerName(own); // refuses embeddings and heads
    const rank = b.shape[1] ?? 0;
    const scale = alpha / rank;
    if (!own.endsWith(".c_attn")) pairs.set(own, { a, b, scale });
    else
      for (const [part, pair] of splitMerged(own, a, b, partsOf(own, a, rank), scale))
        pairs.set(`${own}.${part}`, pair);
  }
  return pairs;
}

/** Which thirds of c_attn have LoRA: two are queries and values, as in every program of its authors. */
export function partsOf(name: string, a: HostTensor, rank: number): readonly AttentionPart[] {
  const n = (a.shape[0] ?? 0) / rank;
  if (n === 3) return ATTENTION_PARTS;
  if (n === 2) return ["query", "value"];
  throw new FormatError(
    `import: ${name}: A [${a.shape.join(", ")}] of rank ${rank} is LoRA of ${n} thirds, and the file does not say which; known are 2 (query, value) and 3`,
  );
}

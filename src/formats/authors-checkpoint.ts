// Checkpoints of the authors' own programs: every expert of every layer, in a file of the whole model.
//   adapters: SITE.ExpertSoup.MoA_A.deepspeed_experts.J.{weight,bias} (down), MoA_B (up), MoA_A.expert_score_weight [M]
//   LoRA of GPT-2: MODULE.experts_lora_A.J [2r, d] (rows of query, then of value), experts_lora_B.J [2d, r] in two
//   groups, lora_expert_score_weight [M]
// A shared side has one expert. They merge by softmax(expert_score_weight): zeros, which is the plain mean, unless tuned.
import { FormatError, type RawTensor } from "../io/index.ts";
import type { AdapterFile, Provenance } from "./adapter-file.ts";
import { holdsTensor, withCheckpoint } from "./checkpoint.ts";
import type { ImportSettings } from "./format.ts";
import { type HostTensor, hostTensor, stacked, weightedMean } from "./host-tensor.ts";
import { expectTrainedWith, headOf, partsOf } from "./loralib.ts";
import { splitMerged } from "./merged-linear.ts";
import { nameOfModel } from "./model-names.ts";
import { headProvenance } from "./notes.ts";
import { layerName, targetsOf } from "./sites.ts";

const ADAPTER = /^(.+)\.ExpertSoup\.MoA_([AB])\.deepspeed_experts\.(\d+)\.(weight|bias)$/;
const LORA = /^(.+\.c_attn)\.(?:experts_)?lora_([AB])[._](\d+)$/;

export function isAuthorsCheckpoint(path: string): boolean {
  return holdsTensor(path, ADAPTER) || holdsTensor(path, LORA);
}

/** Experts of one side of one site, in their order, and the scores that they merge by. */
interface Side {
  readonly experts: HostTensor[];
  readonly scores: RawTensor | undefined;
}

/** Reads a mixture as it is, all experts of it; `merge`: one expert, weighted as the file says. */
export function importAuthors(path: string, settings: ImportSettings): AdapterFile {
  const { base, model, labels, head = true, merge = false } = settings;
  return withCheckpoint(path, (tensors) => {
    const isLora = [...tensors.keys()].some((name) => LORA.test(name));
    const alpha = isLora ? expectTrainedWith(path, settings).alpha : 0;
    if (base === undefined)
      throw new FormatError(`import: ${path} does not say its base model (give it: { base }, --base)`);
    const trained = head ? headOf(tensors) : new Map<string, HostTensor>();
    const provenance: Provenance = {
      base,
      ...headProvenance(trained, labels),
      ...(model && { model }),
      importedFrom: "AdaMix's authors",
    };
    const type = model?.type;
    const sides = isLora ? loraSides(tensors, type) : adapterSides(tensors, type);
    return mixtureFile(provenance, sides, trained, { alpha, merge });
  });
}

/** Names as here, `SITE.adapter.down.weight`, with the experts of each. */
function adapterSides(tensors: ReadonlyMap<string, RawTensor>, type: string | undefined): Map<string, Side> {
  const sides = new Map<string, Side>();
  for (const [name, tensor] of tensors) {
    const [, place, side, index, of] = ADAPTER.exec(name) ?? [];
    if (!place) continue;
    const own = nameOfModel(place, type);
    const site = own.endsWith(".mlp") ? `${own}.output` : own;
    layerName(site);
    const key = `${site}.adapter.${side === "A" ? "down" : "up"}.${of}`;
    const scores = tensors.get(`${place}.ExpertSoup.MoA_${side}.expert_score_weight`);
    addExpert(sides, key, Number(index), hostTensor(tensor), scores);
  }
  return sides;
}

function loraSides(tensors: ReadonlyMap<string, RawTensor>, type: string | undefined): Map<string, Side> {
  const sides = new Map<string, Side>();
  for (const [name, tensor] of tensors) {
    const [, module, letter, index] = LORA.exec(name) ?? [];
    if (!module) continue;
    const isA = letter === "A";
    // Both letters are split by the same parts; the other one only tells the rank.
    const other = tensors.get(name.replace(/lora_[AB]([._])\d+$/, `lora_${isA ? "B" : "A"}$10`));
    if (!other) throw new FormatError(`import: ${name} has no lora_${isA ? "B" : "A"}`);
    const [a, b] = isA ? [hostTensor(tensor), hostTensor(other)] : [hostTensor(other), hostTensor(tensor)];
    const own = nameOfModel(module, type);
    const scores = tensors.get(`${module}.lora_expert_score_weight`);
    for (const [part, pair] of splitMerged(own, a, b, partsOf(own, a, b.shape[1] ?? 0), 1))
      addExpert(
        sides,
        `${own}.${part}.lora.lora_${letter}.weight`,
        Number(index),
        isA ? pair.a : pair.b,
        scores,
      );
  }
  return sides;
}

function addExpert(
  sides: Map<string, Side>,
  key: string,
  index: number,
  tensor: HostTensor,
  scores: RawTensor | undefined,
): void {
  const side = sides.get(key) ?? { experts: [], scores };
  side.experts[index] = tensor;
  sides.set(key, side);
}

function mixtureFile(
  provenance: Provenance,
  sides: ReadonlyMap<string, Side>,
  trained: ReadonlyMap<string, HostTensor>,
  { alpha, merge }: { readonly alpha: number; readonly merge: boolean },
): AdapterFile {
  const isLora = [...sides.keys()].some((key) => key.includes(".lora."));
  const down = sideSize(sides, isLora ? ".lora_A.weight" : ".down.weight");
  const up = sideSize(sides, isLora ? ".lora_B.weight" : ".up.weight");
  const experts = Math.max(down, up);
  const share = up === 1 ? "up" : down === 1 ? "down" : "none";
  const tensors = new Map(trained);
  for (const [key, side] of sides) tensors.set(key, bankOf(key, side, merge));
  const sites = [...new Set([...sides.keys()].map((key) => key.replace(/\.(adapter|lora)\.[\w.]+$/, "")))];
  const shape = [...sides].find(([key]) => /\.(down|lora_A)\.weight$/.test(key))?.[1].experts[0]?.shape;
  const rank = shape?.[0] ?? 0;
  const mixture = { experts: merge ? 1 : experts, share, targets: targetsOf(sites, provenance.model) };
  const peft = isLora
    ? { method: "lora", rank, alpha, dropout: 0, init: "authors", ...mixture }
    : { method: "adapter", bottleneck: rank, activation: activationOf(sites), initStd: 0.02, ...mixture };
  const mergedFrom =
    merge && experts > 1 ? { mergedFrom: { experts, share, by: "expert_score_weight" } } : {};
  return { config: { ...provenance, ...mergedFrom, peft }, tensors };
}

function sideSize(sides: ReadonlyMap<string, Side>, end: string): number {
  const counts = [...sides].filter(([key]) => key.endsWith(end)).map(([, { experts }]) => experts.length);
  const [first = 0] = counts;
  if (first === 0 || counts.some((n) => n !== first))
    throw new FormatError(
      `import: numbers of experts differ between layers: ${[...new Set(counts)].join(", ") || "none"}`,
    );
  return first;
}

/** Exact GELU in the encoders, its tanh approximation in GPT-2. */
function activationOf(sites: readonly string[]): string {
  return layerName(sites[0] ?? "").list === "transformer.h" ? "geluTanh" : "gelu";
}

function bankOf(key: string, { experts, scores }: Side, merge: boolean): HostTensor {
  for (let j = 0; j < experts.length; j++)
    if (!experts[j]) throw new FormatError(`import: ${key}: expert ${j} of ${experts.length} is missing`);
  const bank = stacked(experts);
  if (experts.length === 1) return bank;
  const weights = softmax(scores ? [...hostTensor(scores).data].slice(0, experts.length) : []);
  if (merge) return weightedMean(bank, weights.length > 0 ? weights : experts.map(() => 1 / experts.length));
  if (weights.some((weight) => weight !== weights[0])) {
    throw new FormatError(
      `import: ${key}: its experts were tuned to weights ${weights.map((w) => w.toFixed(3)).join(", ")}, and mixtures here merge by the plain mean (merge now, as the file says: { merge: true }, --merge)`,
    );
  }
  return bank;
}

function softmax(scores: readonly number[]): number[] {
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

// Several merged adapters as one mixture whose experts are the tasks, so that one pass serves rows of different tasks.
import { FormatError } from "../io/index.ts";
import { type AdapterFile, expectBanks } from "./adapter-file.ts";
import { type BottleneckWeights, bottleneckFile, bottleneckWeights } from "./bottleneck-weights.ts";
import { type HostTensor, type HostTensors, stacked, zeros } from "./host-tensor.ts";
import { evenLora, type LoraPair, type LoraPairs, loraFile, loraPairs } from "./lora-weights.ts";
import { HEAD } from "./sites.ts";

/** A mixture of tasks of one kind. */
export interface TaskStack {
  /** Expert 0 changes nothing; expert i + 1 is the adapter of names[i]. */
  readonly names: readonly string[];
  readonly file: AdapterFile;
}

/**
 * One stack for each kind among merged adapters: LoRA, or bottleneck adapters of one activation and input. Ranks and
 * sites may differ: smaller ranks are padded with zeros, factors go into B, and where an adapter has nothing its expert
 * is zero, which changes nothing. A row of a task of another kind takes expert 0 of a stack.
 */
export function stackAdapters(files: ReadonlyMap<string, AdapterFile>): TaskStack[] {
  const kinds = new Map<string, Map<string, AdapterFile>>();
  for (const [name, file] of files) {
    const kind = kindOf(file);
    if (kind !== null) kinds.set(kind, (kinds.get(kind) ?? new Map<string, AdapterFile>()).set(name, file));
  }
  return [...kinds].map(([kind, own]) => ({
    names: [...own.keys()],
    file:
      kind === "lora" ? stackOf([...own.values()], evenLoras) : stackOf([...own.values()], evenBottlenecks),
  }));
}

/** Null where nothing but a head was trained. */
function kindOf(file: AdapterFile): string | null {
  if ([...file.tensors.keys()].every((name) => HEAD.test(name))) return null;
  expectBanks("a batch of several tasks", file);
  const weights = bottleneckWeights(file);
  return weights ? `adapter ${weights.activation} ${weights.input}` : "lora";
}

/** The same adapters with one rank and the same sites, each as a file of its own. */
type Even = (files: readonly AdapterFile[]) => AdapterFile[];

function stackOf(files: readonly AdapterFile[], even: Even): AdapterFile {
  const alike = even(files);
  const [first] = alike;
  if (!first) throw new FormatError("adapters: nothing to stack");
  const tensors = new Map<string, HostTensor>();
  for (const [name, { shape }] of first.tensors) {
    const one = zeros(shape.slice(1));
    const experts = alike.map((file) => ({
      shape: one.shape,
      data: file.tensors.get(name)?.data ?? one.data,
    }));
    tensors.set(name, stacked([one, ...experts]));
  }
  const peft = { ...first.config.peft, experts: files.length + 1, share: "none" };
  return { config: { ...first.config, peft }, tensors };
}

const NO_HEAD: HostTensors = new Map<string, HostTensor>();

/** Names of all sites, in the order in which they are first met. */
function unionOf<T>(maps: readonly ReadonlyMap<string, T>[]): Map<string, T> {
  const union = new Map<string, T>();
  for (const map of maps) for (const [site, value] of map) if (!union.has(site)) union.set(site, value);
  return union;
}

function evenLoras(files: readonly AdapterFile[]): AdapterFile[] {
  // One map of all pairs, so that one rank and one factor come out for all.
  const all = new Map<string, LoraPair>();
  for (const [i, file] of files.entries())
    for (const [site, pair] of loraPairs(file)) all.set(`${i} ${site}`, pair);
  const { pairs } = evenLora(all);
  const own = files.map((_, i) => pairsOfTask(pairs, i));
  const union = unionOf(own);
  return files.map(({ config }, i) => {
    const whole = new Map([...union].map(([site, pair]) => [site, own[i]?.get(site) ?? emptied(pair)]));
    return loraFile(config, whole, NO_HEAD);
  });
}

function pairsOfTask(pairs: LoraPairs, task: number): LoraPairs {
  const own = [...pairs].filter(([key]) => key.startsWith(`${task} `));
  return new Map(own.map(([key, pair]) => [key.slice(`${task} `.length), pair]));
}

function emptied({ a, b, scale }: LoraPair): LoraPair {
  return { a: zeros(a.shape), b: zeros(b.shape), scale };
}

function evenBottlenecks(files: readonly AdapterFile[]): AdapterFile[] {
  const all = files.map((file) => bottleneckWeights(file) as BottleneckWeights); // kindOf has seen that it has some
  const bottleneck = Math.max(...all.map((weights) => weights.bottleneck));
  const union = unionOf(all.map(({ sites }) => sites));
  return files.map(({ config }, i) => {
    const { activation = "", input = "value", sites } = all[i] ?? {};
    const whole = new Map(
      [...union].map(([site, { down, up }]) => {
        const none = (x: HostTensor): HostTensor => zeros(x.shape);
        const empty = {
          down: { weight: none(down.weight), bias: none(down.bias) },
          up: { weight: none(up.weight), bias: none(up.bias) },
        };
        return [site, sites?.get(site) ?? empty] as const;
      }),
    );
    return bottleneckFile(config, { bottleneck, activation, input, sites: whole }, NO_HEAD);
  });
}

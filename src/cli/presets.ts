import { isRepoName } from "../io/index.ts";
import { absolutePath, exists, joinPath } from "../platform/index.ts";
import { EMBEDDED } from "../train/index.ts";
import {
  type Columns,
  type ConfigInput,
  type ConsistencySettings,
  type DataPaths,
  isMixture,
  METHOD_KEYS,
  type MethodName,
  type PeftSettings,
  type TrainingSettings,
} from "./config.ts";
import { DEMO_STEPS, demoMethods } from "./demo-methods.ts";
import { UsageError } from "./failure.ts";
import { kernelsFile } from "./kernels.ts";
import { resolveData, taskLabels } from "./tasks.ts";

type Filled<T> = { readonly [K in keyof T]-?: Exclude<T[K], undefined> };
type Length = Pick<TrainingSettings, "epochs" | "steps">;

/** A config with every default filled in: what is run, and what a run's config.json holds. It is a valid config. */
export interface TrainConfig {
  readonly model: string;
  readonly task: string;
  readonly data: DataPaths | undefined;
  /** Only of the task "text"; other tasks have their own. */
  readonly labels: readonly string[] | undefined;
  readonly columns: Columns | undefined;
  readonly pooling: "cls" | "mean" | null;
  readonly method: MethodName;
  /** How the frozen encoder is stored. */
  readonly dtype: "f32" | "f16" | "bf16";
  readonly peft: PeftSettings | undefined;
  /** Either epochs or steps. */
  readonly training: Filled<Omit<TrainingSettings, keyof Length>> & Length;
  readonly consistency: Filled<ConsistencySettings> | undefined;
  /** Whether kernels are tuned before the first step. */
  readonly tune: boolean;
  /** File of the record of kernels that are taken instead. */
  readonly kernels: string | null;
  readonly out: string;
}

interface Preset {
  readonly lr: (method: MethodName) => number;
  readonly length: Length;
  readonly batchSize: number;
  readonly weightDecay: number;
  readonly undrawn: NonNullable<TrainingSettings["undrawn"]>;
  readonly bottleneck: number;
  readonly rank: number;
}

/** Learning rate and epochs of the paper's RoBERTa-large runs. Batches of 64. */
const GLUE: Readonly<Record<string, readonly [lr: number, epochs: number]>> = {
  cola: [3e-4, 80],
  sst2: [3e-4, 20],
  mrpc: [3e-4, 60],
  qqp: [3e-4, 80],
  mnli: [3e-4, 20],
  mnlimm: [3e-4, 20],
  qnli: [3e-4, 20],
  rte: [5e-4, 60],
  wnli: [5e-4, 60],
  stsb: [3e-4, 80],
};

/** Rates of methods that want others than adapters and LoRA do: those that papers report for encoders. */
const RATES: Partial<Readonly<Record<MethodName, number>>> = {
  head: 1e-3,
  full: 2e-5,
  "top-layers": 2e-5,
  bitfit: 1e-3,
  ia3: 3e-3,
  prompt: 1e-2,
  prefix: 5e-3,
  unipelt: 5e-4,
  "adamix-prefix": 5e-3,
  "adamix-unipelt": 5e-4,
};

/** Rates of the embedded task for methods that the demonstration does not show, chosen on its dev split too. */
const EMBEDDED_RATES: Partial<Readonly<Record<MethodName, number>>> = {
  full: 1e-3,
  "top-layers": 5e-3,
  houlsby: 0.02,
  pfeiffer: 0.02,
  ia3: 0.03,
  prompt: 0.03,
  "adamix-houlsby": 0.02,
  "adamix-pfeiffer": 0.04,
};

function presetOf(task: string): Preset {
  if (task === "sentiment") {
    const rates = new Map(demoMethods(DEMO_STEPS).map(({ name, lr }) => [name, lr]));
    rates.set("head", rates.get("head only") ?? 0.01);
    return {
      lr: (method) => rates.get(method) ?? EMBEDDED_RATES[method] ?? 0.01,
      length: { steps: DEMO_STEPS },
      batchSize: 8,
      weightDecay: 0.01,
      undrawn: "skip",
      bottleneck: 8,
      rank: 8,
    };
  }
  const [lr, epochs] = GLUE[task] ?? [3e-4, 10];
  return {
    lr: (method) => RATES[method] ?? lr,
    length: { epochs },
    batchSize: task === "text" ? 32 : 64,
    weightDecay: 0.1,
    undrawn: "authors",
    bottleneck: 16,
    rank: 8,
  };
}

/** Fills in what a config leaves open. Throws where keys do not go together. */
export function resolveConfig(input: ConfigInput): TrainConfig {
  const { task, method, training = {} } = input;
  const preset = presetOf(task);
  if (training.epochs !== undefined && training.steps !== undefined)
    throw new UsageError("training: both epochs and steps are given; give one");
  const model = input.model ?? (task === "sentiment" ? EMBEDDED : undefined);
  if (model === undefined)
    throw new UsageError(`model is missing: a folder, a repository of the hub, or "${EMBEDDED}"`);
  const { dtype = "f32" } = input;
  if (method === "full" && dtype !== "f32")
    throw new UsageError(`dtype is ${dtype}; method full trains the whole encoder, which needs f32`);
  const labels = taskLabels(task, input.labels);
  if (task !== "text" && input.columns)
    throw new UsageError(`columns: task ${task} knows its own; they are for task text`);
  const { epochs, steps, ...rest } = training;
  const seed = rest.seed ?? 0;
  return {
    model: model === EMBEDDED || isOfHub(model) ? model : absolutePath(model),
    task,
    data: resolveData(task, input.data ?? null) ?? undefined,
    labels: input.labels,
    columns: input.columns,
    pooling: input.pooling ?? null,
    method,
    dtype,
    peft: resolvePeft(method, input.peft ?? {}, preset),
    training: {
      ...(epochs !== undefined ? { epochs } : steps !== undefined ? { steps } : preset.length),
      batchSize: rest.batchSize ?? preset.batchSize,
      lr: rest.lr ?? preset.lr(method),
      warmupRatio: rest.warmupRatio ?? 0.06,
      weightDecay: rest.weightDecay ?? preset.weightDecay,
      clipNorm: rest.clipNorm === undefined ? 1 : rest.clipNorm,
      dropout: rest.dropout ?? null,
      maxLength: rest.maxLength ?? null,
      seed,
      limitTrain: rest.limitTrain ?? null,
      evaluateEverySteps: rest.evaluateEverySteps ?? null,
      undrawn: rest.undrawn ?? preset.undrawn,
      passesInOneBatch: rest.passesInOneBatch ?? null,
    },
    consistency: resolveConsistency(method, input, { isRegression: labels.length === 1 }),
    ...resolveKernels(input),
    out: absolutePath(input.out ?? joinPath("runs", `${task}-${method}-seed${seed}`)),
  };
}

function resolveKernels({
  tune = false,
  kernels = null,
}: ConfigInput): Pick<TrainConfig, "tune" | "kernels"> {
  if (tune && kernels !== null)
    throw new UsageError(`tune is true, and kernels are those of ${kernels}, tuned already; give one`);
  return { tune, kernels: kernels === null ? null : kernelsFile(kernels) };
}

/** Whether a model's name is one of the hub: no file or folder of that name is here. */
function isOfHub(model: string): boolean {
  return isRepoName(model) && !exists(absolutePath(model));
}

function resolvePeft(method: MethodName, given: PeftSettings, preset: Preset): PeftSettings | undefined {
  const own = METHOD_KEYS[method];
  const stray = Object.keys(given).filter((key) => !(own as readonly string[]).includes(key));
  if (stray.length > 0) {
    const has = own.length > 0 ? `it has ${own.join(", ")}` : "it has no settings";
    throw new UsageError(`peft: method ${method} has no ${stray.join(", ")}; ${has}`);
  }
  if (own.length === 0) return undefined;
  const rank = given.rank ?? preset.rank;
  const all: PeftSettings = {
    bottleneck: preset.bottleneck,
    initStd: 0.02,
    rank,
    alpha: 2 * rank,
    rankStabilised: false,
    loraDropout: 0,
    init: "distinct",
    experts: 4,
    share: "up",
    layers: 1,
    tokens: 8,
    promptInit: "words",
    parts: ["adapter", "prefix", "lora"],
    ...routerDefaults(given),
    ...OWN_SETTINGS[method],
    ...given,
  };
  const filled = Object.entries(all).filter(
    ([key, value]) => value !== undefined && (own as readonly string[]).includes(key),
  );
  return Object.fromEntries(filled);
}

const ADAPTER = { targets: ["feedForward"] };
const HOULSBY: PeftSettings = { targets: ["attention", "feedForward"], activation: "silu" };
const PFEIFFER: PeftSettings = { targets: ["feedForward"], activation: "relu" };
const LORA = { targets: ["query", "value"] };
/** Two layers make the keys and values of a prefix only where their size is given, or there are experts of them. */
const PREFIX: PeftSettings = { bottleneck: undefined };

/** Settings by method that are not the same for all. An adapter's activation is the model's own. */
const OWN_SETTINGS: Partial<Readonly<Record<MethodName, PeftSettings>>> = {
  adapter: ADAPTER,
  houlsby: HOULSBY,
  pfeiffer: PFEIFFER,
  lora: LORA,
  ia3: { targets: ["key", "value", "feedForwardOutput"] },
  prefix: PREFIX,
  "adamix-adapter": ADAPTER,
  "adamix-houlsby": HOULSBY,
  "adamix-pfeiffer": PFEIFFER,
  "adamix-lora": LORA,
};

/** The defaults of the settings that a router has; others are refused. */
function routerDefaults(given: PeftSettings): PeftSettings {
  const { router = "drawn" } = given;
  const own: PeftSettings =
    router === "drawn" ? { routing: "batch" } : router === "top-k" ? { topK: 2, balance: 0.01 } : {};
  const stray = (["routing", "topK", "balance"] as const).filter((key) => key in given && !(key in own));
  if (stray.length > 0) {
    const has = Object.keys(own).join(", ") || "no settings";
    throw new UsageError(`peft: router ${router} has no ${stray.join(", ")}; it has ${has}`);
  }
  return { router, ...own };
}

function resolveConsistency(
  method: MethodName,
  { peft, consistency: given }: Pick<ConfigInput, "peft" | "consistency">,
  { isRegression }: { readonly isRegression: boolean },
): TrainConfig["consistency"] {
  const router = peft?.router;
  if (isMixture(method) && (router ?? "drawn") === "drawn") {
    const { gradient = "detached", taskPasses = "first", warmupSteps = 0, regression = "none" } = given ?? {};
    // One output has no distribution to compare: the paper has no consistency on STS-B.
    const weight = given?.weight ?? (isRegression && regression === "none" ? 0 : 1);
    return { weight, gradient, taskPasses, warmupSteps, regression };
  }
  if (given && Object.keys(given).length > 0) {
    const what = isMixture(method) ? `router ${router}` : `method ${method}`;
    throw new UsageError(`consistency: ${what} has one pass; the term is for mixtures with drawn routes`);
  }
  return undefined;
}

/** The settings of a method that a task of GLUE starts from, with some given. */
export function defaultPeft(method: MethodName, given: PeftSettings): PeftSettings | undefined {
  return resolvePeft(method, given, presetOf("sst2"));
}

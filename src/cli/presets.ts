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
  readonly out: string;
}

interface Preset {
  readonly lr: Readonly<Record<MethodName, number>>;
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
  qnli: [3e-4, 20],
  rte: [5e-4, 60],
  wnli: [5e-4, 60],
};

function presetOf(task: string): Preset {
  if (task === "sentiment") {
    const rates = new Map(demoMethods(DEMO_STEPS).map(({ name, lr }) => [name, lr]));
    const rateOf = (name: MethodName) => rates.get(name) ?? 0.01;
    return {
      lr: {
        head: rates.get("head only") ?? 0.01,
        full: 0.001,
        adapter: rateOf("adapter"),
        lora: rateOf("lora"),
        "adamix-adapter": rateOf("adamix-adapter"),
        "adamix-lora": rateOf("adamix-lora"),
      },
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
    lr: { head: 1e-3, full: 2e-5, adapter: lr, lora: lr, "adamix-adapter": lr, "adamix-lora": lr },
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
  taskLabels(task, input.labels);
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
      lr: rest.lr ?? preset.lr[method],
      warmupRatio: rest.warmupRatio ?? 0.06,
      weightDecay: rest.weightDecay ?? preset.weightDecay,
      clipNorm: rest.clipNorm === undefined ? 1 : rest.clipNorm,
      dropout: rest.dropout ?? null,
      maxLength: rest.maxLength ?? null,
      seed,
      limitTrain: rest.limitTrain ?? null,
      evaluateEverySteps: rest.evaluateEverySteps ?? null,
      undrawn: rest.undrawn ?? preset.undrawn,
      passesInOneBatch: rest.passesInOneBatch ?? true,
    },
    consistency: resolveConsistency(method, input.peft?.router, input.consistency),
    out: absolutePath(input.out ?? joinPath("runs", `${task}-${method}-seed${seed}`)),
  };
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
    activation: "gelu",
    initStd: 0.02,
    rank,
    alpha: 2 * rank,
    loraDropout: 0,
    init: "distinct",
    experts: 4,
    share: "up",
    ...routerDefaults(given),
    targets: method.endsWith("lora") ? ["query", "value"] : ["layer.*.output"],
    ...given,
  };
  return Object.fromEntries(Object.entries(all).filter(([key]) => (own as readonly string[]).includes(key)));
}

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
  router: PeftSettings["router"],
  given: ConsistencySettings | undefined,
): TrainConfig["consistency"] {
  if (isMixture(method) && (router ?? "drawn") === "drawn") {
    const { weight = 1, gradient = "detached", taskPasses = "first" } = given ?? {};
    return {
      weight,
      gradient,
      taskPasses,
      warmupSteps: given?.warmupSteps ?? 0,
      regression: given?.regression ?? "none",
    };
  }
  if (given && Object.keys(given).length > 0) {
    const what = isMixture(method) ? `router ${router}` : `method ${method}`;
    throw new UsageError(`consistency: ${what} has one pass; the term is for mixtures with drawn routes`);
  }
  return undefined;
}

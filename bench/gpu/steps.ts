// Whole training steps on a GPU: the models that the paper fine-tunes, with the methods that a user would compare.
import { type Gpu, type ProfileReport, profile } from "../../src/index.ts";
import { adamixAdapter, adamixLora, adapter, lora } from "../../src/peft/index.ts";
import { findRepeats, sample } from "../measure.ts";
import { median } from "../statistics.ts";
import { measureFigures, type StepFigures } from "../step-figures.ts";
import { gpt2, type MakeSubject, roberta, type Sizes } from "../subjects.ts";
import { prepareTraining, type Tuning } from "../training.ts";

export interface StepCase {
  readonly name: string;
  readonly make: MakeSubject;
  readonly sizes: Sizes;
  readonly tuning: Tuning;
  /** Whether frozen matrices are stored in f16. */
  readonly half: boolean;
}

export interface StepResult extends StepFigures {
  readonly name: string;
  readonly medianMs: number;
  readonly minMs: number;
  /** Of one pass. */
  readonly tokensPerSecond: number;
  /** Products of all kernels of a step, in 1e9 operations. */
  readonly gigaflops: number;
  /** Σ of the times of all kernels. */
  readonly busyMs: number;
}

const BASE: Sizes = { layers: 12, channels: 768, heads: 12, vocabulary: 50_265, batch: 32, tokens: 128 };
const LARGE: Sizes = { layers: 24, channels: 1024, heads: 16, vocabulary: 50_265, batch: 32, tokens: 128 };
const MEDIUM: Sizes = { layers: 24, channels: 1024, heads: 16, vocabulary: 50_257, batch: 8, tokens: 256 };
const SMALL: Sizes = { layers: 2, channels: 64, heads: 2, vocabulary: 1001, batch: 2, tokens: 16 };

/** `small`: the same steps of a model that runs anywhere. */
export function stepCases(isSmall: boolean): StepCase[] {
  const of = (sizes: Sizes): Sizes => (isSmall ? SMALL : sizes);
  const tunings: readonly (readonly [string, Tuning])[] = [
    ["full", { method: null, passes: "one" }],
    ["LoRA r8", { method: lora({ rank: 8 }), passes: "one" }],
    ["adapter r16", { method: adapter({ bottleneck: 16 }), passes: "one" }],
    ["AdaMix adapter, one pass", { method: adamixAdapter({ bottleneck: 16 }), passes: "one" }],
    [
      "AdaMix adapter, two in one batch",
      { method: adamixAdapter({ bottleneck: 16 }), passes: "two in one batch" },
    ],
    [
      "AdaMix adapter, two apart",
      { method: adamixAdapter({ bottleneck: 16 }), passes: "two after one another" },
    ],
  ];
  const encoders = [
    ["RoBERTa-base", BASE],
    ["RoBERTa-large", LARGE],
  ] as const;
  const cases: StepCase[] = encoders.flatMap(([name, sizes]) =>
    tunings.map(([method, tuning]) => ({
      name: `${name}, ${method}`,
      make: roberta,
      sizes: of(sizes),
      tuning,
      half: false,
    })),
  );
  const two = { method: adamixAdapter({ bottleneck: 16 }), passes: "two in one batch" } as const;
  cases.push(
    {
      name: "RoBERTa-large in f16, AdaMix adapter, two in one batch",
      make: roberta,
      sizes: of(LARGE),
      tuning: two,
      half: true,
    },
    {
      name: "GPT-2 medium, AdaMix-LoRA r4, one pass",
      make: gpt2,
      sizes: of(MEDIUM),
      tuning: { method: adamixLora({ rank: 4, alpha: 32, experts: 8 }), passes: "one" },
      half: false,
    },
  );
  return cases;
}

export async function measureStep(
  gpu: Gpu,
  { name, make, sizes, tuning, half }: StepCase,
  seconds: number,
): Promise<StepResult> {
  const subject = make(gpu, sizes);
  try {
    if (half) {
      subject.model.setRequiresGrad(false);
      for (const parameter of subject.head) parameter.requiresGrad = true;
      subject.model.to("f16");
    }
    const { step, figures } = await measureFigures(gpu, () => prepareTraining(gpu, subject, tuning));
    const repeats = await findRepeats(gpu, () => step.run());
    const times: number[] = [];
    const until = performance.now() + 1000 * seconds;
    while (times.length < 3 || performance.now() < until)
      times.push((await sample(gpu, () => step.run(), repeats, "device")).overriddenDuration);
    const seen: ProfileReport = await profile(gpu, () => step.run());
    step.dispose();
    const medianMs = median(times);
    return {
      name,
      ...figures,
      medianMs,
      minMs: Math.min(...times),
      tokensPerSecond: (1000 * sizes.batch * sizes.tokens) / medianMs,
      gigaflops: seen.kernels.reduce((sum, { flops }) => sum + flops, 0) / 1e9,
      busyMs: seen.busyMs,
    };
  } finally {
    subject.dispose();
    gpu.device.trim();
  }
}

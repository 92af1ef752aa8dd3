import { type Gpu, Stream, tensor } from "../src/index.ts";
import { adamixAdapter, adamixLora, type PeftMethod } from "../src/peft/index.ts";
import { COMMON, prepareCommonStep } from "./common-step.ts";
import type { Case } from "./measure.ts";
import { roberta, type Sizes } from "./subjects.ts";
import { prepareTraining } from "./training.ts";

/** The embedded encoder, and an encoder of the common step's size. */
const SHAPES: readonly Sizes[] = [
  { layers: 3, channels: 64, heads: 4, vocabulary: 1024, batch: 8, tokens: 24 },
  { layers: 4, channels: 256, heads: 4, vocabulary: 4096, batch: 8, tokens: 128 },
];

type Kind = "device" | "record" | "replay";

/**
 * One AdaMix step: both passes in one batch of 2B rows, consistency, backward, clipping, AdamW. "record" and
 * "replay" are the host's time alone, of a step that is called and of one that was captured.
 */
function adamixCase(sizes: Sizes, method: PeftMethod, kind: Kind): Case {
  const { layers, channels, batch, tokens } = sizes;
  const shape = `${layers} layers of ${channels}, ${batch}x${tokens}`;
  return {
    name: `${kind === "device" ? "" : `host: ${kind} `}step adamix-${method.name}, ${shape}`,
    amount: batch,
    unit: "examples/s",
    clock: kind === "device" ? "device" : "host",
    setup(gpu) {
      const subject = roberta(gpu, sizes);
      const tuning = { method, passes: "two in one batch" } as const;
      const step = prepareTraining(gpu, subject, tuning, { isCaptured: kind !== "record" });
      for (let i = 0; i < 2; i++) step.run(); // every sample of a captured step is a replay
      return {
        run: () => step.run(),
        dispose() {
          step.dispose();
          subject.dispose();
        },
      };
    },
  };
}

/** The training step that other engines are measured with: everything trains, one pass. */
function commonCase(kind: Exclude<Kind, "record">): Case {
  return {
    name: `${kind === "device" ? "" : "host: replay "}common step, 4 layers of 256, 8x128`,
    amount: COMMON.batch * COMMON.tokens,
    unit: "tokens/s",
    clock: kind === "device" ? "device" : "host",
    setup: prepareCommon,
  };
}

function prepareCommon(gpu: Gpu): { run(): void; dispose(): void } {
  const stream = Stream.seed(1);
  const { batch, tokens, vocabulary } = COMMON;
  const drawn = (name: string) => {
    const own = stream.fold(name);
    const ids = Int32Array.from({ length: batch * tokens }, (_, i) => own.integer(vocabulary, i));
    return tensor(gpu, ids, [batch, tokens]);
  };
  const [ids, labels] = [drawn("ids"), drawn("labels")];
  const values = (name: string, shape: readonly number[]) => {
    const size = shape.reduce((product, n) => product * n, 1);
    if (shape.length > 1) return stream.fold(name).normal(size, 0, 0.02);
    return new Float32Array(size).fill(name.endsWith(".bias") ? 0 : 1);
  };
  const step = prepareCommonStep(gpu, COMMON, values, ids, labels);
  for (let i = 0; i < 2; i++) step.run(); // every sample is a replay
  return {
    run: () => step.run(),
    dispose() {
      for (const it of [step, ids, labels]) it.dispose();
    },
  };
}

/** Whole training steps. */
export function stepCases(): Case[] {
  return [
    commonCase("device"),
    commonCase("replay"),
    ...SHAPES.flatMap((sizes) => [
      adamixCase(sizes, adamixAdapter({ bottleneck: 8 }), "device"),
      adamixCase(sizes, adamixLora({ rank: 8 }), "device"),
      adamixCase(sizes, adamixAdapter({ bottleneck: 8 }), "record"),
      adamixCase(sizes, adamixAdapter({ bottleneck: 8 }), "replay"),
    ]),
  ];
}

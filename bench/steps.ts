import { collate } from "../src/data/index.ts";
import { capture, type Gpu, Stream, type Tensor, tidy } from "../src/index.ts";
import { parseRobertaConfig, RobertaForSequenceClassification } from "../src/models/index.ts";
import { initBertWeights } from "../src/nn/index.ts";
import { AdamW, clipGradNorm } from "../src/optim/index.ts";
import {
  AdaptationSet,
  adamixAdapter,
  adamixLora,
  type PeftMethod,
  twoPassLoss,
  uniformRouter,
} from "../src/peft/index.ts";
import { BatchSlots, type LoadedBatch } from "../src/train/index.ts";
import type { Case } from "./measure.ts";

interface Shape {
  readonly name: string;
  readonly layers: number;
  readonly channels: number;
  readonly heads: number;
  readonly vocabulary: number;
  readonly batch: number;
  readonly tokens: number;
}

/** The embedded encoder, and the encoder of the training step by which other engines were measured. */
const SHAPES: readonly Shape[] = [
  { name: "3 layers of 64, 8x24", layers: 3, channels: 64, heads: 4, vocabulary: 1024, batch: 8, tokens: 24 },
  {
    name: "4 layers of 256, 8x128",
    layers: 4,
    channels: 256,
    heads: 4,
    vocabulary: 4096,
    batch: 8,
    tokens: 128,
  },
];

type Kind = "device" | "record" | "replay";

/**
 * One AdaMix step: both passes in one batch of 2B rows, consistency, backward, clipping, AdamW. "record" and
 * "replay" are the host's time alone, of a step that is called and of one that was captured.
 */
function stepCase(shape: Shape, method: PeftMethod, what: string, kind: Kind): Case {
  return {
    name: `${kind === "device" ? "" : `host: ${kind} `}step ${what}, ${shape.name}`,
    amount: shape.batch,
    unit: "examples/s",
    clock: kind === "device" ? "device" : "host",
    setup: (gpu) => prepare(gpu, shape, method, kind === "replay"),
  };
}

function prepare(
  gpu: Gpu,
  shape: Shape,
  method: PeftMethod,
  isCaptured: boolean,
): { run(): void; dispose(): void } {
  const stream = Stream.seed(1);
  const config = parseRobertaConfig({
    model_type: "roberta",
    vocab_size: shape.vocabulary,
    hidden_size: shape.channels,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    intermediate_size: 4 * shape.channels,
    max_position_embeddings: shape.tokens + 2,
    num_labels: 3,
  });
  const model = new RobertaForSequenceClassification(gpu, config);
  initBertWeights(model, stream.fold("model"));
  model.setRequiresGrad(false);
  model.classifier.setRequiresGrad(true);
  const set = new AdaptationSet(gpu, model, method, { stream });
  const optimiser = new AdamW([...set.parameters(), ...model.classifier.parameters()]);
  const slots = new BatchSlots(gpu, model);
  const router = uniformRouter(stream);
  const examples = Array.from({ length: shape.batch }, (_, i) => ({
    ids: Int32Array.from({ length: shape.tokens }, (_, t) => 5 + stream.integer(shape.vocabulary - 5, i, t)),
    label: i % 3,
  }));
  const batch = collate(examples, [...examples.keys()], { padId: config.pad_token_id });
  const deviceStep = ({ input, labels }: LoadedBatch): void =>
    tidy(() => {
      optimiser.zeroGrad();
      twoPassLoss(model.forward(input), labels as Tensor).loss.backward();
      clipGradNorm(optimiser.arena, 1);
      optimiser.step();
    });
  const captured = isCaptured ? capture(gpu, () => deviceStep(loaded)) : null;
  let loaded = slots.load(batch, 2);
  let step = 0;
  const run = (): void => {
    set.routes.draw(router, { step: step++, passes: 2 });
    loaded = slots.load(batch, 2);
    if (captured) captured.run();
    else deviceStep(loaded);
  };
  if (captured) for (let i = 0; i < 2; i++) run(); // every sample is a replay
  return {
    run,
    dispose() {
      captured?.dispose();
      optimiser.dispose();
      set.dispose();
      slots.dispose();
      model.dispose();
    },
  };
}

/** Whole training steps. */
export function stepCases(): Case[] {
  return SHAPES.flatMap((shape) => [
    stepCase(shape, adamixAdapter({ bottleneck: 8 }), "adamix-adapter", "device"),
    stepCase(shape, adamixLora({ rank: 8 }), "adamix-lora", "device"),
    stepCase(shape, adamixAdapter({ bottleneck: 8 }), "adamix-adapter", "record"),
    stepCase(shape, adamixAdapter({ bottleneck: 8 }), "adamix-adapter", "replay"),
  ]);
}

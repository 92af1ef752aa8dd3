// A training step of a subject: full fine-tuning, a method, or a mixture in one or two passes.

import type { Parameter } from "../src/index.ts";
import { capture, concat, type Gpu, noGrad, Stream, type Tensor, tidy } from "../src/index.ts";
import { AdamW, clipGradNorm } from "../src/optim/index.ts";
import { AdaptationSet, type PeftMethod, twoPassLoss, uniformRouter } from "../src/peft/index.ts";
import { type Subject, subjectLoss } from "./subjects.ts";

/** How the two passes of a mixture run: not at all, as one batch of twice the rows, or one after another. */
export type Passes = "one" | "two in one batch" | "two after one another";

export interface Tuning {
  /** null: everything trains. */
  readonly method: PeftMethod | null;
  readonly passes: Passes;
}

export interface TrainingStep {
  /** Loads the batch, draws routes, and does the step. */
  run(): void;
  /** Of the last run. */
  loss(): Tensor;
  dispose(): void;
}

const stream = Stream.seed(1);

/** What is attached to a subject for training. */
interface Attached {
  readonly parameters: readonly Parameter[];
  draw(step: number): void;
  /** Which pass's routes are in force in what follows. */
  during(pass: number): void;
  dispose(): void;
}

/**
 * The step as `fineTune` has it: gradients to zero, forward, loss, backward, clipping, AdamW. With `isCaptured` it is
 * recorded in the second run and replayed from then on.
 */
export function prepareTraining(
  gpu: Gpu,
  subject: Subject,
  { method, passes }: Tuning,
  { isCaptured = true }: { readonly isCaptured?: boolean } = {},
): TrainingStep {
  const batches = passes === "two in one batch" ? 2 : 1;
  subject.model.setRequiresGrad(method === null);
  for (const parameter of subject.head) parameter.requiresGrad = true;
  const attached = method ? attach(gpu, subject, method, passes) : NOTHING;
  const own = subject.model.parameters().filter(({ requiresGrad }) => requiresGrad);
  const optimiser = new AdamW([...own, ...attached.parameters]);
  const deviceStep = (): Tensor =>
    tidy(() => {
      optimiser.zeroGrad();
      const loss = lossOf(subject, passes, attached);
      loss.backward();
      clipGradNorm(optimiser.arena, 1);
      optimiser.step();
      return loss;
    });
  const captured = isCaptured ? capture(gpu, deviceStep) : null;
  let last: Tensor | null = null;
  let step = 0;
  return {
    run() {
      attached.draw(step++);
      subject.load(batches);
      if (captured) captured.run();
      else {
        last?.dispose();
        last = deviceStep();
      }
    },
    loss: () => captured?.output ?? (last as Tensor), // of a step that has run
    dispose() {
      captured?.dispose();
      last?.dispose();
      optimiser.dispose();
      attached.dispose();
    },
  };
}

function lossOf(subject: Subject, passes: Passes, attached: Attached): Tensor {
  switch (passes) {
    case "one":
      return subjectLoss(subject, subject.logits());
    case "two in one batch":
      return twoPassLoss(subject.logits(), subject.labels).loss;
    case "two after one another": {
      const logits = [0, 1].map((pass) => {
        attached.during(pass);
        return subject.logits();
      });
      return twoPassLoss(concat(logits, 0), subject.labels).loss;
    }
    default:
      return passes satisfies never;
  }
}

const NOTHING: Attached = { parameters: [], draw() {}, during() {}, dispose() {} };

function attach(gpu: Gpu, subject: Subject, method: PeftMethod, passes: Passes): Attached {
  const set = new AdaptationSet(gpu, subject.model, method, { stream });
  const router = uniformRouter(stream);
  const apart = passes === "two after one another";
  return {
    parameters: set.parameters(),
    draw(step) {
      if (set.isMixture) set.routes.draw(router, { step, passes: passes === "one" ? 1 : 2, apart });
    },
    during(pass) {
      if (set.isMixture) set.routes.usePass(pass);
    },
    dispose: () => set.dispose(),
  };
}

/** Inference of a subject with a method attached, as `predict` does it; `isMerged`: a mixture's experts merged first. */
export function prepareInference(
  gpu: Gpu,
  subject: Subject,
  method: PeftMethod,
  { isMerged }: { readonly isMerged: boolean },
): { run(): void; dispose(): void } {
  subject.model.setRequiresGrad(false);
  const set = new AdaptationSet(gpu, subject.model, method, { stream, attached: !isMerged });
  const merged = isMerged ? set.mergeExperts(subject.model, stream) : null;
  merged?.attach();
  return {
    run() {
      subject.load(1);
      noGrad(() => subject.logits().dispose());
    },
    dispose() {
      merged?.dispose();
      set.dispose();
    },
  };
}

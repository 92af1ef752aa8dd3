import { openGpu } from "../array/index.ts";
import type { LabelledSentence, Tokenizer } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { joinPath, writeFileAtomic } from "../platform/index.ts";
import { demoHeldOutSentences, demoTrainingSentences, EMBEDDED, openPretrained } from "../train/index.ts";
import { DEMO_STEPS, demoMethods } from "./demo-methods.ts";
import { demoFindings, demoTable } from "./demo-report.ts";
import { type DemoResult, demoRun } from "./demo-run.ts";

export interface DemoOptions {
  readonly seeds: number;
  readonly out: string;
  readonly device?: string | undefined;
  readonly steps?: number | undefined;
}

/**
 * The embedded demonstration: fine-tunes the embedded encoder on 96 labelled sentences with every method, merges,
 * evaluates on sentences of unseen combinations, saves the adapters, and says what the numbers allow to say.
 */
export async function demo({ seeds, out, device, steps = DEMO_STEPS }: DemoOptions): Promise<void> {
  if (!Number.isInteger(seeds) || seeds < 1)
    throw new ShapeError(`demo: --seeds is ${seeds}, expected 1 or more`);
  const started = performance.now();
  const gpu = await openGpu(device);
  try {
    const { traits, adapter } = gpu.device;
    print(`adamix demo on ${traits.name} (${traits.kind}; ${adapter.how})`);
    const source = await openPretrained(EMBEDDED);
    const encode = encoder(source.tokenizer, source.longest);
    const test = demoHeldOutSentences("test").map(encode);
    const methods = demoMethods(steps);
    print(
      `sentiment of ${test.length} sentences of unseen combinations, from 96 labelled ones; ${methods.length} methods x ${seeds} seeds`,
    );
    const results: DemoResult[] = [];
    const total = methods.length * seeds;
    for (let seed = 0; seed < seeds; seed++) {
      const train = demoTrainingSentences(seed).map(encode);
      for (const method of methods) {
        const result = await demoRun(gpu, method, seed, { source, train, test, out });
        results.push(result);
        print(progressLine(result, results.length, total, performance.now() - started));
      }
    }
    const report = [demoTable(results), "", ...legend(results), "", ...demoFindings(results)].join("\n");
    writeFileAtomic(joinPath(out, "report.txt"), `${report}\n`);
    print(`\n${report}\n`);
    print(
      `${total} runs in ${((performance.now() - started) / 1000).toFixed(0)} s; adapters, metrics and this report are in ${out}`,
    );
    const best = joinPath(out, `adamix-lora-seed0`);
    print(`next: adamix evaluate ${best}   or   adamix demo --seeds 10`);
  } finally {
    await gpu.device.close();
  }
}

function encoder(tokenizer: Tokenizer, maxLength: number) {
  return ({ text, label }: LabelledSentence) => ({ ids: tokenizer.encode(text, null, { maxLength }), label });
}

function progressLine(
  { method, seed, merged }: DemoResult,
  done: number,
  total: number,
  elapsedMs: number,
): string {
  const remaining = Math.round(((elapsedMs / done) * (total - done)) / 1000);
  const name = `${method.name}, seed ${seed}`.padEnd(32);
  return `[${String(done).padStart(String(total).length)}/${total}] ${name} accuracy ${merged.accuracy.toFixed(3)}  NLL ${merged.nll.toFixed(3)}  about ${remaining} s left`;
}

function legend(results: readonly DemoResult[]): string[] {
  const [first] = results;
  const head = first?.parameters.head ?? 0;
  return [
    `trained, merged: parameters beside the head's ${head.toLocaleString("en-US")}; the encoder is frozen. passes: forward passes in training.`,
    "accuracy and NLL: merged experts, mean ± deviation over seeds. Guessing scores 0.333.",
  ];
}

function print(line: string): void {
  console.log(line);
}

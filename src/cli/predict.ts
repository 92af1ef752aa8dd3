import { encodeFor, predict as logitsOf, probabilities } from "../train/index.ts";
import { UsageError } from "./failure.ts";
import { digits, print, table } from "./report.ts";
import { withGpu } from "./session.ts";
import { buildClassifier, openSaved, type SavedClassifier } from "./trained.ts";

export interface PredictCommand {
  readonly path: string;
  readonly texts: readonly string[];
  /** Second texts, one for each of `texts`; none for tasks of one text. */
  readonly pairs: readonly string[];
  readonly model: string | undefined;
  /** How the encoder is stored, if not as in training. */
  readonly dtype: SavedClassifier["dtype"] | undefined;
  readonly device: string | undefined;
}

/** Prints the label of each text, and the probability of every label; or the number that it is given. */
export async function predict({
  path,
  texts,
  pairs,
  model: base,
  dtype,
  device,
}: PredictCommand): Promise<void> {
  if (texts.length === 0) throw new UsageError("predict: no --text");
  if (pairs.length > 0 && pairs.length !== texts.length)
    throw new UsageError(
      `${texts.length} --text and ${pairs.length} --pair: give one --pair for each --text`,
    );
  const saved = await openSaved(path, { part: "merged", model: base, dtype });
  const { labels } = saved.task;
  const { source, maxLength } = saved;
  const examples = texts.map((text, i) => encodeFor(source, text, pairs[i] ?? null, { maxLength }));
  await withGpu(device, async (gpu) => {
    const { model } = await buildClassifier(gpu, saved);
    const outputs = await logitsOf(gpu, model, examples);
    const secondOf = (i: number): string => (pairs[i] === undefined ? "" : ` | ${pairs[i]}`);
    if (labels.length === 1) {
      const rows = texts.map((text, i) => [digits(outputs[i] ?? Number.NaN), `${text}${secondOf(i)}`]);
      print(table([...labels, "text"], rows, { left: true }));
      return;
    }
    const p = probabilities(outputs, labels.length);
    const rows = texts.map((text, i) => {
      const own = [...p.subarray(i * labels.length, (i + 1) * labels.length)];
      const label = labels[own.indexOf(Math.max(...own))] ?? "";
      return [label, ...own.map(digits), `${text}${secondOf(i)}`];
    });
    print(table(["label", ...labels, "text"], rows, { left: true }));
  });
}

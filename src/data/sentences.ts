/**
 * The demonstration language: lines to pretrain on and three labelled tasks, made from a seed.
 *
 * Every (aspect, word, construction) triple belongs to one of five classes: one for test, one for dev, three
 * for training and pretraining. So a test sentence uses words that the model knows in combinations that it
 * has never seen. Polarity cannot be read off single words: negation, contrast and opinion words that nobody
 * asserts see to that.
 */

import { createRng, type Rng } from "./random.ts";
import {
  type Aspect,
  clause,
  consequence,
  drawAspect,
  drawPolarity,
  fact,
  frame,
  neutral,
  opinion,
  paraphrase,
  review,
  type Split,
} from "./sentences-clauses.ts";
import { DOMAINS, type Domain, type Polarity } from "./sentences-lexicon.ts";

/** One example of a labelled task; `label` indexes the task's label names. */
export interface LabelledSentence {
  readonly text: string;
  readonly label: number;
}

export const SENTENCE_TASKS = {
  sentiment: ["negative", "positive", "neutral"],
  topic: DOMAINS,
  entailment: ["entails", "contradicts", "unrelated"],
} as const;
export type SentenceTask = keyof typeof SENTENCE_TASKS;

/** The label names of the default task. */
export const SENTIMENT_LABELS = SENTENCE_TASKS.sentiment;

export interface PretrainingOptions {
  readonly seed: number;
  readonly split?: Split;
}

export interface SentenceTaskOptions {
  readonly split: Split;
  readonly seed: number;
  /** How many sentences, whatever their labels. Exactly one of `n` and `perLabel` is given. */
  readonly n?: number;
  /** How many sentences of each label; a label that no chosen domain can give is left out. */
  readonly perLabel?: number;
  /** The domains to draw from; all six by default. */
  readonly domains?: readonly Domain[];
  /** Sentences to leave out, see {@link repeatableSentences}. */
  readonly exclude?: ReadonlySet<string>;
  /** The first `classes` labels of `sentiment` only: 2 leaves out the neutral ones. */
  readonly classes?: 2 | 3;
}

/**
 * One line: 40% review and consequence, 35% opinion and consequence, 12% neutral and consequence,
 * 7% paraphrase, 6% facts.
 */
export function pretrainingLine(rng: Rng, split: Split): string {
  const domain = rng.pick(DOMAINS);
  const kind = rng.uniform();
  if (kind < 0.4) {
    const polarity = drawPolarity(rng);
    const text = review(rng, domain, polarity, split);
    return `${text} . ${consequence(rng, polarity)} .`;
  }
  if (kind < 0.75) {
    const polarity = drawPolarity(rng);
    const text = frame(rng, domain, opinion(rng, domain, polarity, split).text);
    return `${text} . ${consequence(rng, polarity)} .`;
  }
  if (kind < 0.87) {
    const text = frame(rng, domain, neutral(rng, domain, split).text);
    return `${text} . ${consequence(rng, 0)} .`;
  }
  if (kind < 0.94) return `${paraphrase(rng, domain, drawPolarity(rng), split)} .`;
  return `${fact(rng, domain)} .`;
}

/** `n` lines of running text. A longer run of the same seed begins with the shorter one. */
export function pretrainingLines(n: number, { seed, split = "train" }: PretrainingOptions): string[] {
  const rng = createRng(seed);
  const lines: string[] = [];
  for (let i = 0; i < n; i++) lines.push(pretrainingLine(rng, split));
  return lines;
}

/** Sentiment of a statement: negative, positive or neutral (label names: `SENTIMENT_LABELS`). */
export function sentimentTask(options: SentenceTaskOptions): LabelledSentence[] {
  const classes = options.classes ?? 3;
  return collect("sentiment", classes, options, (rng, domains, split) => {
    const domain = rng.pick(domains);
    const label = rng.int(classes);
    const statement =
      label === 2 ? neutral(rng, domain, split) : opinion(rng, domain, label === 1 ? 1 : -1, split);
    return { text: `${frame(rng, domain, statement.text)} .`, label };
  });
}

/** The domain that a statement is about (label names: `DOMAINS`). */
export function topicTask(options: SentenceTaskOptions): LabelledSentence[] {
  return collect("topic", DOMAINS.length, options, (rng, domains, split) => {
    const domain = rng.pick(domains);
    const statement = rng.chance(0.7)
      ? opinion(rng, domain, drawPolarity(rng), split)
      : neutral(rng, domain, split);
    return { text: `${statement.text} .`, label: DOMAINS.indexOf(domain) };
  });
}

/** "A . in other words , B .": does B follow from A, contradict it, or speak of another aspect? */
export function entailmentTask(options: SentenceTaskOptions): LabelledSentence[] {
  return collect("entailment", 3, options, drawEntailment);
}

function drawEntailment(rng: Rng, domains: readonly Domain[], split: Split): LabelledSentence {
  const domain = rng.pick(domains);
  const polarity = drawPolarity(rng);
  const connector = rng.pick(["and", "but", "although", "eventhough", "still"] as const);
  const statement = opinion(rng, domain, polarity, split, connector);
  const label = rng.int(3);
  const said = rng.pick(statement.aspects);
  let aspect: Aspect = said;
  let claimed: Polarity = said.polarity;
  if (label === 2) {
    do aspect = drawAspect(rng, domain);
    while (statement.aspects.some(({ name }) => name === aspect.name));
    claimed = drawPolarity(rng);
  } else if (label === 1) {
    claimed = said.polarity > 0 ? -1 : 1;
  }
  const claim = clause(rng, domain, aspect, claimed, split).text;
  return { text: `${statement.text} . in other words , ${claim} .`, label };
}

/** How many draws in a row may bring nothing new before a task is declared exhausted. */
const PATIENCE = 100_000;

/** Distinct sentences of a task in the order of their draws, with quotas per label if asked for. */
function collect(
  task: SentenceTask,
  classes: number,
  options: SentenceTaskOptions,
  draw: (rng: Rng, domains: readonly Domain[], split: Split) => LabelledSentence,
): LabelledSentence[] {
  const { split, seed, n, perLabel, domains = DOMAINS, exclude } = options;
  const count = perLabel ?? n;
  if (count === undefined || (n !== undefined && perLabel !== undefined)) {
    throw new RangeError(`${task}: give either n or perLabel`);
  }
  if (!Number.isInteger(count) || count < 0)
    throw new RangeError(`${task}: ${count} is no number of sentences`);
  if (domains.length === 0)
    throw new RangeError(`${task}: no domain is chosen; there are ${DOMAINS.join(", ")}`);
  const labels = task === "topic" ? new Set(domains).size : classes;
  const wanted = perLabel === undefined ? count : perLabel * labels;

  const rng = createRng(seed);
  const quota = new Int32Array(classes).fill(count);
  const seen = new Set<string>();
  const sentences: LabelledSentence[] = [];
  for (let misses = 0; sentences.length < wanted; misses++) {
    if (misses > PATIENCE) {
      throw new RangeError(
        `${task}: ${sentences.length} distinct sentences found, not ${wanted}; ask for fewer`,
      );
    }
    const sentence = draw(rng, domains, split);
    const room = quota[sentence.label] ?? 0;
    if (room <= 0 || seen.has(sentence.text)) continue;
    seen.add(sentence.text);
    if (exclude?.has(sentence.text)) continue;
    if (perLabel !== undefined) quota[sentence.label] = room - 1;
    sentences.push(sentence);
    misses = 0;
  }
  return sentences;
}

/** What sentences without any triple contain: construction 8 and the neutral kinds 5 and 6. */
const WITHOUT_TRIPLE = [" could not have been ", " talked about the ", " was mentioned "] as const;

/**
 * The sentences of `lines` that a test set could repeat, each ended by " ." like a sentence of a task.
 *
 * A sentence with a triple cannot occur in another split, so it is enough to keep those that may lack one:
 * one of 150,000 pretraining lines in six, found without drawing anything. Pass the set as `exclude`.
 */
export function repeatableSentences(lines: Iterable<string>): Set<string> {
  const found = new Set<string>();
  for (const line of lines) {
    if (!WITHOUT_TRIPLE.some((part) => line.includes(part))) continue;
    for (const sentence of line.slice(0, -2).split(" . ")) {
      if (WITHOUT_TRIPLE.some((part) => sentence.includes(part))) found.add(`${sentence} .`);
    }
  }
  return found;
}

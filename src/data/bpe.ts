/**
 * Byte-level byte-pair encoding: learns merges from text.
 *
 * Ids: the special tokens, then the 256 bytes in their order, then one id per merge. Each round merges the
 * most frequent pair of neighbouring tokens; of equally frequent pairs, the one with the smaller ids.
 */

import { BYTE_CHARACTERS, prefixSpace, splitWords } from "./bytes.ts";
import { PairQueue } from "./pair-queue.ts";

/** RoBERTa's special tokens, in the order of their ids. */
export const BPE_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] as const;

/** A trained vocabulary: the contents of Hugging Face's `vocab.json` and `merges.txt`. */
export interface Bpe {
  /** Token to id; ids are 0 .. size - 1. */
  readonly vocab: Readonly<Record<string, number>>;
  /** "left right", in the order in which they were learnt. */
  readonly merges: readonly string[];
}

export interface BpeOptions {
  /** The size to stop at, special tokens and bytes included. */
  readonly vocabSize: number;
  readonly specials?: readonly string[];
  /** Whether every line begins like a word within a line; the tokenizer must be told the same. */
  readonly addPrefixSpace?: boolean;
  /** Pairs that occur less often are not merged. */
  readonly minFrequency?: number;
}

/** A distinct word: its present tokens, and how often it occurs. */
interface Word {
  tokens: number[];
  readonly count: number;
}

/**
 * Learns up to `vocabSize` tokens from `lines`; fewer when no pair is frequent enough.
 * Time grows with the distinct words, not with the text.
 */
export function trainBpe(lines: Iterable<string>, options: BpeOptions): Bpe {
  const { vocabSize, specials = BPE_SPECIALS, addPrefixSpace = true, minFrequency = 1 } = options;
  const names = [...specials, ...BYTE_CHARACTERS];
  if (!Number.isInteger(vocabSize) || vocabSize < names.length) {
    throw new RangeError(
      `bpe: vocabSize ${vocabSize} is below ${names.length} (${specials.length} special tokens and 256 bytes)`,
    );
  }
  const ids = new Map(names.map((name, id) => [name, id]));
  if (ids.size !== names.length)
    throw new RangeError("bpe: a special token is given twice or is a single byte");

  const words = countWords(lines, addPrefixSpace, specials.length);
  const pairs = countPairs(words);
  const merges = new Set<string>(); // A token with two spellings can bring a merged pair back: it is listed once.
  while (ids.size < vocabSize) {
    const best = pairs.pop();
    if (best === undefined || best.count < minFrequency) break;
    const left = nameOf(names, best.left);
    const right = nameOf(names, best.right);
    // Two different merges may spell the same token; it keeps its first id.
    const id = ids.get(left + right) ?? names.length;
    if (id === names.length) {
      names.push(left + right);
      ids.set(left + right, id);
    }
    merges.add(`${left} ${right}`);
    mergeEverywhere(words, pairs, best.left, best.right, id);
  }
  return { vocab: Object.fromEntries(ids), merges: [...merges] };
}

/** The text of `vocab.json`, in the order of the ids. */
export function vocabJson({ vocab }: Pick<Bpe, "vocab">): string {
  const entries = Object.entries(vocab).sort(([, a], [, b]) => a - b);
  return `{${entries.map(([token, id]) => `${JSON.stringify(token)}:${id}`).join(",")}}\n`;
}

/** The text of `merges.txt`, with the header line that readers of the format skip. */
export function mergesTxt({ merges }: Pick<Bpe, "merges">): string {
  return `#version: 0.2\n${merges.map((merge) => `${merge}\n`).join("")}`;
}

function nameOf(names: readonly string[], id: number): string {
  const name = names[id];
  if (name === undefined) throw new RangeError(`bpe: token ${id} has no name`);
  return name;
}

/** The distinct words of the text as bytes, numbered from `firstByte`. */
function countWords(lines: Iterable<string>, addPrefixSpace: boolean, firstByte: number): Word[] {
  const counts = new Map<string, number>();
  for (const line of lines) {
    for (const word of splitWords(addPrefixSpace ? prefixSpace(line) : line)) {
      counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  const encoder = new TextEncoder();
  return Array.from(counts, ([word, count]) => ({
    tokens: Array.from(encoder.encode(word), (byte) => firstByte + byte),
    count,
  }));
}

function countPairs(words: readonly Word[]): PairQueue {
  const pairs = new PairQueue();
  words.forEach((word, index) => {
    addPairs(pairs, word, index, word.count);
  });
  return pairs;
}

/** Adds `count` for each pair of neighbours in a word; a negative count takes the word out. */
function addPairs(pairs: PairQueue, { tokens }: Word, index: number, count: number): void {
  for (let i = 1; i < tokens.length; i++) {
    pairs.add(tokens[i - 1] as number, tokens[i] as number, count, index); // 0 < i < length
  }
}

/** Replaces the pair by `id` in every word that holds it, and corrects the counts of the pairs around. */
function mergeEverywhere(words: Word[], pairs: PairQueue, left: number, right: number, id: number): void {
  for (const index of pairs.wordsWith(left, right)) {
    const word = words[index];
    if (word === undefined) continue;
    const tokens = mergeTokens(word.tokens, left, right, id);
    if (tokens.length === word.tokens.length) continue; // The pair has gone since it was noted.
    addPairs(pairs, word, index, -word.count);
    word.tokens = tokens;
    addPairs(pairs, word, index, word.count);
  }
  pairs.drop(left, right);
}

/** The tokens with each `left right` replaced by `id`, from left to right. */
function mergeTokens(tokens: readonly number[], left: number, right: number, id: number): number[] {
  const merged: number[] = [];
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i] as number; // i < length
    if (token === left && tokens[i + 1] === right) {
      merged.push(id);
      i++;
    } else {
      merged.push(token);
    }
  }
  return merged;
}

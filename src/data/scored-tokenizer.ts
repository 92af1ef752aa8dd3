// Tokenizers whose pieces have scores: SentencePiece's BPE, from the tokenizer.bin of llama2.c.
import { plainTemplate, type Template } from "./template.ts";
import { createTokenizer, type Tokenizer } from "./tokenizer.ts";

interface Pieces {
  readonly texts: readonly string[];
  readonly scores: readonly number[];
  readonly ids: ReadonlyMap<string, number>;
}

const [UNKNOWN, BEGIN, END] = [0, 1, 2];
/** Ids 3 to 258 are the bytes 0 to 255, for characters that have no piece of their own. */
const FIRST_BYTE = 3;
const FIRST_PIECE = FIRST_BYTE + 256;

/**
 * Reads the tokenizer.bin of llama2.c: the longest piece's length (u32), then score (f32), length (i32) and bytes of each
 * piece. Ids 0, 1, 2 are unknown, begin and end. A text gets a space in front; of neighbours that together are a piece,
 * those of the best score merge first. Encoding puts the begin in front.
 */
export function scoredTokenizer(bytes: Uint8Array): Tokenizer {
  const pieces = readPieces(bytes);
  const { texts, ids } = pieces;
  const withBegin: Template = {
    single: [{ piece: BEGIN, type: 0 }, ...plainTemplate.single],
    pair: [{ piece: BEGIN, type: 0 }, ...plainTemplate.pair],
  };
  const special = { padId: UNKNOWN, bosId: BEGIN, eosId: END, unkId: UNKNOWN, maskId: null };
  const encodeText = (text: string): number[] =>
    text === "" ? [] : mergePieces(splitText(` ${text}`, ids), pieces);
  return createTokenizer({
    library: {
      encode: (text) => ({ ids: encodeText(text) }),
      decode: (list, { skip_special_tokens: skip }) => decodePieces(list, texts, skip),
    },
    vocab: ids,
    special,
    added: [UNKNOWN, BEGIN, END].map((id) => ({ id, content: texts[id] ?? "" })),
    template: withBegin,
    encodeText,
    addPrefixSpace: true,
  });
}

function readPieces(bytes: Uint8Array): Pieces {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const texts: string[] = [];
  const scores: number[] = [];
  const ids = new Map<string, number>();
  for (let at = 4; at < bytes.length; ) {
    const length = at + 8 <= bytes.length ? view.getInt32(at + 4, true) : -1;
    if (length < 0 || at + 8 + length > bytes.length) {
      throw new Error(
        `tokenizer: tokenizer.bin is cut short at byte ${at} of ${bytes.length}, piece ${texts.length}`,
      );
    }
    const text = new TextDecoder().decode(bytes.subarray(at + 8, at + 8 + length));
    if (!ids.has(text)) ids.set(text, texts.length);
    scores.push(view.getFloat32(at, true));
    texts.push(text);
    at += 8 + length;
  }
  if (texts.length < FIRST_PIECE)
    throw new Error(
      `tokenizer: tokenizer.bin has ${texts.length} pieces, fewer than ${FIRST_PIECE} with all bytes`,
    );
  return { texts, scores, ids };
}

/** Pieces of one character each; a character without one as its bytes. */
function splitText(text: string, ids: ReadonlyMap<string, number>): number[] {
  return [...text].flatMap((character) => {
    const id = ids.get(character);
    if (id !== undefined) return [id];
    return Array.from(new TextEncoder().encode(character), (byte) => FIRST_BYTE + byte);
  });
}

/** Joins the two neighbours whose piece has the best score (the first of equals), until none is a piece. */
function mergePieces(start: readonly number[], { texts, scores, ids }: Pieces): number[] {
  const tokens = [...start];
  for (;;) {
    let best = { score: Number.NEGATIVE_INFINITY, at: -1, id: -1 };
    for (let at = 0; at + 1 < tokens.length; at++) {
      const id = ids.get(`${texts[tokens[at] ?? 0]}${texts[tokens[at + 1] ?? 0]}`);
      const score = id === undefined ? Number.NEGATIVE_INFINITY : (scores[id] ?? Number.NEGATIVE_INFINITY);
      if (id !== undefined && score > best.score) best = { score, at, id };
    }
    if (best.at < 0) return tokens;
    tokens.splice(best.at, 2, best.id);
  }
}

function decodePieces(list: readonly number[], texts: readonly string[], skipSpecials: boolean): string {
  const bytes: number[] = [];
  for (const id of list) {
    if (id >= FIRST_BYTE && id < FIRST_PIECE) bytes.push(id - FIRST_BYTE);
    else if (id > END || !skipSpecials) bytes.push(...new TextEncoder().encode(texts[id] ?? ""));
  }
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

/** Where special tokens go around one text or two, and what is cut when they are too long. */

/** A special token, or the place of the first (A) or second (B) text. */
export interface TemplatePiece {
  readonly piece: number | "A" | "B";
  /** The token type of what stands here; 0 throughout for models without token types. */
  readonly type: 0 | 1;
}

export interface Template {
  readonly single: readonly TemplatePiece[];
  readonly pair: readonly TemplatePiece[];
}

/** Ids with their token types. */
export interface Assembled {
  readonly ids: Int32Array;
  readonly types: Int32Array;
}

const at = (piece: TemplatePiece["piece"], type: 0 | 1 = 0): TemplatePiece => ({ piece, type });

/** `<s> A </s>` and `<s> A </s></s> B </s>`, all of type 0. */
export function robertaTemplate(bos: number, eos: number): Template {
  const single = [at(bos), at("A"), at(eos)];
  return { single, pair: [...single, at(eos), at("B"), at(eos)] };
}

/** `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`; B and its end are of type 1. */
export function bertTemplate(cls: number, sep: number): Template {
  const single = [at(cls), at("A"), at(sep)];
  return { single, pair: [...single, at("B", 1), at(sep, 1)] };
}

/** The texts alone, one after the other. */
export const plainTemplate: Template = { single: [at("A")], pair: [at("A"), at("B")] };

/**
 * Fills a template, cut to `maxLength` ids with all special tokens kept.
 * Of two texts the longer one loses its last id until all fit; of two equally long ones, the second.
 */
export function assemble(
  template: Template,
  a: readonly number[],
  b: readonly number[] | null,
  maxLength: number,
): Assembled {
  const pieces = b === null ? template.single : template.pair;
  let specials = 0;
  for (const { piece } of pieces) if (typeof piece === "number") specials++;
  const room = maxLength - specials;
  if (room < 1) {
    throw new RangeError(
      `tokenizer: maxLength ${maxLength} leaves no room beside ${specials} special tokens`,
    );
  }
  const kept = longestFirst(a.length, b?.length ?? 0, room);
  const ids = new Int32Array(specials + kept.a + kept.b);
  const types = new Int32Array(ids.length);
  let end = 0;
  for (const { piece, type } of pieces) {
    const start = end;
    if (typeof piece === "number") {
      ids[end++] = piece;
    } else {
      const text = piece === "A" ? a : (b ?? []);
      const n = piece === "A" ? kept.a : kept.b;
      for (let i = 0; i < n; i++) ids[end++] = text[i] as number; // n <= text.length
    }
    if (type !== 0) types.fill(type, start, end);
  }
  return { ids, types };
}

/** How many ids of two texts remain when the longer one is cut first and the second one at equal length. */
export function longestFirst(a: number, b: number, room: number): { readonly a: number; readonly b: number } {
  if (a + b <= room) return { a, b };
  const longer = Math.ceil(room / 2);
  if (b <= room - longer) return { a: room - b, b };
  if (a <= longer) return { a, b: room - a };
  return { a: longer, b: room - longer };
}

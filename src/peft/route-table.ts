import type { Gpu } from "../array/index.ts";
import { keep, Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { Site } from "../nn/index.ts";
import type { RouteRequest, Router, Side } from "./router.ts";
import type { Path, Routing } from "./routing.ts";

/** Elements that the place of one route is a multiple of, so that it can be bound. */
const PLACE = 64;
const SIDES = ["down", "up"] as const;

/** What routes are drawn for. */
export interface DrawOptions {
  readonly step: number;
  readonly passes: number;
  readonly firstPass?: number;
  /** Examples of each pass that have a draw of their own. Default 1: the whole pass has one. */
  readonly groups?: number;
  /** Tokens of each of them that have one. Default 1. */
  readonly tokens?: number;
  /** Whether passes run one after the other, each with its own rows: usePass() says which. Default: in one batch. */
  readonly apart?: boolean;
}

/** How routes lie in their slot. */
interface Layout {
  readonly passes: number;
  /** Routes of each pass. */
  readonly each: number;
  readonly tokens: number;
  readonly apart: boolean;
  /** Elements from one pass to the next. */
  readonly passStride: number;
  /** Elements of one side of a layer. */
  readonly stride: number;
}

interface Slot {
  readonly words: Tensor;
  /** By layer and side; of each pass where they are apart. */
  readonly routes: ReadonlyMap<string, readonly Tensor[]>;
}

/**
 * The routes of all layers and both sides on the GPU: an input slot, written once a step.
 * Each route is i32 [groups · tokens]; in a batch of several passes their routes lie behind one another.
 */
export class RouteTable implements Routing {
  readonly layers: readonly number[];
  readonly #gpu: Gpu;
  readonly #experts: Readonly<Record<Side, number>>;
  readonly #slots = new Map<string, Slot>();
  #layout: Layout | null = null;
  #pass = 0;
  #last: Int32Array<ArrayBuffer> = new Int32Array(0);

  constructor(gpu: Gpu, layers: readonly number[], experts: Readonly<Record<Side, number>>) {
    this.#gpu = gpu;
    this.layers = [...new Set(layers)].sort((a, b) => a - b);
    this.#experts = experts;
  }

  /** Asks the router for every route of a step and writes them in one upload. */
  draw(router: Router, options: DrawOptions): void {
    const layout = layoutOf(options);
    const { step, firstPass = 0 } = options;
    const words = new Int32Array(this.layers.length * 2 * layout.stride);
    let at = 0;
    for (const layer of this.layers) {
      for (const side of SIDES) {
        const experts = this.#experts[side];
        if (experts > 1)
          fill(words, at, router, layout, {
            layer,
            side,
            experts,
            step,
            pass: firstPass,
            group: 0,
            token: 0,
          });
        at += layout.stride;
      }
    }
    this.#layout = layout;
    this.#pass = 0;
    this.#last = words;
    this.#slot(layout).words.write(words);
  }

  /** Which pass comes next, where they run apart. A draw goes back to the first. */
  usePass(pass: number): void {
    this.#pass = pass;
  }

  /** The route of one side of a layer, as last drawn. */
  of(layer: number, side: Side): Tensor {
    const layout = this.#layout;
    const route = layout && this.#slot(layout).routes.get(`${layer}.${side}`)?.[this.#pass];
    if (!route) throw new ShapeError(`router: no routes for layer ${layer}; draw() comes first`);
    return route;
  }

  paths({ layer }: Site): readonly Path[] {
    return [{ down: this.of(layer, "down"), up: this.of(layer, "up"), weight: null }];
  }

  /** What was drawn last, for the log: [layer][down, up][pass, example, token]. */
  last(): number[][][] {
    return this.layers.map((_, i) => [0, 1].map((side) => [...this.#drawn(2 * i + side)]));
  }

  /** How often each expert was drawn last: [layer][down, up][expert]. A shared side has one, which is not drawn. */
  tally(): number[][][] {
    return this.layers.map((_, i) =>
      SIDES.map((side, j) => {
        const counts = new Array<number>(this.#experts[side]).fill(0);
        if (counts.length === 1) return counts;
        for (const expert of this.#drawn(2 * i + j)) (counts[expert] as number)++;
        return counts;
      }),
    );
  }

  dispose(): void {
    for (const { words, routes } of this.#slots.values())
      for (const tensor of [words, ...[...routes.values()].flat()]) tensor.dispose();
    this.#slots.clear();
    this.#layout = null;
  }

  *#drawn(row: number): IterableIterator<number> {
    if (!this.#layout) return;
    const { passes, each, passStride, stride } = this.#layout;
    for (let pass = 0; pass < passes; pass++) {
      const first = row * stride + pass * passStride;
      yield* this.#last.subarray(first, first + each);
    }
  }

  /** One slot for each layout, made on first use. */
  #slot(layout: Layout): Slot {
    const { passes, each, apart, passStride, stride } = layout;
    const key = apart ? `${passes} times ${each}` : `${passes * each}`;
    const known = this.#slots.get(key);
    if (known) return known;
    const array = this.#gpu.empty([this.layers.length * 2 * stride], "i32");
    const routes = new Map<string, readonly Tensor[]>();
    const view = (size: number, first: number): Tensor =>
      keep(new Tensor(this.#gpu, array.view([size], first)));
    this.layers.forEach((layer, i) => {
      SIDES.forEach((side, j) => {
        const first = (2 * i + j) * stride;
        const own = apart
          ? Array.from({ length: passes }, (_, pass) => view(each, first + pass * passStride))
          : [view(passes * each, first)];
        routes.set(`${layer}.${side}`, own);
      });
    });
    const slot = { words: keep(new Tensor(this.#gpu, array)), routes };
    this.#slots.set(key, slot);
    return slot;
  }
}

function layoutOf({ passes, groups = 1, tokens = 1, apart = false }: DrawOptions): Layout {
  const each = groups * tokens;
  const total = passes * each;
  if (!Number.isInteger(total) || total < 1) {
    const finer = tokens === 1 ? "" : ` of ${tokens} tokens`;
    throw new ShapeError(`router: ${passes} passes of ${groups} groups${finer}, expected 1 or more of each`);
  }
  const placed = (n: number): number => Math.ceil(n / PLACE) * PLACE;
  const passStride = apart ? placed(each) : each;
  return { passes, each, tokens, apart, passStride, stride: placed(passes * passStride) };
}

/** Routes of one side of a layer, from `at` on. `first`: the request of the first. */
function fill(
  words: Int32Array,
  at: number,
  router: Router,
  { passes, each, tokens, passStride }: Layout,
  first: RouteRequest,
): void {
  for (let pass = 0; pass < passes; pass++) {
    for (let i = 0; i < each; i++) {
      const place = { pass: first.pass + pass, group: Math.floor(i / tokens), token: i % tokens };
      const request = { ...first, ...place };
      words[at + pass * passStride + i] = checked(router(request), request);
    }
  }
}

function checked(expert: number, { layer, side, experts }: RouteRequest): number {
  if (Number.isInteger(expert) && expert >= 0 && expert < experts) return expert;
  throw new ShapeError(
    `router: expert ${expert} for layer ${layer}, ${side}; there are ${experts} (0..${experts - 1})`,
  );
}

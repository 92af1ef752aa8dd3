import type { Stream } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";

export type Side = "down" | "up";

/** What has a draw of its own. Paper: "batch"; the finer ones go beyond it. */
export type Granularity = "batch" | "example" | "token";

/** One choice to be made: which of `experts` serves a group of rows. */
export interface RouteRequest {
  readonly layer: number;
  readonly side: Side;
  readonly experts: number;
  readonly step: number;
  readonly pass: number;
  /** 0 for a whole batch; else the number of the example in its pass. */
  readonly group: number;
  /** 0 for a whole batch or example; else the number of the token in its example. */
  readonly token: number;
}

/** Chooses experts. A router of one's own is a function of a request. */
export type Router = (request: RouteRequest) => number;

/**
 * Every expert with the same probability, down and up drawn independently, one draw for each layer and pass.
 * No parameters and no balancing loss. A function of its request: any step can be drawn again.
 * Paper: section 3.1.
 */
export function uniformRouter(stream: Stream): Router {
  const all = { down: new Map<number, FourDraws>(), up: new Map<number, FourDraws>() };
  return ({ layer, side, experts, step, pass, group, token }) => {
    let own = all[side].get(layer);
    if (!own) {
      own = new FourDraws(stream.fold("route").fold(layer).fold(side));
      all[side].set(layer, own);
    }
    return Math.floor((own.word(group, token, pass, step) / 2 ** 32) * experts);
  };
}

/** Words of a stream by (example, token, pass, step). One counter has those of four tokens: the last four are kept. */
class FourDraws {
  readonly #stream: Stream;
  #at: readonly number[] = [];
  #words: readonly number[] = [];

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  word(group: number, token: number, pass: number, step: number): number {
    const four = token >>> 2;
    const [g, f, p, s] = this.#at;
    if (g !== group || f !== four || p !== pass || s !== step) {
      this.#at = [group, four, pass, step];
      this.#words = this.#stream.words(group, four, pass, step);
    }
    return this.#words[token & 3] as number; // a counter has four
  }
}

/** Always the same expert. */
export function fixedRouter(index: number): Router {
  return ({ experts }) => Math.min(index, experts - 1);
}

/** Routes written down: `routes[pass][layer] = [down, up]`, for each group alike. */
export function givenRouter(routes: readonly (readonly (readonly [down: number, up: number])[])[]): Router {
  return ({ layer, side, pass }) => {
    const pair = routes[pass]?.[layer];
    if (!pair) throw new ShapeError(`router: no route given for pass ${pass}, layer ${layer}`);
    return pair[side === "down" ? 0 : 1];
  };
}

/**
 * Routes as a log has them: `routesOf(step)[layer][down, up][pass · groups + group]`, as RouteTable.last() gave them.
 * `layers`: the numbers of the model's layers, in their order. Routes per token are drawn again from the seed.
 */
export function recordedRouter(
  routesOf: (step: number) => readonly (readonly (readonly number[])[])[],
  { layers, passes }: { readonly layers: readonly number[]; readonly passes: number },
): Router {
  return ({ layer, side, step, pass, group }) => {
    const drawn = routesOf(step)[layers.indexOf(layer)]?.[side === "down" ? 0 : 1];
    const expert = drawn?.[pass * (drawn.length / passes) + group];
    if (expert === undefined)
      throw new ShapeError(
        `router: no route is recorded for step ${step}, layer ${layer}, ${side}, pass ${pass}, group ${group}`,
      );
    return expert;
  };
}

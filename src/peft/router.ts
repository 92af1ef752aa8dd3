import type { Gpu } from "../array/index.ts";
import { keep, type Stream, Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";

export type Side = "down" | "up";

/** One choice to be made: which of `experts` serves a group of rows. */
export interface RouteRequest {
  readonly layer: number;
  readonly side: Side;
  readonly experts: number;
  readonly step: number;
  readonly pass: number;
  /** 0 for a whole batch; else the number of the example (or token) in its pass. */
  readonly group: number;
}

/** Chooses experts. A router of one's own is a function of a request. */
export type Router = (request: RouteRequest) => number;

/**
 * Every expert with the same probability, down and up drawn independently, one draw for each layer and pass.
 * No parameters and no balancing loss. A function of its request: any step can be drawn again.
 * Paper: section 3.1.
 */
export function uniformRouter(stream: Stream): Router {
  const streams = new Map<string, Stream>();
  return ({ layer, side, experts, step, pass, group }) => {
    const key = `${layer}.${side}`;
    let own = streams.get(key);
    if (!own) {
      own = stream.fold("route").fold(layer).fold(side);
      streams.set(key, own);
    }
    return own.integer(experts, group, 0, pass, step);
  };
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

/** Elements that the place of one route is a multiple of, so that it can be bound. */
const PLACE = 64;

/**
 * The routes of all layers and both sides on the GPU: an input slot, written once a step.
 * Each route is i32 [groups]; a batch of several passes has the groups of each pass behind one another.
 */
export class RouteTable {
  readonly #gpu: Gpu;
  readonly #experts: Readonly<Record<Side, number>>;
  readonly #layers: readonly number[];
  readonly #tables = new Map<number, { slot: Tensor; routes: Map<string, Tensor> }>();
  #groups = 0;
  #last: Int32Array<ArrayBuffer> = new Int32Array(0);

  constructor(gpu: Gpu, layers: readonly number[], experts: Readonly<Record<Side, number>>) {
    this.#gpu = gpu;
    this.#layers = [...new Set(layers)].sort((a, b) => a - b);
    this.#experts = experts;
  }

  /** Asks the router for every route of a step and writes them in one upload. `groups`: of each pass. */
  draw(
    router: Router,
    {
      step,
      passes,
      firstPass = 0,
      groups = 1,
    }: { step: number; passes: number; firstPass?: number; groups?: number },
  ): void {
    const total = passes * groups;
    if (!Number.isInteger(total) || total < 1) {
      throw new ShapeError(`router: ${passes} passes of ${groups} groups, expected 1 or more of each`);
    }
    const stride = Math.ceil(total / PLACE) * PLACE;
    const words = new Int32Array(this.#layers.length * 2 * stride);
    let at = 0;
    for (const layer of this.#layers) {
      for (const side of ["down", "up"] as const) {
        const experts = this.#experts[side];
        for (let i = 0; i < total; i++) {
          const request = {
            layer,
            side,
            experts,
            step,
            pass: firstPass + Math.floor(i / groups),
            group: i % groups,
          };
          words[at + i] = experts === 1 ? 0 : checked(router(request), request);
        }
        at += stride;
      }
    }
    this.#groups = total;
    this.#last = words;
    this.#table().slot.write(words);
  }

  /** The route of one side of a layer, as last drawn. */
  of(layer: number, side: Side): Tensor {
    const route = this.#groups > 0 ? this.#table().routes.get(`${layer}.${side}`) : undefined;
    if (!route) throw new ShapeError(`router: no routes for layer ${layer}; draw() comes first`);
    return route;
  }

  /** What was drawn last, for the log: [layer][down, up][group]. */
  last(): number[][][] {
    const stride = Math.ceil(this.#groups / PLACE) * PLACE;
    return this.#layers.map((_, i) =>
      [0, 1].map((side) => [
        ...this.#last.subarray((2 * i + side) * stride, (2 * i + side) * stride + this.#groups),
      ]),
    );
  }

  dispose(): void {
    for (const { slot, routes } of this.#tables.values())
      for (const tensor of [slot, ...routes.values()]) tensor.dispose();
    this.#tables.clear();
  }

  /** One table for each number of groups, made on first use. */
  #table(): { slot: Tensor; routes: Map<string, Tensor> } {
    let table = this.#tables.get(this.#groups);
    if (!table) {
      const stride = Math.ceil(this.#groups / PLACE) * PLACE;
      const array = this.#gpu.empty([this.#layers.length * 2 * stride], "i32");
      const routes = new Map<string, Tensor>();
      this.#layers.forEach((layer, i) => {
        (["down", "up"] as const).forEach((side, j) => {
          const view = array.view([this.#groups], (2 * i + j) * stride);
          routes.set(`${layer}.${side}`, keep(new Tensor(this.#gpu, view)));
        });
      });
      table = { slot: keep(new Tensor(this.#gpu, array)), routes };
      this.#tables.set(this.#groups, table);
    }
    return table;
  }
}

function checked(expert: number, { layer, side, experts }: RouteRequest): number {
  if (Number.isInteger(expert) && expert >= 0 && expert < experts) return expert;
  throw new ShapeError(
    `router: expert ${expert} for layer ${layer}, ${side}; there are ${experts} (0..${experts - 1})`,
  );
}

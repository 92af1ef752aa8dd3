import type { Gpu } from "../array/index.ts";
import { keep, Tensor } from "../autograd/index.ts";
import type { Side } from "./router.ts";
import type { Path, Routing } from "./routing.ts";

/**
 * The mean of the outputs of all modules of a layer: of each pair of a down- and an up-projection that a route may
 * draw. It is what a layer's output is on average over routes. Paper: section 3.5.
 */
export class ModuleMean implements Routing {
  readonly #paths: readonly Path[];
  readonly #routes: readonly Tensor[];

  constructor(gpu: Gpu, { down, up }: Readonly<Record<Side, number>>) {
    const routes = Array.from({ length: Math.max(down, up) }, (_, m) =>
      keep(new Tensor(gpu, gpu.from(Int32Array.of(m)))),
    );
    const weight = 1 / (down * up);
    this.#routes = routes;
    this.#paths = routes
      .slice(0, down)
      .flatMap((j) => routes.slice(0, up).map((k) => ({ down: j, up: k, weight })));
  }

  paths(): readonly Path[] {
    return this.#paths;
  }

  dispose(): void {
    for (const route of this.#routes) route.dispose();
  }
}

import { Presets, SingleBar } from "cli-progress";
import { duration, print } from "./report.ts";

export interface Progress {
  /** Shows that `step` is done. `text`: what is worth saying about it, made only when it is shown. */
  update(step: number, remainingMs: number, text: () => string): void;
  /** Prints a line of its own. */
  note(line: string): void;
  /** Takes the bar away. */
  stop(): void;
}

/** A bar on a terminal; elsewhere one plain line in every `every` steps (default: about 20 lines in all). */
export function createProgress(steps: number, every = niceInterval(steps)): Progress {
  return process.stdout.isTTY && process.stderr.isTTY ? bar(steps) : lines(steps, every);
}

function lines(steps: number, every: number): Progress {
  const width = String(steps).length;
  return {
    update(step, remainingMs, text) {
      if (step !== 1 && step !== steps && step % every !== 0) return;
      print(`step ${String(step).padStart(width)}/${steps}  ${text()}  ${duration(remainingMs)} left`);
    },
    note: print,
    stop() {},
  };
}

function bar(steps: number): Progress {
  const format = "{bar} {value}/{total}  {text}";
  const own = new SingleBar({ format, clearOnComplete: true, barsize: 24, fps: 5 }, Presets.shades_classic);
  let last = { step: 0, text: "" };
  let shownAt = 0;
  const interrupted = () => {
    own.stop(); // gives the terminal its line wrap back
    process.exit(130);
  };
  process.once("SIGINT", interrupted);
  own.start(steps, 0, last);
  return {
    update(step, remainingMs, text) {
      const now = performance.now();
      if (step !== steps && now - shownAt < 200) return;
      shownAt = now;
      last = { step, text: `${text()}  ${duration(remainingMs)} left` };
      own.update(step, last);
    },
    note(line) {
      own.stop(); // clears the bar's line
      print(line);
      own.start(steps, last.step, last);
    },
    stop() {
      process.removeListener("SIGINT", interrupted);
      own.stop();
    },
  };
}

/** 1, 2 or 5 times a power of ten, so that about twenty lines are printed. */
function niceInterval(steps: number): number {
  const wanted = Math.max(1, steps / 20);
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 2, 5, 10].map((factor) => factor * power).find((n) => n >= wanted) ?? 1;
}

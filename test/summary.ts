/** What tests count of themselves, for the last lines of a run (test/run.ts). */
export const summary = {
  /** Rows of the op table and of the composed functions. */
  rows: 0,
  /** Pairs of a row and a shape class. */
  classes: 0,
  /** Cases of those pairs compared with float64, for each variant of kernels. */
  compared: 0,
  /** Random graphs compared. */
  graphs: 0,
};

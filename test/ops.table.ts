// One row for each op: its float64 reference, cases, bounds, and what it refuses. Run by ops.test.ts, which fails
// if an exported op has no row.

import { attention } from "./ops-table/attention.ts";
import { choices } from "./ops-table/choices.ts";
import { drawing } from "./ops-table/drawing.ts";
import { elementaryRows } from "./ops-table/elementary.ts";
import { indexing } from "./ops-table/indexing.ts";
import { layout } from "./ops-table/layout.ts";
import { losses } from "./ops-table/losses.ts";
import { matrix } from "./ops-table/matrix.ts";
import { norms } from "./ops-table/norms.ts";
import { pointwise } from "./ops-table/pointwise.ts";
import { reductions } from "./ops-table/reductions.ts";
import type { Row } from "./ops-table/row.ts";
import { rowWise } from "./ops-table/row-wise.ts";
import { views } from "./ops-table/views.ts";

export const table: readonly Row[] = [
  ...pointwise,
  ...elementaryRows,
  ...choices,
  ...reductions,
  ...views,
  ...matrix,
  ...rowWise,
  ...drawing,
  ...indexing,
  ...layout,
  ...losses,
  ...norms,
  attention,
];

// Lines of equal height on a grid (marching squares), and the heights that hold given shares of a density.

/** Segments x0, y0, x1, y1 in grid units (column, row) where the grid crosses `level`. */
export function contour(grid: ArrayLike<number>, columns: number, rows: number, level: number): number[] {
  const out: number[] = [];
  for (let j = 0; j < rows - 1; j++)
    for (let i = 0; i < columns - 1; i++) {
      const corners = [
        grid[j * columns + i],
        grid[j * columns + i + 1],
        grid[(j + 1) * columns + i + 1],
        grid[(j + 1) * columns + i],
      ];
      const cuts: number[] = [];
      for (let k = 0; k < 4; k++) {
        const from = corners[k],
          to = corners[(k + 1) % 4];
        if (from >= level === to >= level) continue;
        const p = (level - from) / (to - from);
        cuts.push(i + [p, 1, 1 - p, 0][k], j + [0, p, 1, 1 - p][k]);
      }
      for (let k = 0; k + 3 < cuts.length; k += 4) out.push(cuts[k], cuts[k + 1], cuts[k + 2], cuts[k + 3]);
    }
  return out;
}

/** The level above which a density on a grid holds `share` of its mass. */
export function levelOf(grid: ArrayLike<number>, share: number): number {
  const sorted = Array.from(grid).sort((a, b) => b - a),
    whole = sorted.reduce((all, one) => all + one, 0);
  let sum = 0;
  for (const value of sorted) {
    sum += value;
    if (sum >= share * whole) return value;
  }
  return 0;
}

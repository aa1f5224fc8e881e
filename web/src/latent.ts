// One panel: a model's codes, the plane and window shown, the cursor and what is decoded there.
import { signal } from "@preact/signals";
import {
  around,
  gapScore,
  logKernel,
  logStandardNormal,
  nearest,
  standing,
  usualDistance,
  whitenAll,
  whitened,
} from "./gap";
import type { Standing } from "./gap";
import { LatestWins } from "./latest";
import type { Decode } from "./decode";
import type { Code, Codes } from "./path";
import { axesPlane, reach, toPlane } from "./planes";
import type { Plane, View } from "./planes";
import type { Scene, ScenePanel, Source } from "./scene";

export interface Reading {
  z: Float32Array;
  logPrior: number | null;
  approximate: boolean;
  gap: number | null;
  sigma: number;
  standing: Standing;
  labels: number[];
  item: number;
}

/** A walk drawn on a panel: its corners, the items they stand on (-1 where free), and what was decoded along it. */
export interface Walk {
  corners: { z: Float32Array; item: number }[];
  codes: Code[];
  outputs: Float32Array | null;
}

/** One movement of the cursor, until every panel it moved has painted: when the page heard of it, when it happened. */
export interface Move {
  heard: number;
  stamp: number;
  left: number;
}

const STALE_MS = 60;

export class Latent {
  readonly d: number;
  readonly codes: Float32Array;
  readonly rank: number;
  readonly usual: number;
  readonly planes: Plane[];
  readonly plane;
  readonly view;
  readonly z = signal<Float32Array | null>(null);
  readonly reading = signal<Reading | null>(null);
  readonly stale = signal(false);
  readonly decoder = signal<Decode | null>(null);
  readonly failure = signal("");
  readonly walk = signal<Walk | null>(null);
  readonly moving = signal(false);
  readonly shown = signal(0);
  readonly colorRange = signal<[number, number] | null>(null);
  /** Whether all codes fall on one point of the map, as those of a collapsed model do. */
  readonly gathered = signal(false);
  /** Codes outside the first window. */
  readonly beyond = signal(0);
  private readonly homes = new WeakMap<Plane, number>();
  values: Float32Array | null = null;
  /** Draw newly decoded values at once, without waiting for the page. */
  readonly painters = new Set<(values: Float32Array) => void>();
  private readonly latest: LatestWins<{ z: Float32Array; move: Move | null }, Float32Array>;
  private lateTimer = 0;

  constructor(
    readonly scene: Scene,
    readonly panel: ScenePanel,
    readonly index: number,
    readonly loc: Float32Array,
    readonly scale: Float32Array | null,
    readonly error: Float32Array | null,
    readonly kl: Float32Array | null,
    readonly draws: Float32Array | null,
    readonly gaps: (Float32Array | null)[],
    private readonly labels: Int16Array | null,
    painted: (move: Move) => void,
  ) {
    this.d = panel.latent;
    const white = whitenAll(panel.law, loc, this.d);
    this.codes = white.codes;
    this.rank = white.rank;
    this.usual = usualDistance(this.codes, this.rank);
    this.planes = panel.planes.map((_, k) => this.scenePlane(k));
    if (!this.planes.length)
      this.planes.push(axesPlane(new Float64Array(this.d), panel.order[0] ?? 0, panel.order[1] ?? this.d, 3.4));
    this.plane = signal<Plane>(this.planes[0]);
    this.view = signal<View>(this.home(this.planes[0]));
    this.latest = new LatestWins(
      ({ z }) => (this.decoder.value as Decode).run(Float32Array.from(z), 1, true),
      (values, { move }, stale) => this.decoded(values, move, stale, painted),
      (error) => {
        this.failure.value = String(error);
        this.settled();
      },
    );
  }

  static async open(
    scene: Scene,
    panel: ScenePanel,
    index: number,
    source: Source,
    labels: Int16Array | null,
    painted: (move: Move) => void,
  ) {
    const floats = async (name: string | null | undefined) =>
      name ? new Float32Array(await source.bytes(name)) : null;
    const [loc, scale, error, kl] = await Promise.all([panel.loc, panel.scale, panel.error, panel.kl].map(floats));
    const draws = panel.prior.kind === "samples" ? await floats(panel.prior.draws) : null;
    const gaps = await Promise.all(panel.planes.map((plane) => floats(plane.gap)));
    return new Latent(scene, panel, index, loc as Float32Array, scale, error, kl, draws, gaps, labels, painted);
  }

  /** Told once the first frame is painted. */
  ready: () => void = () => undefined;

  /** Changes with the plane: a name for what was drawn of it. */
  planeVersion(): string {
    const { origin, u, v } = this.plane.value;
    return [...origin, ...u, ...v].map((one) => one.toFixed(4)).join(" ");
  }

  get count(): number {
    return this.loc.length / this.d;
  }

  /** The loc of an item. */
  at(item: number): Float32Array {
    return this.loc.subarray(item * this.d, (item + 1) * this.d);
  }

  scenePlane(k: number): Plane {
    const { name, origin, u, v, half } = this.panel.planes[k];
    const axis = (x: number[]) => (x.filter((one) => one !== 0).length === 1 ? x.findIndex((one) => one === 1) : -1);
    const axes: [number, number] | null = axis(u) >= 0 && axis(v) >= 0 ? [axis(u), axis(v)] : null;
    return {
      kind: "scene",
      name,
      half,
      axes,
      scene: k,
      origin: Float64Array.from(origin),
      u: Float64Array.from(u),
      v: Float64Array.from(v),
    };
  }

  /** The window that shows a whole plane: its gap map, all of its codes, and the third ring. */
  home(plane: Plane): View {
    const half = this.homes.get(plane) ?? Math.max(plane.half, reach(this.loc, this.d, plane));
    this.homes.set(plane, half);
    return { cx: 0, cy: 0, half };
  }

  atHome(): boolean {
    const { cx, cy, half } = this.view.value;
    return cx === 0 && cy === 0 && half === this.home(this.plane.value).half;
  }

  show(plane: Plane, keepView = false): void {
    const half = this.homes.get(this.plane.value);
    if (keepView && half) this.homes.set(plane, half); // a slider is moved many times a second
    this.plane.value = plane;
    if (!keepView) this.view.value = this.home(plane);
  }

  /** The gap map of what is shown; null where the audit did not score this plane. */
  gapGrid(): { grid: Float32Array; side: number; half: number } | null {
    const plane = this.plane.value;
    if (plane.scene === null) return null;
    const grid = this.gaps[plane.scene],
      side = this.panel.planes[plane.scene].grid ?? 0;
    return grid && side > 1 ? { grid, side, half: plane.half } : null;
  }

  /** Move the cursor; the newest place wins. */
  go(z: Float32Array, move: Move | null = null): void {
    this.z.value = z;
    if (!this.decoder.value) return;
    if (!this.lateTimer) this.lateTimer = window.setTimeout(() => (this.stale.value = true), STALE_MS);
    this.latest.ask({ z, move });
  }

  private decoded(values: Float32Array, move: Move | null, stale: boolean, painted: (move: Move) => void): void {
    this.values = values;
    this.failure.value = "";
    this.painters.forEach((paint) => paint(values));
    if (!stale) this.settled();
    if (move && --move.left === 0) painted(move);
  }

  private settled(): void {
    clearTimeout(this.lateTimer);
    this.lateTimer = 0;
    this.stale.value = false;
  }

  near(z: ArrayLike<number>, k: number, skip = -1) {
    if (!this.rank)
      return {
        items: Array.from({ length: Math.min(k, this.count) }, (_, i) => i),
        distances: new Array<number>(k).fill(0),
      };
    return nearest(this.codes, this.rank, whitened(this.panel.law, z), k, skip);
  }

  /** Everything known of a place. */
  read(z: Float32Array): Reading {
    const near = this.near(z, Math.min(24, this.count)),
      gap = this.gapAt(z),
      sigma = near.distances[0] ?? 0;
    return {
      z,
      gap,
      sigma,
      item: near.items[0] ?? -1,
      logPrior: this.logPrior(z),
      approximate: this.draws !== null,
      standing: standing(gap, sigma, this.usual),
      labels: around(this.labels, near.items),
    };
  }

  logPrior(z: ArrayLike<number>): number {
    return this.draws ? logKernel(this.draws, this.d, z) : logStandardNormal(z);
  }

  /** The audit's score of a place: known on the planes it scored, and only there. */
  gapAt(z: ArrayLike<number>): number | null {
    const found = this.gapGrid();
    if (!found) return null;
    const plane = this.plane.value,
      [a, b] = toPlane(plane, z);
    let off = 0;
    for (let k = 0; k < this.d; k++) off += (z[k] - plane.origin[k] - a * plane.u[k] - b * plane.v[k]) ** 2;
    return off < 1e-6 ? gapScore(found.grid, found.side, found.half, a, b) : null;
  }

  /** The codes as a path follows them: steps in sigma are turned back by the rows of the whitening. */
  pathCodes(): Codes {
    const { law } = this.panel,
      back = law ? pseudoInverse(law.whiten) : null;
    return {
      values: this.codes,
      rank: this.rank,
      whiten: (z) => whitened(law, z),
      shift: (z, step) =>
        z.map((one, k) => one + (back ? back[k].reduce((all, part, r) => all + part * step[r], 0) : step[k])),
    };
  }
}

/** W^T (W W^T)^-1 by Gauss-Jordan; the rows of a whitening are independent. */
export function pseudoInverse(rows: number[][]): number[][] {
  const r = rows.length,
    d = rows[0]?.length ?? 0;
  const work = rows.map((one, i) => [
    ...rows.map((other) => one.reduce((all, x, k) => all + x * other[k], 0)),
    ...rows.map((_, j) => +(i === j)),
  ]);
  for (let i = 0; i < r; i++) {
    let pivot = i;
    for (let j = i + 1; j < r; j++) if (Math.abs(work[j][i]) > Math.abs(work[pivot][i])) pivot = j;
    [work[i], work[pivot]] = [work[pivot], work[i]];
    const head = work[i][i] || 1e-12;
    work[i] = work[i].map((x) => x / head);
    for (let j = 0; j < r; j++)
      if (j !== i) {
        const part = work[j][i];
        work[j] = work[j].map((x, k) => x - part * work[i][k]);
      }
  }
  return Array.from({ length: d }, (_, k) =>
    Array.from({ length: r }, (_, j) => rows.reduce((all, row, i) => all + row[k] * work[i][r + j], 0)),
  );
}

// What is measured along a walk: change per step, gap score, distance to the data, prior density.
import { standing } from "./gap";
import type { Latent } from "./latent";
import { changes } from "./path";
import { sizeOf } from "./scene";

export interface Along {
  change: Float64Array;
  gap: (number | null)[];
  sigma: number[];
  prior: number[];
  outside: boolean[];
}

const known = new WeakMap<object, Along>();

/** Kept with the walk: a frame of the map asks again and again. */
export function along(latent: Latent): Along | null {
  const walk = latent.walk.value;
  if (!walk) return null;
  const found = known.get(walk);
  if (found) return found;
  const sigma = walk.codes.map((z) => latent.near(z, 1).distances[0] ?? 0),
    gap = walk.codes.map((z) => latent.gapAt(z));
  const made: Along = {
    sigma,
    gap,
    prior: walk.codes.map((z) => latent.logPrior(z)),
    outside: sigma.map((one, i) => standing(gap[i], one, latent.usual) === "gap"),
    change: walk.outputs ? changes(walk.outputs, sizeOf(latent.scene.event_shape)) : new Float64Array(0),
  };
  known.set(walk, made);
  return made;
}

export const leaves = (latent: Latent): boolean[] => along(latent)?.outside ?? [];

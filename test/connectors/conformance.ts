/** What every connector that keeps tables must do, against its real target. By subject in the folder `conformance`. */
import { batches } from './conformance/batches.ts';
import { random } from './conformance/random.ts';
import { rows } from './conformance/rows.ts';
import { ConformanceScene } from './conformance/scene.ts';
import { schema } from './conformance/schema.ts';
import type { ConformanceTarget, TargetTraits } from './conformance/target.ts';
import { values } from './conformance/values.ts';

export const conformance = (open: () => Promise<ConformanceTarget>, traits: TargetTraits): void => {
  const scene = new ConformanceScene(open, traits);
  for (const suite of [values, rows, schema, batches, random]) suite(scene);
  scene.close();
};
